"""Pairs to compare models on: from golden samples or from a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import UsageError
from cb_runtime.golden import load_golden_samples
from cb_runtime.measuring.dataset_file import pairs_of_dataset

DATASET_SUFFIXES = (".db", ".sqlite", ".sqlite3")
"""Endings of dataset files."""


@dataclass(frozen=True)
class Pairs:
    """Inputs in graph form, with the true label where it is known."""

    inputs: Mapping[str, NDArray[Any]]
    """The five inputs, first axis the pair."""
    labels: NDArray[np.int64]
    """int64 `(n,)`: index into `LABELS`, or `UNLABELLED`."""
    source: str
    """Where they are from, for people."""

    def __len__(self) -> int:
        return len(self.labels)


def read_pairs(path: Path, metadata: ModelMetadata, split: str, limit: int) -> Pairs:
    """Read pairs as a model takes them.

    Args:
        path: Golden samples (`.npz`), all of which are read, or a dataset file (`.db`).
        metadata: What the model takes.
        split: Split of the dataset.
        limit: Pairs of the dataset at most, of each label as many.

    Raises:
        UsageError: A file of another kind.
        InputError: The dataset cannot be read, or was made for other inputs.
        ModelError: The golden samples cannot be read.
    """
    if path.suffix.lower() == ".npz":
        golden = load_golden_samples(path)
        return Pairs(golden.inputs, golden.labels, f"golden samples {path.name}")
    if path.suffix.lower() in DATASET_SUFFIXES:
        inputs, labels = pairs_of_dataset(path, metadata, split, limit)
        return Pairs(inputs, labels, f"{path.name}, split {split}")
    raise UsageError(
        f"--data takes golden samples (.npz) or a dataset file ({', '.join(DATASET_SUFFIXES)}), got {path}."
    )
