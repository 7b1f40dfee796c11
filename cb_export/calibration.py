"""What int8 is calibrated on: a part of the golden samples that parity is not judged on, or pairs of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Feeds
from cb_runtime.contract import IMAGE_INPUTS, INPUT_NAMES, ModelMetadata
from cb_runtime.errors import UsageError
from cb_runtime.golden import GoldenSamples

SAMPLES = 256
"""Pairs taken of a dataset, when its training split has as many: more no longer move the ranges."""


@dataclass(frozen=True)
class Calibration:
    """Inputs of the graph that int8 is calibrated on, and those that it is then judged on."""

    inputs: Feeds
    source: str
    """Where they come from, in words."""
    judged: GoldenSamples
    """Golden samples that parity is judged on."""
    dataset_digest: str | None = None
    """Of the dataset they come from, if they do."""

    def record(self) -> Mapping[str, Any]:
        """Return what the artifact's metadata says of it, as plain JSON types."""
        digest = hashlib.sha256()
        for name in INPUT_NAMES:
            digest.update(np.ascontiguousarray(self.inputs[name]).tobytes())
        shared = len(_pictures_of_rows(self.inputs) & _pictures_of_rows(self.judged.inputs))
        return {
            "source": self.source,
            "samples": len(self.inputs[INPUT_NAMES[0]]),
            "sha256": digest.hexdigest(),
            "dataset_digest": self.dataset_digest,
            "overlaps_parity": shared > 0,
        }


def _pictures_of_rows(inputs: Feeds) -> set[bytes]:
    """Return a digest of the three pictures of each sample."""
    pictures = [inputs[name] for name in IMAGE_INPUTS]
    return {hashlib.sha256(b"".join(map(np.ndarray.tobytes, row))).digest() for row in zip(*pictures, strict=True)}


def calibration_from_golden(golden: GoldenSamples) -> Calibration:
    """Return every other golden sample of each label to calibrate on, the rest to judge."""
    one, other = golden.halves()
    return Calibration(one.inputs, "every other golden sample of each label; parity is judged on the others", other)


def calibration_from_dataset(database: str | Path, golden: GoldenSamples, metadata: ModelMetadata) -> Calibration:
    """Return pairs of a dataset's training split to calibrate on, of every label as many; all golden samples to judge.

    Args:
        database: A dataset of `cb dataset create`.
        golden: Golden samples of the model.
        metadata: Says how the model wants its inputs.

    Raises:
        InputError: No dataset, or one without training pairs, or without the font embeddings that the model takes.
        UsageError: A dataset whose strips are made otherwise than the model's.
    """
    from cb_core.data.torch_dataset import PairDataset
    from cb_core.training.golden import golden_indices

    pairs = PairDataset(
        database,
        "train",
        use_font_embedding=metadata.use_font_embedding,
        ocr_viz_variant=metadata.ocr_viz_variant,
        cache_mib=0,
    )
    if pairs.summary.preprocessing != metadata.preprocessing:
        raise UsageError(
            f"The strips of {database} were made with {pairs.summary.preprocessing}, the model takes "
            f"{metadata.preprocessing}. Calibrate on a dataset made as the one it was trained on."
        )
    samples = pairs.__getitems__(golden_indices(pairs.labels.tolist(), SAMPLES))
    inputs: dict[str, NDArray[Any]] = {
        name: np.stack([np.asarray(row[name]) for row in samples]) for name in INPUT_NAMES
    }
    return Calibration(inputs, "training pairs of a dataset, of every label", golden, pairs.summary.digest)
