"""Optimizer, schedules, class balance, sampling, metrics and golden samples."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_training import ARCHITECTURE
from torch import nn

from cb_core.architectures.late_fusion import LateFusion
from cb_core.deployment import DeploymentModel
from cb_core.registry import create_model
from cb_core.training import accelerator as accelerator_module
from cb_core.training import data
from cb_core.training.accelerator import make_accelerator, resolve_precision
from cb_core.training.config import Hyperparameters
from cb_core.training.golden import golden_indices, make_golden_samples
from cb_core.training.metrics import ValidationMeter
from cb_core.training.optimization import (
    class_weights,
    head_parameter_names,
    learning_rates,
    make_loss,
    make_optimizer,
    make_schedule,
)
from cb_core.training.sampling import EpochSampler, SeededPairs
from cb_runtime.contract import LABELS, Preprocessing
from cb_runtime.errors import UsageError


def late_fusion():
    roles = {"ocr_viz": "a", "frame1": "a", "frame2": "a"}
    return LateFusion({"a": nn.Linear(4, 4)}, roles, nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)))


def test_the_head_of_late_fusion_is_its_classifier():
    assert head_parameter_names(late_fusion()) == {f"classifier.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")}


def test_the_head_of_other_architectures_is_found_by_name():
    assert all(name.startswith("fusion_mlp.") for name in head_parameter_names(create_model(ARCHITECTURE)))


def test_features_and_head_get_their_own_rates_and_every_trainable_parameter_is_in_one_group():
    model = late_fusion()
    model.encoders["a"].bias.requires_grad_(False)
    optimizer = make_optimizer(model, Hyperparameters(learning_rate=0.1, head_learning_rate=0.2))
    assert learning_rates(optimizer) == {"features": 0.1, "head": 0.2}
    members = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_only_matrices_decay():
    optimizer = make_optimizer(late_fusion(), Hyperparameters(weight_decay=0.3))
    assert {(p.ndim >= 2, g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]} == {
        (True, 0.3),
        (False, 0.0),
    }


def rates_over(settings: Hyperparameters, scores=(0.5,) * 8, steps=4):
    optimizer = make_optimizer(late_fusion(), settings)
    schedule = make_schedule(optimizer, settings, steps)
    rates = []
    for score in scores[: settings.epochs]:
        for _ in range(steps):
            rates.append(learning_rates(optimizer)["head"] / settings.head_learning_rate)
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(score)
    return rates, optimizer, schedule


def test_cosine_warms_up_and_goes_down_to_zero():
    rates, optimizer, _ = rates_over(Hyperparameters(epochs=4, warmup_epochs=1.0))
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(1.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert learning_rates(optimizer)["head"] == pytest.approx(0.0)


def test_constant_stays_after_warm_up():
    rates, _, _ = rates_over(Hyperparameters(epochs=3, schedule="constant", warmup_epochs=0.5))
    assert rates[2:] == [1.0] * 10


def test_plateau_divides_by_ten_when_f1_stalls():
    rates, _, _ = rates_over(Hyperparameters(epochs=5, schedule="plateau", warmup_epochs=0.0))
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(0.1)


def test_plateau_warms_up_as_the_others_do():
    rates, _, _ = rates_over(Hyperparameters(epochs=5, schedule="plateau", warmup_epochs=1.5))
    assert rates[:7] == pytest.approx([step / 7 for step in range(1, 8)])
    assert rates[6:16] == [1.0] * 10
    assert rates[16:] == pytest.approx([0.1] * 4)


def test_plateau_divides_the_peak_during_warm_up_too():
    rates, _, _ = rates_over(Hyperparameters(epochs=8, schedule="plateau", warmup_epochs=6.0))
    assert rates[:16] == pytest.approx([step / 25 for step in range(1, 17)])
    assert rates[16:24] == pytest.approx([step / 250 for step in range(17, 25)])
    assert rates[24:28] == pytest.approx([0.1] * 4)


def test_a_plateau_run_from_before_it_warmed_up_goes_on_at_its_rate():
    settings = Hyperparameters(epochs=8, schedule="plateau", warmup_epochs=4.0)
    optimizer = make_optimizer(late_fusion(), settings)
    schedule = make_schedule(optimizer, settings, 4)
    for group in optimizer.param_groups:
        group["lr"] = settings.head_learning_rate
    schedule.load_state_dict({"best": 0.5, "num_bad_epochs": 0, "last_epoch": 1})
    schedule.after_step()
    schedule.after_epoch(0.6)
    assert learning_rates(optimizer)["head"] == settings.head_learning_rate


@pytest.mark.parametrize("name", ["cosine", "plateau", "constant"])
@pytest.mark.parametrize("warmup_epochs", [0.5, 6.5])
def test_a_schedule_goes_on_where_its_state_says(name, warmup_epochs):
    settings = Hyperparameters(epochs=8, schedule=name, warmup_epochs=warmup_epochs)
    whole, _, _ = rates_over(settings)
    _, optimizer, schedule = rates_over(settings, scores=(0.5,) * 5)
    again = make_optimizer(late_fusion(), settings)
    resumed = make_schedule(again, settings, 4)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    assert learning_rates(again)["head"] / settings.head_learning_rate == pytest.approx(whole[20])
    again.step()
    resumed.after_step()
    assert learning_rates(again)["head"] / settings.head_learning_rate == pytest.approx(whole[21])


def test_class_weights_make_classes_count_alike():
    weights = class_weights([10, 20, 30, 40, 100])
    assert (weights * torch.tensor([10, 20, 30, 40, 100])).tolist() == pytest.approx([40.0] * 5)


def test_an_absent_class_leaves_the_other_weights_as_if_it_did_not_exist():
    assert class_weights([10, 0, 30, 0, 0]).tolist() == pytest.approx([2.0, 0, 2 / 3, 0, 0])


def test_class_balance_is_corrected_in_one_place_only():
    counts = [1, 2, 3, 4, 5]
    assert make_loss(Hyperparameters(balance="weights"), counts).weight is not None
    for balance in ("sampler", "none"):
        assert make_loss(Hyperparameters(balance=balance), counts).weight is None


def test_label_smoothing_changes_the_loss():
    logits, labels = torch.tensor([[4.0, 0, 0, 0, 0]]), torch.tensor([0])
    losses = [
        make_loss(Hyperparameters(balance="none", label_smoothing=s), [1] * 5)(logits, labels) for s in (0.0, 0.1)
    ]
    assert losses[1] > losses[0]


def epoch_sampler(labels, seed, *, balanced=False):
    pairs = SimpleNamespace(labels=np.asarray(labels))
    return EpochSampler(pairs, seed, balanced=balanced, share_frames=False)


def test_an_epoch_shows_every_pair_once_in_an_order_that_seed_and_epoch_decide():
    def order(seed, epoch):
        sampler = epoch_sampler([0] * 50, seed)
        sampler.start_epoch(epoch)
        return list(sampler)

    assert sorted(index for _, index in order(0, 1)) == list(range(50))
    assert {epoch for epoch, _ in order(0, 3)} == {3}
    assert order(0, 1) == order(0, 1)
    assert len({tuple(i for _, i in order(*key)) for key in ((0, 1), (0, 2), (1, 1))}) == 3


def test_balanced_sampling_draws_rare_classes_as_often_and_ignores_absent_ones():
    labels = [0] * 900 + [1] * 90 + [3] * 10
    sampler = epoch_sampler(labels, 0, balanced=True)
    drawn = np.bincount([labels[index] for _, index in sampler], minlength=5)
    assert drawn.sum() == len(sampler) == 1000
    assert drawn[[2, 4]].tolist() == [0, 0]
    assert drawn[[0, 1, 3]].min() > 280


class NoisyPairs:
    def __len__(self):
        return 10

    def batch(self, indices, *, share_frames):
        return {"value": torch.rand(len(indices)).tolist(), "index": indices, "share_frames": share_frames}


def test_augmentation_depends_on_seed_epoch_and_batch_and_not_on_what_was_drawn_before():
    pairs = SeededPairs(NoisyPairs(), 1, share_frames=True)
    first = pairs.__getitems__([(1, 4), (1, 5)])
    before = torch.get_rng_state()
    torch.rand(3)
    assert pairs.__getitems__([(1, 4), (1, 5)]) == first
    assert pairs.__getitems__([(2, 4), (2, 5)]) != first
    assert SeededPairs(NoisyPairs(), 2, share_frames=True).__getitems__([(1, 4), (1, 5)]) != first
    torch.set_rng_state(before)
    assert len(pairs) == 10


def test_preparing_a_batch_does_not_disturb_dropout():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    SeededPairs(NoisyPairs(), 1, share_frames=True).__getitems__([(1, 4)])
    assert torch.equal(torch.rand(2), expected)


def test_metrics_are_plain_and_count_what_was_confused():
    meter = ValidationMeter()
    labels = torch.tensor([0, 0, 1, 2, 3])
    meter.add(torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 2, 3]), 5) * 50.0, labels)
    metrics = meter.metrics()
    assert metrics.accuracy == pytest.approx(0.8)
    assert metrics.f1["same"] == pytest.approx(2 / 3)
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1 + 1) / 4)
    assert metrics.confusion[0] == [1, 1, 0, 0, 0]
    assert metrics.support == {"same": 2, "different": 1, "empty_empty": 1, "empty_valid": 1, "valid_empty": 0}
    assert metrics.loss == pytest.approx(10.0)
    assert {type(value) for value in metrics.f1.values()} == {float}


def test_golden_samples_take_every_class_and_as_many_as_asked():
    labels = [0] * 1000 + [1] * 3 + [2] * 100 + [4] * 100
    chosen = [labels[index] for index in golden_indices(labels, 256)]
    assert len(chosen) == len(set(golden_indices(labels, 256))) == 256
    assert np.bincount(chosen, minlength=5).tolist() == [85, 3, 84, 0, 84]


def test_golden_samples_of_a_small_split_are_the_whole_split():
    assert golden_indices([0, 1, 2, 0], 256) == [0, 1, 2, 3]


def test_golden_logits_are_those_of_the_deployed_model_in_float32_and_evaluation_mode():
    generator = np.random.default_rng(0)

    class Pairs:
        def __len__(self):
            return 20

        def __getitems__(self, indices):
            return [self.sample(index) for index in indices]

        def sample(self, index):
            pictures = {n: torch.from_numpy(strips[index]) for n in ("ocr_viz", "frame1", "frame2")}
            return {**pictures, "spatial_features": torch.zeros(6), "font_embedding": torch.zeros(512), "label": 0}

    strips = generator.integers(0, 255, (20, 48, 480, 3), np.uint8)
    model = create_model(ARCHITECTURE).train()
    golden = make_golden_samples(model, Preprocessing(), Pairs(), [index % 5 for index in range(20)])
    assert model.training
    assert golden.inputs["frame1"].dtype == np.uint8
    deployed = DeploymentModel(model, Preprocessing()).eval()
    with torch.inference_mode():
        expected = deployed(*(torch.from_numpy(value) for value in golden.inputs.values()))
    assert golden.labels.tolist() == [index % len(LABELS) for index in range(20)]
    np.testing.assert_allclose(golden.logits, expected.numpy(), atol=1e-6)


def test_precision_that_the_device_lacks_is_refused():
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        resolve_precision("fp16", on_cpu=True)


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(UsageError, match="bf16 is not supported"):
        resolve_precision("bf16", on_cpu=False)
    assert resolve_precision("auto", on_cpu=False) == "fp16"


@pytest.mark.parametrize(("has_it", "expected"), [(True, "bf16"), (False, "no")])
def test_auto_takes_bf16_only_where_the_cpu_has_it(monkeypatch, has_it, expected):
    monkeypatch.setattr(accelerator_module, "cpu_has_bf16", lambda: has_it)
    assert resolve_precision("auto", on_cpu=True) == expected
    assert resolve_precision("no", on_cpu=True) == "no"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="sees no GPU"):
        make_accelerator(Hyperparameters(), "cuda")


def test_two_runs_in_one_process_may_differ_in_precision():
    for precision in ("bf16", "no"):
        assert make_accelerator(Hyperparameters(precision=precision), "cpu").mixed_precision == precision


@pytest.mark.parametrize(("cores", "gpu", "cpu"), [(1, 1, 0), (2, 1, 0), (8, 7, 2), (64, 12, 12)])
def test_the_number_of_workers_follows_from_cores_and_device(monkeypatch, cores, gpu, cpu):
    monkeypatch.setattr(data, "usable_cores", lambda: cores)
    assert [data.default_workers(SimpleNamespace(type=kind)) for kind in ("cuda", "cpu")] == [gpu, cpu]


def test_the_training_package_offers_its_names_and_no_others():
    import cb_core.training

    assert all(callable(getattr(cb_core.training, name)) for name in cb_core.training.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = cb_core.training.nonsense
