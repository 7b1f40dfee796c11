"""Every architecture learns a few pairs by heart with the hyperparameters that are its defaults."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_training import run_config, write_dataset

from cb_core.registry import create_model, get_model_info, list_architectures
from cb_core.training.accelerator import make_accelerator
from cb_core.training.config import hyperparameters_from_dict
from cb_core.training.data import open_splits
from cb_core.training.loop import Trainer
from cb_core.training.model_choice import choose_model
from cb_runtime.contract import LABELS, Preprocessing
from cb_runtime.progress import no_progress

OWN = [name for name in list_architectures() if get_model_info(name).module.startswith("cb_core.architectures.")]
QUICK = ("compact_aligned_resnet", "cross_attention_fusion")
PARAMETERS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in OWN]

EPOCHS = 12


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny.db", pairs_per_class=2)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_loss_falls_without_tuning(dataset, name):
    suited = hyperparameters_from_dict(get_model_info(name).hyperparameters)
    settings = hyperparameters_from_dict({"epochs": EPOCHS, "batch_size": 5, "augment": False}, suited)
    splits = open_splits(str(dataset), choose_model(run_config(dataset, architecture_name=name), None), settings)
    torch.manual_seed(0)
    trainer = Trainer(create_model(name), Preprocessing(), splits, settings, make_accelerator(settings, "cpu"), 0)
    losses = [trainer.train_epoch(epoch, no_progress).loss for epoch in range(1, EPOCHS + 1)]
    first, last = sum(losses[:2]) / 2, sum(losses[-2:]) / 2
    # Frozen random convolutions (LoRA without pretrained weights) are the slowest; a guess costs log(5).
    assert last < min(0.75 * first, math.log(len(LABELS))), losses
