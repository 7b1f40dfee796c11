"""The backend for checkpoints: what `cb infer --checkpoint best.pt` runs on."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from tiny_training import ARCHITECTURE, PLUGIN

from cb_core import backend
from cb_core.checkpoint import save_checkpoint
from cb_core.deployment import DeploymentModel
from cb_core.registry import create_model
from cb_runtime.backends import OpenOptions
from cb_runtime.contract import INPUT_NAMES, ModelMetadata
from cb_runtime.errors import ModelError
from cb_runtime.files import sha256_of_file


@pytest.fixture
def checkpoint(tmp_path):
    model = create_model(ARCHITECTURE)
    save_checkpoint(tmp_path / "best.pt", epoch=1, model=model, metadata=ModelMetadata(ARCHITECTURE))
    return tmp_path / "best.pt", model


def feeds(batch: int):
    pictures = np.random.default_rng(0).integers(0, 255, (3, batch, 48, 480, 3), np.uint8)
    vectors = (np.zeros((batch, 6), np.float32), np.zeros((batch, 512), np.float32))
    return dict(zip(INPUT_NAMES, (*pictures, *vectors), strict=True))


def test_a_checkpoint_runs_as_the_model_it_holds(checkpoint):
    path, model = checkpoint
    executor = backend.open_artifact(path, OpenOptions("cpu", plugins=(str(PLUGIN),)))
    inputs = feeds(3)
    inputs["frame1"].setflags(write=False)
    with torch.inference_mode():
        expected = DeploymentModel(model).eval()(*(torch.from_numpy(np.array(value)) for value in inputs.values()))
    logits = executor.run(inputs)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)


def test_the_contract_names_the_file_it_came_from(checkpoint):
    executor = backend.open_artifact(checkpoint[0], OpenOptions("cpu"))
    assert executor.metadata.checkpoint_sha256 == sha256_of_file(checkpoint[0])


def test_it_says_what_it_runs_on_and_why(checkpoint):
    executor = backend.open_artifact(checkpoint[0], OpenOptions("cpu", threads=torch.get_num_threads()))
    said = executor.describe()
    assert (said["backend"], said["device"], said["reason"]) == ("torch", "cpu", "as asked")
    assert said["threads"] == torch.get_num_threads()


def test_auto_says_which_device_it_chose(checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert backend.open_artifact(checkpoint[0], OpenOptions("auto")).describe()["reason"] == "torch sees no GPU"


def test_a_gpu_that_is_not_there_is_an_error_and_no_fallback(checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ModelError, match="sees 1 CUDA devices"):
        backend.open_artifact(checkpoint[0], OpenOptions("cuda:1"))


def test_a_gpu_whose_memory_is_too_small_asks_for_a_smaller_batch(checkpoint, monkeypatch):
    executor = backend.open_artifact(checkpoint[0], OpenOptions("cpu"))

    def too_much(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")

    monkeypatch.setattr(executor.model, "forward", too_much)
    with pytest.raises(
        ModelError, match=r"out of memory on cpu at batch 3: CUDA out of memory\. Use a smaller --batch"
    ):
        executor.run(feeds(3))


def test_availability_names_torch_and_its_devices():
    assert backend.available().ok
    assert torch.__version__ in backend.available().detail


def test_without_torch_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found = backend.available()
    assert not found.ok
    assert found.fix == "pip install 'cb-toolkit[train]'"
