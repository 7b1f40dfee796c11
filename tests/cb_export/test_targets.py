"""Conformance of export targets: each target in the table passes all of this."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import numpy as np
import pytest
from tiny_pairs import logits_of, random_inputs, seeded_model

import cb_export.targets
from cb_core.deployment import DeploymentModel
from cb_export.graph import trace
from cb_export.targets import TARGETS, TargetOptions, load_target
from cb_runtime.backends import backend_for
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import MissingPackageError, UsageError
from cb_runtime.parity import TOLERANCES
from cb_runtime.session import open_session

METADATA = ModelMetadata("tiny_pairs", validation_metrics={"f1": 0.5}, dataset_name="ümlaut")


def test_the_table_of_targets_names_exactly_the_modules_of_the_folder():
    modules = {f"cb_export.targets.{module.name}" for module in pkgutil.iter_modules(cb_export.targets.__path__)}
    assert set(TARGETS.values()) == modules


def test_an_unknown_target_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=r"Unknown export format 'docx'\. Known: onnx, trt"):
        load_target("docx")


@pytest.fixture(params=sorted(TARGETS), scope="module")
def target(request):
    return load_target(request.param)


@pytest.fixture(scope="module")
def status(target):
    """Return whether the target's artifacts run here; skip where they cannot even be built."""
    try:
        return target.runs_here(TargetOptions())
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def built(target, status, tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / f"tiny{target.SUFFIX}"
    graph = trace(DeploymentModel(seeded_model()).eval())
    return path, target.build(graph, METADATA, TargetOptions(), path)


def metadata_in(path):
    """Return the metadata of an artifact, as `cb inspect` reads it."""
    read = getattr(backend_for(path)[1], "read_metadata", None)
    return read(path) if read else open_session(path).metadata


def test_a_target_compares_at_the_batch_sizes_asked_for_at_least(target):
    assert {1, 3} <= set(target.gate_batches(TargetOptions(), (1, 3)))


def test_what_a_target_says_of_itself_is_of_the_right_kind(target):
    assert target.GATE_DEVICE in ("cpu", "cuda")
    assert type(target.BUILT_FROM_ONNX) is bool
    assert target.SUFFIX in backend_for(Path(f"a{target.SUFFIX}"))[1].SUFFIXES


def test_every_precision_a_target_writes_has_tolerances(target):
    assert target.PRECISIONS
    assert set(target.PRECISIONS) <= TOLERANCES.keys()


@pytest.fixture(scope="module")
def runnable(built, status):
    """Return an artifact and its metadata where it can be run."""
    if not status.ok:
        pytest.skip(status.detail)
    return built


def test_an_artifact_is_one_file_and_the_one_that_belongs_to_it(built, target):
    path, _ = built
    files = {path, target.companion(path)} - {None}
    assert set(path.parent.iterdir()) == files


def test_an_artifact_is_opened_by_a_session_and_computes_what_pytorch_computes(runnable):
    path, _ = runnable
    for batch in (1, 2, 5):
        inputs = random_inputs(batch, seed=batch)
        np.testing.assert_allclose(open_session(path).run(inputs), logits_of(seeded_model(), inputs), atol=1e-5)


def test_an_artifact_carries_the_metadata_that_building_it_returned(built):
    path, metadata = built
    assert metadata_in(path) == metadata
    assert metadata.dataset_name == "ümlaut"
    assert metadata.producer_versions


def test_metadata_can_be_replaced(built, target):
    path, metadata = built
    target.write_metadata(path, metadata.replace(parity={"ok": True}))
    assert metadata_in(path) == metadata.replace(parity={"ok": True})
    target.write_metadata(path, metadata)
    assert metadata_in(path) == metadata


def test_writing_metadata_changes_nothing_else(runnable, target):
    path, metadata = runnable
    inputs = random_inputs(2)
    before = open_session(path).run(inputs)
    target.write_metadata(path, metadata.replace(parity={"ok": True}))
    after = open_session(path)
    assert after.metadata == metadata.replace(parity={"ok": True})
    np.testing.assert_array_equal(after.run(inputs), before)
    target.write_metadata(path, metadata)
