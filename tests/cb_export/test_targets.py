"""Conformance of export targets: each target in the table passes all of this."""

from __future__ import annotations

import pkgutil

import numpy as np
import pytest
from tiny_pairs import logits_of, random_inputs, seeded_model

import cb_export.targets
from cb_core.deployment import DeploymentModel
from cb_export.graph import trace
from cb_export.targets import TARGETS, TargetOptions, load_target
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import UsageError
from cb_runtime.parity import TOLERANCES
from cb_runtime.session import open_session

METADATA = ModelMetadata("tiny_pairs", validation_metrics={"f1": 0.5}, dataset_name="ümlaut")


def test_the_table_of_targets_names_exactly_the_modules_of_the_folder():
    modules = {f"cb_export.targets.{module.name}" for module in pkgutil.iter_modules(cb_export.targets.__path__)}
    assert set(TARGETS.values()) == modules


def test_an_unknown_target_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=r"Unknown export format 'docx'\. Known: onnx"):
        load_target("docx")


@pytest.fixture(params=sorted(TARGETS), scope="module")
def target(request):
    return load_target(request.param)


@pytest.fixture(scope="module")
def built(target, tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / f"tiny{target.SUFFIX}"
    graph = trace(DeploymentModel(seeded_model()).eval())
    return path, target.build(graph, METADATA, TargetOptions(), path)


def test_every_precision_a_target_writes_has_tolerances(target):
    assert target.PRECISIONS
    assert set(target.PRECISIONS) <= TOLERANCES.keys()


def test_an_artifact_is_one_file_that_a_session_opens_and_that_computes_what_pytorch_computes(built):
    path, _ = built
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    for batch in (1, 2, 5):
        inputs = random_inputs(batch, seed=batch)
        np.testing.assert_allclose(open_session(path).run(inputs), logits_of(seeded_model(), inputs), atol=1e-5)


def test_an_artifact_carries_the_metadata_that_building_it_returned(built):
    path, metadata = built
    assert open_session(path).metadata == metadata
    assert metadata.dataset_name == "ümlaut"
    assert metadata.producer_versions


def test_writing_metadata_changes_nothing_else(built, target):
    path, metadata = built
    inputs = random_inputs(2)
    before = open_session(path).run(inputs)
    target.write_metadata(path, metadata.replace(parity={"ok": True}))
    after = open_session(path)
    assert after.metadata == metadata.replace(parity={"ok": True})
    np.testing.assert_array_equal(after.run(inputs), before)
    target.write_metadata(path, metadata)
