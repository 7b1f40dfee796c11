"""Which changes from caption to caption are in doubt, so that a closer look at them pays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import Decoding
from cb_runtime.decoding import combined_evidence, pair_evidence
from cb_runtime.scoring import PairScores
from cb_runtime.trellis import DIFFERENT, SAME, Trellis

SURE = 6.0
"""A change is in no doubt where pairs at every distance are surer of it than of none by this much, in the mean and in
natural log units."""

HINT = -1.5
"""Within a caption, a step whose pair is surer of `same` than of `different` by no more than this may hide a change."""

APART = 4
"""Frames that a hidden change keeps from the ends of its caption and from stronger hints: what fades looks like it."""


@dataclass(frozen=True)
class Doubt:
    """A change that may be one."""

    frame: int
    """First frame after it."""
    first: int
    """First frame of the caption before it."""
    stop: int
    """First frame after the caption behind it."""


def doubtful_changes(scores: PairScores, decoding: Decoding) -> list[Doubt]:
    """Return the changes in doubt of a scored video, in time order.

    These are changes from caption to caption that the pairs see but not for certain, and within captions the steps that
    look most like one. `decoding` is the one by which captions are found; its distances must be scored.
    """
    if len(scores.forward) < 1:
        return []
    path = Trellis(decoding).best_path(combined_evidence(scores, decoding))
    surer = {
        distance: _surer(scores.forward_at[distance], scores.backward_at[distance]) for distance in scores.distances
    }
    captions = list(zip(path.starts, path.ends, strict=True))
    doubts = [
        Doubt(one[1], one[0], other[1])
        for one, other in pairwise(captions)
        if one[1] == other[0] and not _is_sure(one[0], one[1], other[1], surer)
    ]
    for first, stop in captions:
        doubts += (Doubt(frame, first, stop) for frame in _hints(first, stop, surer[1]))
    return sorted(doubts, key=lambda doubt: doubt.frame)


def _surer(forward: NDArray[np.float32], backward: NDArray[np.float32]) -> NDArray[np.float64]:
    evidence = pair_evidence(forward, backward)
    return np.asarray(evidence[:, DIFFERENT] - evidence[:, SAME])


def _is_sure(first: int, frame: int, stop: int, surer: dict[int, NDArray[np.float64]]) -> bool:
    """Tell whether the pairs across a change, within the two captions, are sure of it at every distance."""
    across = (of[max(first, frame - distance) : max(min(frame, stop - distance), 0)] for distance, of in surer.items())
    return all(pairs.mean() > SURE for pairs in across if len(pairs))


def _hints(first: int, stop: int, surer: NDArray[np.float64]) -> Iterator[int]:
    """Give the frames within a caption that may begin another: each looks more like it than any near it."""
    for frame in range(first + APART, stop - APART + 1):
        near = surer[max(first, frame - 1 - APART) : min(frame + APART, stop - 1)]
        here = surer[frame - 1]
        if here > HINT and here == near.max() and int((near == here).sum()) == 1:
            yield frame
