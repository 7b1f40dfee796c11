"""Checkpoints: whole or not there, never executed, refused with what to do."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import ARCHITECTURE

from cb_core import checkpoint as checkpoint_module
from cb_core.checkpoint import KEYS, load_checkpoint, model_from_checkpoint, plain_types, save_checkpoint
from cb_core.registry import create_model, example_inputs
from cb_runtime.contract import Decoding, ModelMetadata, Preprocessing
from cb_runtime.errors import ContractError, InputError, ModelError

FULL = Path("/dev/full")
METADATA = ModelMetadata(
    ARCHITECTURE,
    {"width": 8, "pretrained": True},
    Preprocessing(resize_strategy="crop"),
    Decoding(change_penalty=2.5, score_scale=0.5),
    ocr_viz_variant="both",
)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = create_model(ARCHITECTURE, width=8)
    path = tmp_path / "best.pt"
    save_checkpoint(path, epoch=3, model=model, metadata=METADATA, metrics={"val_f1": np.float32(0.5)})
    return path, model


def test_a_checkpoint_gives_the_same_model_back_without_fetching_pretrained_weights(saved):
    path, model = saved
    loaded = model_from_checkpoint(load_checkpoint(path))
    inputs = example_inputs(2)
    assert not loaded.training
    torch.testing.assert_close(loaded(**inputs), model.eval()(**inputs), rtol=0, atol=0)


def test_a_checkpoint_is_a_dict_of_plain_types_that_torch_loads_with_weights_only(saved):
    content = torch.load(saved[0], weights_only=True)
    assert set(content) == set(KEYS)
    assert content["metrics"] == {"val_f1": 0.5}
    assert type(content["metrics"]["val_f1"]) is float


def test_config_says_what_the_contract_says(saved):
    checkpoint = load_checkpoint(saved[0])
    assert checkpoint.metadata == METADATA
    assert checkpoint.config == {
        "architecture_name": ARCHITECTURE,
        "model_config": {"width": 8, "pretrained": True},
        "transform_strategy": "crop",
        "ocr_viz_variant": "both",
        "use_font_embedding": False,
    }


def test_metrics_become_plain_types_however_deep():
    values = plain_types({1: [np.int64(2), torch.tensor([1.0, 2.0])], "a": (np.float64(0.5), None, "text")})
    assert values == {"1": [2, [1.0, 2.0]], "a": [0.5, None, "text"]}


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.pt does not exist"):
        load_checkpoint(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_refused(saved, share):
    whole = saved[0].read_bytes()
    saved[0].write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match="cut short or not a checkpoint"):
        load_checkpoint(saved[0])


def test_a_damaged_checkpoint_is_refused(saved, tmp_path):
    damaged = tmp_path / "damaged.pt"
    with zipfile.ZipFile(saved[0]) as source, zipfile.ZipFile(damaged, "w") as target:
        for item in source.infolist():
            if not item.filename.endswith("/data/0"):
                target.writestr(item.filename, source.read(item.filename))
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(damaged)


@pytest.mark.parametrize("content", [{"state_dict": {}, "epoch": 1}, [1, 2, 3], torch.zeros(3)])
def test_another_projects_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"not a checkpoint of cb: it lacks .*metadata"):
        load_checkpoint(path)


class Payload:
    """What a malicious checkpoint holds: unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_malicious_pickle_is_refused_and_never_executed(saved, tmp_path):
    attacked = tmp_path / "executed"
    content = torch.load(saved[0], weights_only=True)
    content["config"] = Payload(attacked)
    torch.save(content, saved[0])
    with pytest.raises(ModelError, match="nothing in it was executed"):
        load_checkpoint(saved[0])
    assert not attacked.exists()


def test_a_bare_malicious_pickle_is_refused_and_never_executed(tmp_path):
    path, attacked = tmp_path / "bare.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Payload(attacked)))
    with pytest.raises(ModelError, match="not a checkpoint"):
        load_checkpoint(path)
    assert not attacked.exists()


def test_a_checkpoint_of_an_unknown_schema_is_refused_with_its_file_name(saved):
    content = torch.load(saved[0], weights_only=True)
    content["metadata"]["schema"] = 99
    torch.save(content, saved[0])
    with pytest.raises(ContractError, match=r"best\.pt.*schema 99"):
        load_checkpoint(saved[0])


def test_weights_that_do_not_fit_the_architecture_are_refused(saved):
    content = torch.load(saved[0], weights_only=True)
    content["config"]["model_config"]["width"] = 9
    torch.save(content, saved[0])
    with pytest.raises(ModelError, match="do not fit architecture"):
        model_from_checkpoint(load_checkpoint(saved[0]))


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_keeps_the_old_checkpoint(saved, monkeypatch):
    path, model = saved
    before = path.read_bytes()
    really_open = checkpoint_module.Path.open

    def open_full(self, mode="r", *args, **options):
        return really_open(FULL if mode == "wb" else self, mode, *args, **options)

    monkeypatch.setattr(checkpoint_module.Path, "open", open_full)
    with pytest.raises(InputError, match="disk is full"):
        save_checkpoint(path, epoch=4, model=model, metadata=METADATA)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.glob("*best*")] == ["best.pt"]


def test_an_error_of_torch_that_is_not_a_full_disk_is_not_disguised(saved, monkeypatch):
    def fail(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="something else"):
        save_checkpoint(saved[0], epoch=4, model=saved[1], metadata=METADATA)
