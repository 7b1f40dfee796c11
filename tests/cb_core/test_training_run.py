"""Training runs as a whole: what they leave behind, whatever ends them."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from tiny_training import ARCHITECTURE, run_config, write_dataset
from torch import nn

from cb_core.backend import open_artifact
from cb_core.checkpoint import load_checkpoint
from cb_core.data import get_dataset_db
from cb_core.registry import create_model, register_model
from cb_core.tracking import Experiment
from cb_core.training import Hyperparameters, RunConfig, train
from cb_core.training.loop import Trainer
from cb_runtime.backends import OpenOptions
from cb_runtime.contract import LABELS
from cb_runtime.errors import InputError, ModelError, UsageError
from cb_runtime.golden import golden_path, load_golden_samples


@pytest.fixture(scope="module")
def whole_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny.db")


@pytest.fixture
def dataset(whole_dataset, tmp_path):
    return shutil.copy(whole_dataset, tmp_path / "tiny.db")


def experiment(dataset) -> Experiment:
    with next(get_dataset_db(dataset)) as db:
        return db.query(Experiment).order_by(Experiment.id.desc()).first()


def first_loss(dataset, **changes) -> float:
    changes["hyperparameters"] = {"epochs": 1, **changes.get("hyperparameters", {})}
    shutil.rmtree(dataset.parent / "run", ignore_errors=True)
    train(run_config(dataset, **changes))
    return experiment(dataset).history[0]["train_loss"]


@pytest.fixture(scope="module")
def usual_loss(whole_dataset, tmp_path_factory):
    return first_loss(shutil.copy(whole_dataset, tmp_path_factory.mktemp("usual") / "tiny.db"))


def test_a_run_learns_and_leaves_checkpoints_golden_samples_and_its_row(dataset):
    reports = []
    result = train(run_config(dataset, hyperparameters={"epochs": 5}), on_epoch=reports.append)
    row, best = experiment(dataset), load_checkpoint(result.best_checkpoint)
    assert (row.status, row.epochs_done, row.best_epoch) == ("finished", 5, result.best_epoch)
    assert row.best_val_f1 == result.best_val_f1 == best.metrics["val_f1"]
    assert row.history[-1]["val_loss"] < row.history[0]["val_loss"]
    assert row.best_val_accuracy == result.best_val_accuracy
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5]
    assert row.best_checkpoint == str(result.best_checkpoint.resolve())
    assert best.training_state is None
    assert load_checkpoint(result.last_checkpoint).epoch == 5
    assert row.finished_at >= row.started_at
    assert row.message == "All 5 epochs are done."


def test_the_progress_line_tells_loss_f1_rate_waiting_and_time_left(dataset):
    lines = []
    train(run_config(dataset, hyperparameters={"epochs": 1}), on_epoch=lambda report: lines.append(str(report)))
    for part in ("epoch 1/1", "loss 1.", "F1 0.", "(best)", "samples/s", "% waiting for data  0:0", ", 0:00 left"):
        assert part in lines[0]


def test_the_contract_says_what_the_model_was_trained_on(dataset):
    result = train(run_config(dataset, hyperparameters={"epochs": 1}))
    metadata = load_checkpoint(result.best_checkpoint).metadata
    assert metadata.architecture_name == ARCHITECTURE
    assert metadata.model_config == {"width": 16, "pretrained": False}
    assert metadata.dataset_name == "tiny"
    assert metadata.dataset_digest == experiment(dataset).dataset_digest
    assert metadata.validation_metrics["val_f1"] == result.best_val_f1
    assert metadata.use_font_embedding is False


def test_golden_samples_are_real_pairs_of_every_class_with_the_best_models_logits(dataset):
    best = train(run_config(dataset)).best_checkpoint
    golden = load_golden_samples(golden_path(best))
    assert set(golden.labels.tolist()) == set(range(len(LABELS)))
    assert len(golden) == 30
    logits = open_artifact(best, OpenOptions("cpu")).run(golden.inputs)
    torch.testing.assert_close(torch.from_numpy(logits), torch.from_numpy(golden.logits), rtol=0, atol=1e-5)


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(dataset, usual_loss):
    assert first_loss(dataset) == usual_loss
    assert first_loss(dataset, hyperparameters={"seed": 1}) != usual_loss


def test_the_number_of_workers_changes_nothing_even_with_augmentation(dataset, usual_loss):
    augmented = {"augment": True}
    alone = first_loss(dataset, hyperparameters=augmented)
    assert first_loss(dataset, workers=2, hyperparameters=augmented) == alone
    assert alone != usual_loss


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4},
        {"accumulation": 2},
        {"learning_rate": 1e-4},
        {"head_learning_rate": 1e-4},
        {"weight_decay": 100.0},
        {"warmup_epochs": 0.0},
        {"balance": "sampler"},
        {"label_smoothing": 0.2},
        {"clip_norm": 0.01},
        {"precision": "bf16"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_hyperparameter_has_an_effect(dataset, usual_loss, change):
    assert first_loss(dataset, hyperparameters=change) != usual_loss


def test_class_weights_have_an_effect_where_classes_are_not_alike(tmp_path):
    dataset = write_dataset(tmp_path / "a.db", missing={"train": "same"})
    with next(get_dataset_db(dataset)) as db:
        from cb_core.data.schema import Pair

        db.query(Pair).filter(Pair.label == 1, Pair.id % 3 == 0).delete()
        db.commit()
    assert first_loss(dataset) != first_loss(dataset, hyperparameters={"balance": "none"})


def test_the_picture_variant_reaches_the_contract(dataset):
    result = train(run_config(dataset, ocr_viz_variant="3d_channels", hyperparameters={"epochs": 1}))
    assert load_checkpoint(result.best_checkpoint).metadata.ocr_viz_variant == "3d_channels"


def test_font_embeddings_that_the_dataset_lacks_are_refused(dataset):
    with pytest.raises(InputError, match="no font embeddings"):
        train(run_config(dataset, use_font_embedding=True))


def test_training_stops_when_f1_does_not_get_better(dataset):
    frozen = {"epochs": 9, "patience": 2, "learning_rate": 1e-12, "head_learning_rate": 1e-12}
    result = train(run_config(dataset, hyperparameters=frozen))
    assert (result.epochs_done, result.best_epoch) in {(3, 1), (3, 3), (3, 2)}
    assert result.message == "Macro F1 did not get better for 2 epochs."


def test_training_stops_before_the_time_is_over(dataset):
    result = train(run_config(dataset, hyperparameters={"epochs": 50, "max_minutes": 1e-6}))
    assert result.epochs_done == 1
    assert "would not fit into 1e-06 minutes" in result.message


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_missing_in_a_split_is_named_and_training_goes_on(tmp_path, split):
    dataset, warnings = write_dataset(tmp_path / "a.db", missing={split: "different"}), []
    result = train(run_config(dataset, hyperparameters={"epochs": 1}), warn=warnings.append)
    assert result.status == "finished"
    assert [text for text in warnings if f"The {split} split has no pairs of class different" in text]


def test_a_loss_that_is_no_number_stops_the_run_and_says_so(dataset, monkeypatch):
    monkeypatch.setenv("TINY_DIVERGES", "1")
    with pytest.raises(ModelError, match=r"no longer a number \(epoch 1, step 1\).*--learning-rate"):
        train(run_config(dataset))
    row = experiment(dataset)
    assert row.status == "failed"
    assert "no longer a number" in row.message


def test_the_row_stands_before_the_first_step_and_says_when_the_run_is_interrupted(dataset, monkeypatch):
    seen = []

    def interrupted(*_):
        seen.append(experiment(dataset).status)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(run_config(dataset))
    assert seen == ["running"]
    row = experiment(dataset)
    assert (row.status, row.message) == ("interrupted", "Interrupted in epoch 1. Continue with --resume.")
    assert row.finished_at is not None


def test_pretrained_weights_are_used_and_their_absence_ends_the_run_with_its_reason(dataset, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.manual_seed(9)
    torch.save(create_model(ARCHITECTURE).state_dict(), weights)
    from_file = first_loss(dataset, model_config={"pretrained": str(weights)})
    assert experiment(dataset).model_config == {"width": 16, "pretrained": str(weights)}
    assert from_file != first_loss(dataset, model_config={"pretrained": False})
    with pytest.raises(OSError, match="asked for weights"):
        first_loss(dataset, model_config={"pretrained": True})
    assert experiment(dataset).status == "failed"


def test_an_architecture_must_be_named(dataset):
    with pytest.raises(UsageError, match="--architecture"):
        train(run_config(dataset, architecture_name=None))


def test_an_unknown_architecture_is_answered_with_the_known_ones(dataset):
    with pytest.raises(ModelError, match=r"Unknown architecture 'nonsense'\. Known: .*tiny_for_tests"):
        train(run_config(dataset, architecture_name="nonsense"))


class Headless(nn.Module):
    def __init__(self):
        super().__init__()
        self.everything = nn.Linear(6, 5)

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        return self.everything(spatial_features)

    def get_num_trainable_params(self):
        return 35

    get_num_total_params = get_num_trainable_params


@register_model("headless_for_tests")
def headless(note: object = object) -> Headless:  # an option that is no JSON
    """No module is called a head."""
    return Headless()


def test_an_architecture_without_a_head_is_told_that_its_learning_rate_has_no_effect(dataset):
    warnings = []
    config = run_config(dataset, architecture_name="headless_for_tests", hyperparameters={"epochs": 1})
    train(config, warn=warnings.append)
    assert any("--head-learning-rate has no effect" in text for text in warnings)
    assert experiment(dataset).model_config == {}


@register_model("suited_for_tests", {"learning_rate": 1e-5, "warmup_epochs": 2.0})
def suited() -> nn.Module:
    """Trains well at a rate of its own."""
    return create_model(ARCHITECTURE)


def test_an_architecture_is_trained_as_suits_it_unless_the_user_says_otherwise(dataset):
    config = RunConfig(str(dataset), "a", "suited_for_tests", output=dataset.parent / "run", device="cpu", workers=0)
    train(dataclasses.replace(config, hyperparameters={"epochs": 1, "warmup_epochs": 0.0}))
    stored = experiment(dataset).hyperparameters
    assert (stored["learning_rate"], stored["warmup_epochs"]) == (1e-5, 0.0)
    assert stored["head_learning_rate"] == Hyperparameters().head_learning_rate


def test_a_row_that_cannot_be_updated_does_not_stop_the_run(dataset):
    warnings = []

    def lose_the_row(_):
        with next(get_dataset_db(dataset)) as db:
            db.query(Experiment).delete()
            db.commit()

    result = train(run_config(dataset), on_epoch=lose_the_row, warn=warnings.append)
    assert result.epochs_done == 2
    assert any("could not be updated" in text and "no longer there" in text for text in warnings)


def test_a_run_from_another_thread_works_too(dataset):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, run_config(dataset, hyperparameters={"epochs": 1})).result().epochs_done == 1


def test_a_result_is_plain_json(dataset):
    result = train(run_config(dataset, hyperparameters={"epochs": 1}))
    assert result.to_dict() == {
        **dataclasses.asdict(result),
        "best_checkpoint": str(result.best_checkpoint),
        "last_checkpoint": str(result.last_checkpoint),
    }
