"""Golden samples of a checkpoint: validation pairs with the model's own float32 logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cb_core.backend import full_float32
from cb_core.deployment import DeploymentModel
from cb_core.training.sampling import Pairs
from cb_runtime.contract import INPUT_NAMES, LABELS, Preprocessing
from cb_runtime.golden import GoldenSamples

SAMPLES = 256
"""Golden samples made when the validation split has as many pairs."""

BATCH = 16


def golden_indices(labels: Sequence[int], count: int = SAMPLES) -> list[int]:
    """Choose pairs so that every class takes part as equally as it can, spread evenly over the split."""
    members = [np.flatnonzero(np.asarray(labels) == label) for label in range(len(LABELS))]
    chosen = [
        indices[np.linspace(0, len(indices) - 1, quota).round().astype(int)]
        for indices, quota in zip(members, _quotas([len(indices) for indices in members], count), strict=True)
        if quota
    ]
    return sorted(int(index) for index in np.concatenate(chosen)) if chosen else []


def _quotas(available: Sequence[int], count: int) -> list[int]:
    quotas = [0] * len(available)
    while (open_classes := [i for i, size in enumerate(available) if quotas[i] < size]) and sum(quotas) < count:
        share = max(1, (count - sum(quotas)) // len(open_classes))
        for i in open_classes:
            quotas[i] += min(share, available[i] - quotas[i], count - sum(quotas))
    return quotas


def make_golden_samples(
    architecture: nn.Module,
    preprocessing: Preprocessing,
    pairs: Pairs,
    labels: Sequence[int],
    device: torch.device | str = "cpu",
) -> GoldenSamples:
    """Run an architecture on chosen pairs as its deployment does: float32, evaluation mode, uint8 pictures.

    Args:
        architecture: The model; its mode is left as it was.
        preprocessing: The contract's preprocessing.
        pairs: Validation pairs, not augmented.
        labels: Label of each pair.
        device: Where the architecture is.
    """
    indices = golden_indices(labels)
    samples = pairs.__getitems__(indices)
    inputs = {name: np.stack([np.asarray(sample[name]) for sample in samples]) for name in INPUT_NAMES}
    model = DeploymentModel(architecture, preprocessing).to(device)
    was_training = architecture.training
    model.eval()
    try:
        logits = [_logits(model, inputs, start, device) for start in range(0, len(indices), BATCH)]
    finally:
        architecture.train(was_training)
    return GoldenSamples(inputs, np.concatenate(logits), np.asarray([labels[i] for i in indices], dtype=np.int64))


def _logits(
    model: DeploymentModel, inputs: dict[str, NDArray[Any]], start: int, device: torch.device | str
) -> NDArray[np.float32]:
    batch = (torch.from_numpy(inputs[name][start : start + BATCH]).to(device) for name in INPUT_NAMES)
    with torch.inference_mode(), full_float32():
        result: NDArray[np.float32] = model(*batch).cpu().numpy()
    return result
