"""The auxiliary task: presence and extent of captions in single frames, learnt beside the labels and then dropped."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from data_videos import CAPTIONS, write_video
from tiny_late_fusion import tiny_late_fusion_for_tests
from tiny_training import run_config, write_dataset
from torch import nn

from cb_core.backend import open_artifact
from cb_core.checkpoint import load_checkpoint
from cb_core.data import get_dataset_db
from cb_core.data.batches import SHOWS_CAPTION
from cb_core.data.builder import VideoInputsGiven, create_dataset, find_videos
from cb_core.data.extents import COLUMNS, VideoExtents, caption_extent
from cb_core.data.options import BuildOptions
from cb_core.data.schema import Strip, VideoCaption
from cb_core.data.torch_dataset import PairDataset
from cb_core.registry import create_model
from cb_core.tracking import Experiment
from cb_core.training import train
from cb_core.training.auxiliary import AuxiliaryTask, CaptionHead, auxiliary_loss
from cb_core.training.config import Hyperparameters
from cb_core.training.optimization import make_optimizer
from cb_runtime.backends import OpenOptions
from cb_runtime.contract import LABELS, Preprocessing
from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.golden import golden_path, load_golden_samples
from cb_runtime.layout import CaptionLayout

LATE_FUSION = "tiny_late_fusion_for_tests"


@pytest.fixture(scope="module")
def whole_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny.db", orders=2)


@pytest.fixture
def dataset(whole_dataset, tmp_path):
    return shutil.copy(whole_dataset, tmp_path / "tiny.db")


def test_which_frame_shows_a_caption_follows_from_the_label():
    assert dict(zip(LABELS, SHOWS_CAPTION.tolist(), strict=True)) == {
        "same": [True, True],
        "different": [True, True],
        "empty_empty": [False, False],
        "empty_valid": [False, True],
        "valid_empty": [True, False],
    }


def extent_of(region, crop=(0, 0, 960, 48), strategy="mirror_tile"):
    layout = CaptionLayout(1920, 1080, Box(*crop), "center")
    return caption_extent(region, layout, Preprocessing(resize_strategy=strategy))


def test_an_extent_is_squeezed_as_the_strip_is():
    extent = extent_of((240, 10, 480, 30))
    assert extent.shape == (COLUMNS,)
    assert extent[16:29].min() == 1.0
    assert not extent[:14].any()
    assert not extent[31:].any()


def test_an_extent_is_cropped_as_the_strip_is():
    extent = extent_of((240, 10, 480, 30), strategy="crop")
    assert extent[:29].min() == 1.0
    assert not extent[31:].any()


def test_an_extent_is_mirrored_as_the_strip_is():
    extent = extent_of((8, 10, 40, 30), crop=(0, 0, 120, 48))
    assert np.flatnonzero(extent > 0.5).tolist() == [1, 2, 3, 4, 25, 26, 27, 28, 31, 32, 33, 34, 55, 56, 57, 58]


def test_a_caption_beside_the_region_covers_nothing_of_the_strip():
    assert not extent_of((100, 500, 200, 540)).any()


def test_a_frame_whose_extent_nobody_knows_has_none():
    layout = CaptionLayout(1920, 1080, Box(0, 0, 960, 48), "center")
    extents = VideoExtents([(10, 20, (0, 0, 96, 48)), (20, 30, None)], layout, Preprocessing())
    assert extents.of_frame(12, shows_caption=True)[:5].min() == 1.0
    assert not extents.of_frame(5, shows_caption=False).any()
    assert np.isnan(extents.of_frame(25, shows_caption=True)).all()
    nothing = VideoExtents([(10, 20, None)], layout, Preprocessing())
    assert np.isnan(nothing.of_frame(5, shows_caption=False)).all()


def build(folder, region=None):
    folder.mkdir()
    for number in range(2):
        video = write_video(folder / f"v{number}.mkv", CAPTIONS, 100, seed=number)
        entries = [
            {"start": start / 25, "end": end / 25, "text": text, **({"region": region} if region else {})}
            for start, end, text in CAPTIONS
        ]
        video.with_suffix(".json").write_text(json.dumps({"captions": entries}))
    options = BuildOptions(pairs_per_video=40, test_share=0.0, val_share=0.5)
    report = create_dataset(
        folder / "d.db", find_videos(folder), options=options, given=VideoInputsGiven(region="0,64,160,96")
    )
    return folder / "d.db", report


@pytest.fixture(scope="module")
def with_regions(tmp_path_factory):
    return build(tmp_path_factory.mktemp("regions") / "v", [0, 68, 80, 90])[0]


def test_regions_come_from_the_caption_file_to_the_frames_of_a_batch(with_regions):
    pairs = PairDataset(with_regions, "train")
    batch = pairs.batch(range(len(pairs)))
    with next(get_dataset_db(with_regions)) as db:
        assert db.query(VideoCaption).first().region == [0, 68, 80, 90]
        frames = [db.get(Strip, int(key)).frame for key in np.unique(pairs.strip_ids)]
    shown = [any(start <= frame < end for start, end, _ in CAPTIONS) for frame in frames]
    assert batch["presence"].tolist() == [float(value) for value in shown]
    extent = batch["extent"][batch["presence"] == 1]
    assert len(extent)
    # The region is half as wide as the crop, whose strip is 240 columns wide and mirrored once.
    assert extent[:, :14].min() == extent[:, 46:].min() == 1.0
    assert not extent[:, 16:44].any()
    assert not batch["extent"][batch["presence"] == 0].any()


def test_without_regions_extents_are_unknown_and_presence_is_not(whole_dataset):
    batch = PairDataset(whole_dataset, "train").batch(range(10))
    assert batch["extent"].isnan().all()
    places = torch.stack((batch["frame1_index"], batch["frame2_index"]), dim=1)
    assert batch["presence"][places].bool().tolist() == SHOWS_CAPTION[batch["label"]].tolist()


def test_regions_are_part_of_what_a_dataset_is(tmp_path, with_regions):
    path, report = build(tmp_path / "none")
    assert report.summary.digest != PairDataset(with_regions, "train").summary.digest
    assert PairDataset(path, "train").batch([0])["extent"].isnan().all()


@pytest.mark.parametrize("region", [[1, 2, 3], "wide", [10, 0, 5, 5], [None, 0, 1, 1]])
def test_a_region_that_is_none_is_told(tmp_path, region):
    with pytest.raises(InputError, match=r"caption 1 must have .* a region of four pixels"):
        build(tmp_path / "v", region)


@pytest.mark.parametrize("shape", [(7,), (12, 7), (7, 3, 12)])
def test_a_head_answers_for_vectors_tokens_and_maps(shape):
    head = CaptionHead(shape)
    assert head(torch.randn(4, *shape)).shape == (4, 1 + COLUMNS)


def test_a_head_on_a_map_sees_where_something_stands():
    head = CaptionHead((1, 2, COLUMNS))
    nn.init.ones_(head.extent.weight)
    nn.init.zeros_(head.extent.bias)
    features = torch.zeros(1, 1, 2, COLUMNS)
    features[..., 20:30] = 1
    assert torch.nonzero(head(features)[0, 1:]).flatten().tolist() == list(range(20, 30))


@pytest.mark.parametrize(("apart", "names"), [(False, {"image"}), (True, {"frame1", "frame2"})])
def test_every_encoder_of_frames_gets_a_head(apart, names):
    assert set(AuxiliaryTask(tiny_late_fusion_for_tests(apart)).heads) == names


def test_an_unknown_extent_teaches_nothing():
    logits = torch.randn(1, 2, 1 + COLUMNS, requires_grad=True)
    extent = torch.full((2, COLUMNS), torch.nan)
    extent[0] = 1.0
    auxiliary_loss(logits, torch.tensor([1.0, 0.0]), extent).backward()
    assert not logits.grad[0, 1, 1:].any()
    assert logits.grad[0, 0, 1:].all()
    assert logits.grad[0, :, 0].all()


def test_the_auxiliary_loss_is_small_where_presence_and_extent_are_right():
    presence, extent = torch.tensor([1.0, 0.0]), torch.zeros(2, COLUMNS)
    extent[0, 10:20] = 1.0
    right = 20 * (torch.cat((presence.unsqueeze(1), extent), dim=1) - 0.5).unsqueeze(0)
    assert auxiliary_loss(right, presence, extent) < 1e-3
    for wrong in (0, 15):
        changed = right.clone()
        changed[0, 0, wrong] *= -1
        assert auxiliary_loss(changed, presence, extent) > 0.05


def test_the_auxiliary_head_is_trained_with_the_rest():
    model = create_model(LATE_FUSION)
    task = AuxiliaryTask(model)
    members = {id(p) for group in make_optimizer(model, Hyperparameters(), task).param_groups for p in group["params"]}
    assert members == {id(p) for module in (model, task) for p in module.parameters()}


def run(dataset, name=LATE_FUSION, **hyperparameters):
    shutil.rmtree(dataset.parent / "run", ignore_errors=True)
    result = train(run_config(dataset, architecture_name=name, hyperparameters=hyperparameters))
    with next(get_dataset_db(dataset)) as db:
        history = db.query(Experiment).order_by(Experiment.id.desc()).first().history
    return result, [entry["train_loss"] for entry in history]


def test_what_is_learnt_beside_the_labels_changes_the_model_and_not_what_it_is_made_of(dataset):
    plain, losses = run(dataset)
    weights = load_checkpoint(plain.best_checkpoint).model_state_dict
    helped, other_losses = run(dataset, auxiliary_weight=0.5)
    assert losses != other_losses
    assert load_checkpoint(helped.best_checkpoint).model_state_dict.keys() == weights.keys()
    golden = load_golden_samples(golden_path(helped.best_checkpoint))
    logits = open_artifact(helped.best_checkpoint, OpenOptions("cpu")).run(golden.inputs)
    np.testing.assert_allclose(logits, golden.logits, atol=1e-5)


def test_the_weight_matters_where_extents_are_known_too(with_regions, tmp_path):
    copy = shutil.copy(with_regions, tmp_path / "d.db")
    falling = run(copy, auxiliary_weight=1.0, epochs=6)[1]
    assert falling[-1] < 0.8 * falling[0]


def test_an_architecture_without_features_of_frames_is_refused(dataset):
    with pytest.raises(UsageError, match=r"Tiny does not have: it is not late fusion\. Set it to 0"):
        run(dataset, name="tiny_for_tests", auxiliary_weight=0.5)


def test_a_run_with_an_auxiliary_head_resumes_to_the_same_losses_and_weights(dataset, tmp_path):
    settings = {"epochs": 4, "auxiliary_weight": 0.5}
    expected = run(dataset, **settings)[1]
    weights = load_checkpoint(tmp_path / "run" / "last.pt").model_state_dict
    shutil.rmtree(tmp_path / "run")

    def stop(report):
        if report.epoch == 2:
            raise KeyboardInterrupt

    config = {"name": "again", "architecture_name": LATE_FUSION, "hyperparameters": settings}
    with pytest.raises(KeyboardInterrupt):
        train(run_config(dataset, **config), on_epoch=stop)
    train(run_config(dataset, **config, resume=True))
    with next(get_dataset_db(dataset)) as db:
        history = db.query(Experiment).order_by(Experiment.id.desc()).first().history
    assert [entry["train_loss"] for entry in history] == expected
    resumed = load_checkpoint(tmp_path / "run" / "last.pt").model_state_dict
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_making_the_head_leaves_the_model_as_it_was():
    model = tiny_late_fusion_for_tests().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    AuxiliaryTask(model)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
