"""The classical method: captions are where strong edges stand still, and end where those edges change.

The caption region is brought to a fixed height and its edges marked. Edges that are also there in a neighbouring frame
are text more often than background; their density says whether a caption is shown (with hysteresis), and how much of
them changes from frame to frame says whether it became another one. Thresholds were chosen on `cb synth` videos by
`tune_baselines.py`, never on the test set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cb_runtime.video.types import Image

HEIGHT = 72
"""Rows that the caption region is brought to."""
_LONGEST = 960
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class EdgeRules:
    """How edges become captions."""

    strength: int = 360
    """Gradient, in grey levels over two pixels and weighted as Sobel does, from which a pixel is an edge."""
    present: float = 0.2
    """A caption begins where the density of still edges exceeds this share of the video's range of densities."""
    absent: float = 0.18
    """It ends where the density falls below this share."""
    least_range: float = 0.005
    """A video whose densities range over less shows no caption."""
    change: float = 0.1
    """Share of the edges that must come or go at once for a new caption."""
    shortest_seconds: float = 0.12
    """Captions shorter than this are dropped, and gaps up to half of it closed."""


@dataclass(frozen=True)
class EdgeSignals:
    """What the edges of a video say, per frame."""

    density: NDArray[np.float64]
    """Share of the region's pixels that are still edges, in [0, 1]."""
    change: NDArray[np.float64]
    """Share of the edges of this frame and the one before that only one of them has, in [0, 1]."""


def edge_mask(image: Image, strength: int) -> Mask:
    """Return where a crop, uint8 RGB, has strong edges, at the fixed height."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    width = min(_LONGEST, max(1, round(gray.shape[1] * HEIGHT / gray.shape[0])))
    gray = cv2.resize(gray, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    horizontal, vertical = (cv2.Sobel(gray, cv2.CV_16S, *axis) for axis in ((1, 0), (0, 1)))
    mask: Mask = np.abs(horizontal) + np.abs(vertical) >= strength
    return mask


def edge_signals(masks: Iterable[Mask]) -> EdgeSignals:
    """Return densities and changes of a video's edge masks; holds two frames at a time."""
    still: list[float] = []
    change: list[float] = []
    before: Mask | None = None
    for mask in masks:
        both = 0.0 if before is None else float((mask & _thick(before)).sum())
        if before is not None:
            alone = float((mask & ~_thick(before)).sum() + (before & ~_thick(mask)).sum())
            change.append(alone / max(1.0, float(mask.sum() + before.sum())))
        still.append(both / mask.size)
        before = mask
    # A caption's first frame is still towards the next frame only, its last towards the one before.
    density = np.maximum(still, [*still[1:], 0.0])
    return EdgeSignals(density, np.array([0.0, *change]))


def _thick(mask: Mask) -> Mask:
    thick: Mask = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return thick


def captions_from_edges(signals: EdgeSignals, rate: float, rules: EdgeRules) -> list[tuple[int, int]]:
    """Return captions as `[start, end)` in frames at `rate` frames per second."""
    low, high = np.percentile(signals.density, (5, 95))
    if high - low < rules.least_range:
        return []
    begin, cease = (low + share * (high - low) for share in (rules.present, rules.absent))
    shortest = max(2, round(rules.shortest_seconds * rate))
    runs = _closed(_present(signals.density, begin, cease), shortest // 2)
    pieces = [piece for run in runs for piece in _split(run, signals.change, rules.change, shortest)]
    return [(start, end) for start, end in pieces if end - start >= shortest]


def _present(density: NDArray[np.float64], begin: float, cease: float) -> Iterator[tuple[int, int]]:
    start: int | None = None
    for frame, value in enumerate([*density, -1.0]):
        if start is None and value >= begin:
            start = frame
        elif start is not None and value < cease:
            yield start, frame
            start = None


def _closed(runs: Iterable[tuple[int, int]], longest_gap: int) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and start - joined[-1][1] <= longest_gap - 1:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _split(
    run: tuple[int, int], change: Sequence[float] | NDArray[np.float64], least: float, shortest: int
) -> Iterator[tuple[int, int]]:
    start, end = run
    for frame in range(run[0] + shortest, run[1] - shortest + 1):
        if change[frame] >= least and frame - start >= shortest:
            yield start, frame
            start = frame
    yield start, end
