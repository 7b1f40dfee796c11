"""Inputs to time a model with: what they show has no influence on how long it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import ModelMetadata


def random_inputs(metadata: ModelMetadata, batch: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return the five inputs of a model in graph form, `batch` rows of noise."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, NDArray[Any]] = {}
    for spec in metadata.inputs:
        shape = (batch, *(axis for axis in spec.shape[1:] if isinstance(axis, int)))
        whole = spec.dtype == "uint8"
        inputs[spec.name] = rng.integers(0, 256, shape, np.uint8) if whole else rng.random(shape, np.float32)
    return inputs
