"""Parity judged on a dataset's pairs besides the golden samples."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from captioned_dataset import write_dataset
from click.testing import CliRunner
from test_precisions import write_pairs
from tiny_pairs import golden_of, logits_of, seeded_model

from cb_core.data.torch_dataset import PairDataset
from cb_export import judging, pipeline
from cb_export.cli.export import export
from cb_export.judging import judge_pairs
from cb_export.options import ExportOptions
from cb_export.pipeline import export_checkpoint
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ParityError, UsageError
from cb_runtime.golden import golden_path, load_golden_samples
from cb_runtime.session import open_session


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def reference(inputs):
    return logits_of(seeded_model(), inputs)


def pairs_of(dataset, golden=None):
    return judge_pairs(dataset, golden or golden_of(seeded_model()), ModelMetadata("tiny_pairs"), reference)


def export_judged(folder, dataset, precision="int8", *more):
    checkpoint = write_pairs(folder)
    given = ["--checkpoint", checkpoint, "--precision", precision, "--judge", dataset, "--batches", "1,2", *more]
    return CliRunner().invoke(export, [str(argument) for argument in given])


def test_they_are_labelled_validation_pairs_with_pytorchs_logits(dataset):
    pairs = pairs_of(dataset)
    split = PairDataset(dataset, "val")
    assert len(pairs.samples) == min(judging.PAIRS, len(split))
    assert set(pairs.samples.labels) == set(split.labels)
    frames = {sample["frame1"].numpy().tobytes() for sample in split.__getitems__(range(len(split)))}
    assert {frame.tobytes() for frame in pairs.samples.inputs["frame1"]} <= frames
    assert np.array_equal(pairs.samples.logits, reference(pairs.samples.inputs))
    assert pairs.record()["dataset_digest"] == split.summary.digest


def test_of_many_a_number_is_taken_of_every_label(dataset, monkeypatch):
    monkeypatch.setattr(judging, "PAIRS", 11)
    labels = pairs_of(dataset).samples.labels
    assert len(labels) == 11
    assert set(labels) == set(PairDataset(dataset, "val").labels)


def test_pairs_that_are_golden_samples_are_not_judged_twice(dataset):
    every = pairs_of(dataset).samples
    half, other = every.halves()
    assert np.array_equal(pairs_of(dataset, half).samples.labels, other.labels)
    with pytest.raises(UsageError, match=r"golden samples already\. Judge on a dataset of other videos"):
        pairs_of(dataset, every)


@pytest.mark.parametrize(("precision", "own"), [("fp32", 40), ("int8", 20)])
def test_the_gate_judges_them_and_verify_does_so_again(tmp_path, dataset, precision, own):
    done = export_judged(tmp_path, dataset, precision, "--output", tmp_path / "out" / "a.onnx", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    pairs = document["parity"]["judge_pairs"]
    assert document["parity"]["golden"]["samples"] == own + pairs["samples"]
    assert pairs["samples"] == len(pairs_of(dataset).samples)
    assert str(dataset.parent) not in done.stdout
    metadata = open_session(tmp_path / "out" / "a.onnx").metadata
    assert metadata.parity["judge_pairs"] == pairs
    published = load_golden_samples(golden_path(tmp_path / "out" / "a.onnx"))
    assert len(published) == 40 + pairs["samples"]
    if precision == "int8":
        assert metadata.calibration["samples"] == 20
        assert metadata.calibration["overlaps_parity"] is False


def test_it_is_said_how_many_were_judged(tmp_path, dataset):
    done = export_judged(tmp_path, dataset, "fp32", "--output", tmp_path / "out.onnx")
    assert "validation pairs of a dataset, of every label, besides golden samples" in done.stdout


def test_the_same_export_again_leaves_the_same_golden_samples(tmp_path, dataset):
    for _ in range(2):
        assert export_judged(tmp_path, dataset, "fp32", "--output", tmp_path / "out.onnx").exit_code == 0
        found = golden_path(tmp_path / "out.onnx").read_bytes()
    assert export_judged(tmp_path, dataset, "fp32", "--output", tmp_path / "other.onnx").exit_code == 0
    assert golden_path(tmp_path / "other.onnx").read_bytes() == found


def test_the_checkpoints_own_golden_samples_stay_as_they_are(tmp_path, dataset):
    refused = export_judged(tmp_path, dataset)
    assert refused.exit_code == 2
    assert "of the checkpoint stands and has to stay as it is. Choose another --output" in refused.stderr
    assert len(load_golden_samples(golden_path(tmp_path / "best.pt"))) == 40


@pytest.mark.parametrize(("samples", "only_shares", "told"), [(20, True, True), (20, False, False), (100, True, False)])
def test_a_gate_that_failed_by_shares_of_few_samples_says_how_to_settle_it(
    tmp_path, monkeypatch, samples, only_shares, told
):
    real = pipeline.build_and_gate

    def failed(*arguments, **options):
        built = real(*arguments, **options)
        golden = replace(
            built.report.golden, samples=samples, failures=("95% decided alike",), only_shares_failed=only_shares
        )
        return replace(built, report=replace(built.report, golden=golden))

    monkeypatch.setattr(pipeline, "build_and_gate", failed)
    with pytest.raises(ParityError) as error:
        export_checkpoint(write_pairs(tmp_path), options=ExportOptions(precision="int8", batches=(1, 2)))
    assert ("--judge DATASET.db" in str(error.value)) is told
    assert ("failed by shares of 20 samples only, of which one is 5.0%" in str(error.value)) is told
