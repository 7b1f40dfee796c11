"""More pairs to judge on than the golden samples: of a few dozen, one flip near a tie is already several percent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cb_export.dataset_pairs import pairs_from_dataset, pictures_of_rows
from cb_runtime.backends import Feeds, Logits
from cb_runtime.contract import INPUT_NAMES, ModelMetadata
from cb_runtime.errors import UsageError
from cb_runtime.golden import GoldenSamples

PAIRS = 400
"""Pairs taken of a dataset, when its validation split has as many."""

ENOUGH = 100
"""Samples from which on a share in percent means something: one flip is no more than one percent."""


@dataclass(frozen=True)
class JudgePairs:
    """Labelled pairs with PyTorch's logits, judged besides the golden samples."""

    samples: GoldenSamples
    dataset_digest: str

    def record(self) -> Mapping[str, Any]:
        """Return what the artifact's metadata says of it, as plain JSON types."""
        return {
            "source": "validation pairs of a dataset, of every label",
            "samples": len(self.samples),
            "dataset_digest": self.dataset_digest,
        }


def judge_pairs(
    database: str | Path, golden: GoldenSamples, metadata: ModelMetadata, reference: Callable[[Feeds], Logits]
) -> JudgePairs:
    """Return pairs of a dataset's validation split that are not among the golden samples, of every label as many.

    Args:
        database: A dataset of `cb dataset create`.
        golden: Golden samples of the model.
        metadata: Says how the model wants its inputs.
        reference: Returns PyTorch's float32 logits of all rows.

    Raises what `pairs_from_dataset` raises, and UsageError when all pairs are golden samples already.
    """
    found = pairs_from_dataset(database, "val", PAIRS, metadata)
    known = set(pictures_of_rows(golden.inputs))
    rows = np.flatnonzero([picture not in known for picture in pictures_of_rows(found.inputs)])
    if not len(rows):
        from cb_core.data.database import public_name

        raise UsageError(
            f"All validation pairs of {public_name(database)} are golden samples already. Judge on a dataset of other "
            "videos."
        )
    inputs = {name: found.inputs[name][rows] for name in INPUT_NAMES}
    return JudgePairs(GoldenSamples(inputs, reference(inputs), found.labels[rows]), found.dataset_digest)
