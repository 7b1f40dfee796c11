"""Golden samples: real pairs with PyTorch's own logits, kept beside a model so that any machine can check itself.

They are a `.npz` file of plain arrays, read without pickle: nothing in it is ever executed.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Logits
from cb_runtime.contract import INPUT_NAMES, LABELS
from cb_runtime.errors import ContractError, ModelError
from cb_runtime.files import atomic_path

UNLABELLED = -1
"""Label of a golden sample whose true label is unknown (all zeros, extremes): left out of F1, kept in all else."""

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)
# What NumPy raises for files that are cut, changed, pickled or something else altogether.


@dataclass(frozen=True)
class GoldenSamples:
    """Pairs with the logits PyTorch gave them."""

    inputs: Mapping[str, NDArray[Any]]
    """The five inputs in graph form (uint8 pictures, channels last), first axis the sample."""
    logits: Logits
    """float32 `(n, 5)`: PyTorch, float32, evaluation mode."""
    labels: NDArray[np.int64]
    """int64 `(n,)`: index into `LABELS`, or `UNLABELLED`."""

    def __post_init__(self) -> None:
        missing = [name for name in INPUT_NAMES if name not in self.inputs]
        if missing:
            raise ContractError(f"Golden samples lack {', '.join(missing)}. Write them again by training.")
        count = len(self.labels)
        lengths = {name: len(self.inputs[name]) for name in INPUT_NAMES}
        if count == 0 or self.logits.shape != (count, len(LABELS)) or set(lengths.values()) != {count}:
            raise ContractError(
                f"Golden samples must have as many inputs as labels and logits (n, {len(LABELS)}), got labels "
                f"({count},), logits {self.logits.shape}, inputs {lengths}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, count: int) -> GoldenSamples:
        """Return this many of the samples at most: of each label in turn, in their order, so that every label stays."""
        turns = np.zeros(len(self), np.int64)
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            turns[members] = np.arange(len(members))
        chosen = np.sort(np.argsort(turns, kind="stable")[:count])
        return self._chosen(chosen)

    def halves(self) -> tuple[GoldenSamples, GoldenSamples]:
        """Return two parts without a sample in common: of each label, every other one."""
        odd = np.zeros(len(self), bool)
        for label in np.unique(self.labels):
            odd[np.flatnonzero(self.labels == label)[1::2]] = True
        return self._chosen(np.flatnonzero(~odd)), self._chosen(np.flatnonzero(odd))

    def joined(self, other: GoldenSamples) -> GoldenSamples:
        """Return these samples followed by others of the same model."""
        return GoldenSamples(
            {name: np.concatenate([self.inputs[name], other.inputs[name]]) for name in INPUT_NAMES},
            np.concatenate([self.logits, other.logits]),
            np.concatenate([self.labels, other.labels]),
        )

    def _chosen(self, rows: NDArray[np.intp]) -> GoldenSamples:
        return GoldenSamples(
            {name: self.inputs[name][rows] for name in INPUT_NAMES}, self.logits[rows], self.labels[rows]
        )

    def save(self, path: str | Path) -> None:
        """Write a `.npz` file, atomically."""
        arrays: dict[str, Any] = {name: self.inputs[name] for name in INPUT_NAMES}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, logits=self.logits, labels=self.labels, **arrays)


def golden_path(model_path: str | Path) -> Path:
    """Return where a model's golden samples stand: `best.pt`, `best.onnx` -> `best.golden.npz`."""
    return Path(model_path).with_suffix(".golden.npz")


def load_golden_samples(path: str | Path, content: bytes | None = None) -> GoldenSamples:
    """Read golden samples; from `content`, where they stand in another file and `path` only names them.

    Raises ModelError when the file is missing, cut or not ours; nothing in it is executed.
    """
    try:
        with np.load(path if content is None else BytesIO(content), allow_pickle=False) as file:
            inputs = {name: file[name] for name in INPUT_NAMES if name in file}
            logits, labels = file["logits"].astype(np.float32), file["labels"].astype(np.int64)
    except FileNotFoundError as error:
        raise ModelError(
            f"Golden samples {path} are missing. `cb train` writes them beside the checkpoint; name them with --golden."
        ) from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ModelError(
            f"{path} cannot be read as golden samples ({error}). It is damaged or another file."
        ) from error
    return GoldenSamples(inputs, logits, labels)
