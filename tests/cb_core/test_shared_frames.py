"""Batches in which each frame is there once: what they hold, how they are drawn, and that models answer the same."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from tiny_late_fusion import tiny_late_fusion_for_tests
from tiny_training import run_config, write_dataset
from torch.utils.data import default_collate

from cb_core.checkpoint import load_checkpoint
from cb_core.data import get_dataset_db
from cb_core.data.augmentation import AugmentOptions, PairAugmentation
from cb_core.data.batches import unique_frames
from cb_core.data.torch_dataset import PairDataset
from cb_core.deployment import DeploymentModel
from cb_core.registry import create_model
from cb_core.tracking import Experiment
from cb_core.training import train
from cb_core.training.clips import clip_order
from cb_core.training.model import BATCH_INPUTS, TrainingModel, rows
from cb_core.training.sampling import EpochSampler
from cb_runtime.contract import INPUT_NAMES, Preprocessing

LATE_FUSION = "tiny_late_fusion_for_tests"


@pytest.fixture(scope="module")
def whole_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny.db", orders=2)


@pytest.fixture
def dataset(whole_dataset, tmp_path):
    return shutil.copy(whole_dataset, tmp_path / "tiny.db")


@pytest.fixture(scope="module")
def pairs(whole_dataset):
    return PairDataset(whole_dataset, "train")


def separate(batch, index):
    """Return one pair of a batch as the three pictures it is made of."""
    return {
        "ocr_viz": batch["pictures"][batch["picture_index"][index]],
        "frame1": batch["frames"][batch["frame1_index"][index]],
        "frame2": batch["frames"][batch["frame2_index"][index]],
    }


@pytest.mark.parametrize("share_frames", [True, False])
def test_a_batch_holds_the_same_pairs_as_samples_do(pairs, share_frames):
    indices = [3, 0, 17, 3, 4]
    batch = pairs.batch(indices, share_frames=share_frames)
    for place, sample in enumerate(pairs.__getitems__(indices)):
        assert all(torch.equal(picture, sample[name]) for name, picture in separate(batch, place).items())
        assert torch.equal(batch["spatial_features"][place], sample["spatial_features"])
        assert torch.equal(batch["font_embedding"][place], sample["font_embedding"])
        assert batch["label"][place] == sample["label"]


def test_a_shared_batch_holds_each_frame_and_picture_once(pairs):
    batch = pairs.batch(range(20))
    assert len(batch["frames"]) == len(np.unique(pairs.strip_ids[:20])) == 20
    assert len(batch["pictures"]) == 1


def test_without_sharing_every_pair_has_frames_of_its_own(pairs):
    batch = pairs.batch(range(20), share_frames=False)
    assert (len(batch["frames"]), len(batch["pictures"])) == (40, 20)


def test_frames_of_two_cameras_are_never_shared():
    keys, places, first = unique_frames(np.array([0, 0, 1]), np.array([[7, 8], [8, 7], [7, 9]]))
    assert keys.tolist() == [[0, 7], [0, 8], [1, 7], [1, 9]]
    assert places.tolist() == [[0, 1], [1, 0], [2, 3]]
    assert first.tolist() == [0, 1, 4, 5]


def test_all_frames_of_a_video_are_altered_alike_and_those_of_separate_pairs_are_not(whole_dataset):
    options = AugmentOptions(shift=0, colour=1, blur=0, compression=0, blank_picture=0)
    pairs = PairDataset(whole_dataset, "train", augment=PairAugmentation(options))
    same = [int(index) for index in np.flatnonzero(pairs.labels == 0)[:1]] * 3
    torch.manual_seed(0)
    batch = pairs.batch(same, share_frames=True)
    assert len(batch["frames"]) == 2
    assert torch.equal(batch["frames"][0], batch["frames"][1])
    apart = pairs.batch(same, share_frames=False)
    assert torch.equal(apart["frames"][0], apart["frames"][1])
    assert not torch.equal(apart["frames"][0], apart["frames"][2])


VIDEOS = np.repeat([5, 9], 60)
"""Two videos; in each, twelve frames, of which every one is compared with the five after it, in both orders."""

STRIPS = np.concatenate(
    [
        [pair for i in range(6) for j in range(1, 6) for pair in ((b + i, b + i + j), (b + i + j, b + i))]
        for b in (0, 90)
    ]
)


def clips_of(seed, clip_pairs=8):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(VIDEOS), generator=generator).tolist()
    return clip_order(drawn, VIDEOS, STRIPS, generator, clip_pairs)


def test_clips_hold_every_pair_once_and_few_frames():
    order = clips_of(0)
    assert sorted(order) == list(range(120))
    whole = [order[start : start + 8] for start in range(0, 120, 8)]
    frames = [len(np.unique(STRIPS[clip])) for clip in whole]
    drawn = np.random.default_rng(0).permutation(120).reshape(-1, 8)
    assert np.mean(frames) < 0.7 * np.mean([len(np.unique(STRIPS[clip])) for clip in drawn])


def test_a_clip_is_of_one_video():
    videos = VIDEOS[clips_of(0, clip_pairs=6)].reshape(-1, 6)
    assert all(len(set(clip.tolist())) == 1 for clip in videos)
    assert len(set(videos[:, 0].tolist())) == 2


def test_clips_are_drawn_anew_by_the_generator_alone():
    assert clips_of(1) == clips_of(1)
    assert clips_of(1) != clips_of(2)


@pytest.mark.parametrize("clip_pairs", [7, 8, 50])
@pytest.mark.parametrize("limit", [1, 30, 119, 120])
def test_a_part_of_the_pairs_comes_in_whole_clips_and_is_never_too_short(limit, clip_pairs):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(120, generator=generator).tolist()
        order = clip_order(drawn, VIDEOS, STRIPS, generator, clip_pairs, limit)
        assert limit <= len(order) < limit + 60
        assert len(set(order)) == len(order)


def test_every_pair_may_be_in_a_part():
    seen = set()
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(120, generator=generator).tolist()
        seen |= set(clip_order(drawn, VIDEOS, STRIPS, generator, limit=16))
    assert seen == set(range(120))


def test_a_pair_drawn_twice_comes_twice():
    order = clip_order([4, 4, 2], VIDEOS, STRIPS, torch.Generator())
    assert sorted(order) == [2, 4, 4]


def test_balanced_sampling_shares_frames_too(pairs):
    sampler = EpochSampler(pairs, 0, balanced=True, share_frames=True)
    assert sorted(sampler) == sorted(EpochSampler(pairs, 0, balanced=True, share_frames=False))


@pytest.mark.parametrize("name", ["compact_aligned_resnet", "tiny_for_tests", LATE_FUSION])
def test_a_model_answers_the_same_with_shared_frames(pairs, name):
    torch.manual_seed(0)
    model = create_model(name).eval()
    batch, samples = pairs.batch(range(8)), default_collate(pairs.__getitems__(range(8)))
    with torch.inference_mode():
        shared = TrainingModel(model, Preprocessing()).eval()(*(batch[key] for key in BATCH_INPUTS))[0]
        separately = DeploymentModel(model, Preprocessing()).eval()(*(samples[key] for key in INPUT_NAMES))
    torch.testing.assert_close(shared, separately, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("apart", [False, True])
def test_each_encoder_sees_each_picture_once_together_with_all_it_serves(pairs, apart):
    model, batch = tiny_late_fusion_for_tests(apart), pairs.batch(range(8))
    sizes = []
    for encoder in model.encoders.values():
        encoder.register_forward_hook(lambda *call: sizes.append(len(call[1][0])))
    TrainingModel(model, Preprocessing())(*(batch[key] for key in BATCH_INPUTS))
    frames = len(batch["frames"])
    assert frames < 16
    assert sizes == ([1, frames, frames] if apart else [frames + 1])


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 2, 5)])
def test_gathered_features_and_their_gradient_are_those_of_indexing(shape):
    features, places = torch.randn(shape, requires_grad=True), torch.tensor([0, 2, 2, 3, 0])
    wanted, weights = features[places], torch.randn(5, *shape[1:])
    (expected,) = torch.autograd.grad((wanted * weights).sum(), features)
    found = rows(features, places)
    (gradient,) = torch.autograd.grad((found * weights).sum(), features)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(gradient, expected)


def losses(dataset):
    with next(get_dataset_db(dataset)) as db:
        history = db.query(Experiment).order_by(Experiment.id.desc()).first().history
    return [entry["train_loss"] for entry in history]


def trained(dataset, name, **hyperparameters):
    shutil.rmtree(dataset.parent / "run", ignore_errors=True)
    train(run_config(dataset, architecture_name=name, hyperparameters={"epochs": 1, **hyperparameters}))
    return losses(dataset)


def test_sharing_frames_matters_to_late_fusion_and_to_no_other(dataset):
    assert trained(dataset, LATE_FUSION) != trained(dataset, LATE_FUSION, share_frames=False)
    assert trained(dataset, "tiny_for_tests") == trained(dataset, "tiny_for_tests", share_frames=False)


@pytest.mark.parametrize("balance", ["weights", "sampler"])
def test_a_run_with_shared_frames_resumes_to_the_same_losses_and_weights(dataset, tmp_path, balance):
    settings = {"epochs": 4, "augment": True, "balance": balance}
    expected = trained(dataset, LATE_FUSION, **settings)
    weights = load_checkpoint(tmp_path / "run" / "last.pt").model_state_dict
    shutil.rmtree(tmp_path / "run")

    def stop(report):
        if report.epoch == 2:
            raise KeyboardInterrupt

    config = {"name": "again", "architecture_name": LATE_FUSION, "hyperparameters": settings}
    with pytest.raises(KeyboardInterrupt):
        train(run_config(dataset, **config), on_epoch=stop)
    train(run_config(dataset, **config, resume=True))
    assert losses(dataset) == expected
    resumed = load_checkpoint(tmp_path / "run" / "last.pt").model_state_dict
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)
