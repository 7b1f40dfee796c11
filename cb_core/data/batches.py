"""Batches in which each picture is there once, however many pairs it takes part in."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cb_runtime.contract import LABELS

Sample = dict[str, Any]
"""`ocr_viz`, `frame1`, `frame2`: uint8 (48, 480, 3); `spatial_features`: float32 (6,); `font_embedding`: float32
(512,); `label`: int."""

Batch = dict[str, Tensor]
"""Pairs with each picture once. `frames`: uint8 (frames, 48, 480, 3); `frame1_index`, `frame2_index`: int64 (batch,),
places in `frames`; `pictures`: uint8 (pictures, 48, 480, 3), `ocr_viz`; `picture_index`: int64 (batch,), places in
`pictures`; `spatial_features`: float32 (batch, 6); `font_embedding`: float32 (batch, 512); `label`: int64 (batch,);
`pair`: int64 (batch,), indices of the dataset.
Of each frame: `presence`: float32 (frames,), 1 where it shows a caption; `extent`: float32 (frames, COLUMNS), NaN where
not known (see `cb_core.data.extents`)."""

_SHOWN = {
    "same": (True, True),
    "different": (True, True),
    "empty_empty": (False, False),
    "empty_valid": (False, True),
    "valid_empty": (True, False),
}

SHOWS_CAPTION = np.array([_SHOWN[label] for label in LABELS])
"""Whether the first and the second frame of a pair of each label show a caption: bool (5, 2)."""


class Augment(Protocol):
    """Alters what one camera saw; `cb_core.data.augmentation.PairAugmentation` is one."""

    def __call__(self, sample: Sample) -> Sample:
        """Return an altered sample."""
        ...

    def alter(self, picture: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return `ocr_viz` (48, 480, 3) and frames (frames, 48, 480, 3), uint8, all altered alike."""
        ...

    def placed(self, spatial_features: Tensor) -> Tensor:
        """Return `spatial_features` (batch, 6), altered row by row."""
        ...


def unique_frames(
    camera: NDArray[np.int64], strips: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the frames that pairs share.

    Args:
        camera: Number of each pair's camera (pairs,).
        strips: Keys of each pair's two strips (pairs, 2).

    Returns:
        Camera and strip of each frame (frames, 2), sorted; the places of each pair's two among them (pairs, 2); and the
        place of each frame in `strips`, laid flat (frames,).
    """
    rows = np.stack((np.repeat(camera, 2), strips.ravel()), axis=1)
    keys, first, places = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return keys, places.reshape(-1, 2), first
