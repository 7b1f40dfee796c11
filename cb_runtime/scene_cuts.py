"""What stays where the picture cuts: strokes that are the same before and after are a caption's.

Where the picture cuts from bright to dark behind a caption, thin text looks so unlike itself that the model may call it
another one. Its strokes are where they were all the same, and those of the old and the new picture are not: the
correlation of what is thin and brighter than around it, or thin and darker, tells one caption from two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cb_runtime import opencv as cv2
from cb_runtime.video.types import Image

CUT_LEVEL, CUT_SHARE = 30, 0.6
"""The picture cuts where this share of the pixels changes by more than so many grey levels in a channel."""

STROKE = 9
"""Strokes are narrower than this many pixels of the strip."""

STRONGEST = 90
"""What stands out by more grey levels counts as this many, so that no highlight outweighs the text."""

STAY = 0.6
"""Strokes that correlate by this much are the same. On the first 21 videos of a development set
(`development.py DEV --videos 40 --seed 78`, then `strokes.py DEV`, both in `benchmarks/independent/`) 47 of 59
captions over a cut do, and so do 27 of 800 pairs of frames, any time apart, with different captions over different
pictures, those with a line in common among them. Chosen there, after errors on the independent set (seeds 1 and 2) had
shown what goes wrong."""


class SceneCuts:
    """How alike the strokes before and after each cut are, gathered while a video is read."""

    def __init__(self) -> None:
        self.staying: dict[int, float] = {}
        """Correlation of the strokes of each frame at which the picture cuts and of the frame before, in [-1, 1]."""
        self._last: Image | None = None
        self._frames = 0

    def add(self, strip: Image) -> None:
        """Take the next frame's strip, uint8 RGB `(height, width, 3)`."""
        if self._last is not None and is_cut(self._last, strip):
            self.staying[self._frames] = strokes_alike(self._last, strip)
        self._last = strip.copy()
        self._frames += 1


def is_cut(before: Image, after: Image) -> bool:
    """Tell whether the picture cuts between two strips."""
    if cv2.norm(before, after, cv2.NORM_L1) < CUT_SHARE * CUT_LEVEL * before[..., 0].size:  # most frames: at once
        return False
    changed = cv2.absdiff(before, after).max(axis=2) > CUT_LEVEL
    return bool(changed.mean() >= CUT_SHARE)


def strokes_alike(one: Image, other: Image) -> float:
    """Return the correlation of the strokes of two strips, bright or dark ones, whichever are more alike."""
    return max(_correlation(*pair) for pair in zip(_strokes(one), _strokes(other), strict=True))


def _strokes(strip: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how much brighter, and how much darker, thin parts are than what is around them."""
    grey, kernel = cv2.cvtColor(strip, cv2.COLOR_RGB2GRAY), np.ones((STROKE, STROKE), np.uint8)
    bright, dark = (cv2.morphologyEx(grey, kind, kernel) for kind in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))
    return np.minimum(bright, STRONGEST).astype(np.float32), np.minimum(dark, STRONGEST).astype(np.float32)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / size if size else 0.0
