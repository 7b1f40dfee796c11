"""The model in the box: what an installation without any model of the user's can do."""

import pytest

from cb_runtime import BoundaryPredictor, models
from cb_runtime.errors import ModelError
from cb_runtime.golden import golden_path, load_golden_samples
from cb_runtime.models import DEFAULT_MODEL, default_model_path
from cb_runtime.parity import verify_session
from cb_runtime.session import open_session

LIMIT = 12_000_000
"""Bytes of all that is shipped of it."""


def test_it_is_small_enough_to_ship():
    shipped = [path for path in DEFAULT_MODEL.parent.rglob("default.*") if path.is_file()]
    shipped += [path for path in DEFAULT_MODEL.with_suffix(".staged").glob("*") if path.is_file()]
    assert golden_path(DEFAULT_MODEL) in shipped
    assert sum(path.stat().st_size for path in set(shipped)) <= LIMIT


def test_it_decides_on_this_machine_as_pytorch_did():
    samples = load_golden_samples(golden_path(default_model_path()))
    assert set(samples.labels.tolist()) == {0, 1, 2, 3, 4}
    report = verify_session(open_session(default_model_path(), device="cpu"), samples, [1, 16])
    assert report, str(report)


def test_it_passed_the_gate_and_says_where_it_comes_from():
    metadata = BoundaryPredictor(device="cpu").metadata
    assert metadata.parity["ok"] is True
    assert metadata.checkpoint_sha256
    assert metadata.dataset_digest
    assert metadata.git_commit


def test_an_installation_without_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "DEFAULT_MODEL", tmp_path / "default.onnx")
    with pytest.raises(ModelError, match="--checkpoint"):
        models.default_model_path()
