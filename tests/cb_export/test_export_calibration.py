"""What int8 is calibrated on, and what is said of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from captioned_dataset import write_dataset
from click.testing import CliRunner
from test_precisions import write_pairs
from tiny_pairs import golden_of, seeded_model

from cb_core.data.torch_dataset import PairDataset
from cb_export.calibration import Calibration, calibration_from_dataset, calibration_from_golden
from cb_export.cli.export import export
from cb_runtime.contract import INPUT_NAMES, ModelMetadata, Preprocessing
from cb_runtime.errors import InputError, UsageError
from cb_runtime.golden import GoldenSamples


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def golden():
    return golden_of(seeded_model(), 40)


def test_golden_samples_are_halved_and_the_halves_share_nothing(golden):
    found = calibration_from_golden(golden)
    record = found.record()
    assert record["samples"] == len(found.judged) == 20
    assert record["overlaps_parity"] is False
    assert record["dataset_digest"] is None


def test_a_dataset_gives_training_pairs_of_every_label_and_leaves_all_golden_samples_to_judge(dataset, golden):
    found = calibration_from_dataset(dataset, golden, ModelMetadata("tiny_pairs"))
    pairs = PairDataset(dataset, "train")
    assert found.judged is golden
    assert len(found.inputs["frame1"]) == min(256, len(pairs)) == found.record()["samples"]
    frames = {sample["frame1"].numpy().tobytes() for sample in pairs.__getitems__(range(len(pairs)))}
    assert {frame.tobytes() for frame in found.inputs["frame1"]} <= frames
    assert found.record()["dataset_digest"] == pairs.summary.digest
    assert found.record()["overlaps_parity"] is False


def test_samples_that_are_judged_too_are_told(golden):
    overlapping = Calibration(golden.inputs, "the very same", golden)
    assert overlapping.record()["overlaps_parity"] is True


def test_the_digest_is_that_of_all_inputs(golden):
    before = Calibration(golden.inputs, "", golden).record()["sha256"]
    for name in INPUT_NAMES:
        changed = {key: values.copy() for key, values in golden.inputs.items()}
        changed[name].reshape(-1)[0] += 1
        assert Calibration(changed, "", golden).record()["sha256"] != before


def test_a_dataset_made_otherwise_than_the_model_takes_its_strips_is_refused(dataset, golden):
    metadata = ModelMetadata("tiny_pairs", preprocessing=Preprocessing(resize_strategy="crop"))
    with pytest.raises(UsageError, match="Give a dataset made as the one it was trained on"):
        calibration_from_dataset(dataset, golden, metadata)


def test_font_embeddings_that_the_model_takes_must_be_there(dataset, golden):
    with pytest.raises(InputError, match="no font embeddings"):
        calibration_from_dataset(dataset, golden, ModelMetadata("tiny_pairs", use_font_embedding=True))


def test_the_command_calibrates_on_a_dataset_and_says_so(tmp_path, dataset):
    checkpoint = write_pairs(tmp_path)
    given = ["--checkpoint", str(checkpoint), "--precision", "int8", "--calibration", str(dataset), "--batches", "1,2"]
    done = CliRunner().invoke(export, [*given, "--allow-parity-failure", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["metadata"]["calibration"]["source"] == "training pairs of a dataset, of every label"
    assert document["parity"]["golden"]["samples"] == 40
    assert str(dataset.parent) not in done.stdout


def test_an_overlap_is_warned_of(tmp_path, dataset):
    pairs = PairDataset(dataset, "train")
    samples = pairs.__getitems__(range(16))
    inputs = {name: np.stack([np.asarray(sample[name]) for sample in samples]) for name in INPUT_NAMES}
    from tiny_pairs import logits_of

    checkpoint = write_pairs(tmp_path)
    labels = np.asarray([sample["label"] for sample in samples])
    GoldenSamples(inputs, logits_of(seeded_model(), inputs), labels).save(tmp_path / "same.npz")
    given = ["--checkpoint", str(checkpoint), "--precision", "int8", "--calibration", str(dataset), "--batches", "1,2"]
    given += ["--golden", str(tmp_path / "same.npz"), "--output", str(tmp_path / "out" / "int8.onnx")]
    done = CliRunner().invoke(export, [*given, "--allow-parity-failure"])
    assert done.exit_code == 0, done.output
    assert "calibrated on samples that parity was judged on too" in done.stderr
