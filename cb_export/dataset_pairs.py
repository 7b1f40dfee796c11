"""Labelled pairs of a dataset, as an exported graph takes them: to calibrate on, and to judge on."""

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


@dataclass(frozen=True)
class DatasetPairs:
    """Pairs of one split."""

    inputs: Mapping[str, NDArray[Any]]
    """The five inputs in graph form, first axis the pair."""
    labels: NDArray[np.int64]
    """int64 `(n,)`: index into `LABELS`."""
    dataset_digest: str


def pairs_from_dataset(database: str | Path, split: str, count: int, metadata: ModelMetadata) -> DatasetPairs:
    """Return pairs of a split, of every label as many, from all over the split.

    Args:
        database: A dataset of `cb dataset create`.
        split: `train`, `val` or `test`.
        count: Pairs at most.
        metadata: Says how the model wants its inputs.

    Raises:
        InputError: No dataset, or one without pairs in the split, or without the font embeddings that the model takes.
        UsageError: A dataset whose strips are made otherwise than the model's.
    """
    from cb_core.data.database import public_name
    from cb_core.data.torch_dataset import PairDataset
    from cb_core.training.golden import golden_indices

    pairs = PairDataset(
        database,
        split,
        use_font_embedding=metadata.use_font_embedding,
        ocr_viz_variant=metadata.ocr_viz_variant,
        cache_mib=0,
    )
    if pairs.summary.preprocessing != metadata.preprocessing:
        raise UsageError(
            f"The strips of {public_name(database)} were made with {pairs.summary.preprocessing}, the model takes "
            f"{metadata.preprocessing}. Give a dataset made as the one it was trained on."
        )
    indices = golden_indices(pairs.labels.tolist(), count)
    samples = pairs.__getitems__(indices)
    inputs = {name: np.stack([np.asarray(row[name]) for row in samples]) for name in INPUT_NAMES}
    return DatasetPairs(inputs, pairs.labels[indices], pairs.summary.digest)


def pictures_of_rows(inputs: Feeds) -> list[bytes]:
    """Return a digest of the three pictures of each sample."""
    pictures = [inputs[name] for name in IMAGE_INPUTS]
    return [hashlib.sha256(b"".join(map(np.ndarray.tobytes, row))).digest() for row in zip(*pictures, strict=True)]
