"""What int8 is calibrated on: a part of the golden samples that parity is not judged on, or pairs of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cb_export.dataset_pairs import pairs_from_dataset, pictures_of_rows
from cb_runtime.backends import Feeds
from cb_runtime.contract import INPUT_NAMES, ModelMetadata
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
        shared = len(set(pictures_of_rows(self.inputs)) & set(pictures_of_rows(self.judged.inputs)))
        return {
            "source": self.source,
            "samples": len(self.inputs[INPUT_NAMES[0]]),
            "sha256": digest.hexdigest(),
            "dataset_digest": self.dataset_digest,
            "overlaps_parity": shared > 0,
        }


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

    Raises what `pairs_from_dataset` raises.
    """
    pairs = pairs_from_dataset(database, "train", SAMPLES, metadata)
    return Calibration(pairs.inputs, "training pairs of a dataset, of every label", golden, pairs.dataset_digest)
