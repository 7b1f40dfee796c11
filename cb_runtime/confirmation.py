"""What pairs of frames further apart, strokes that stay and the time it takes to read say of the captions found.

Pairs of frames close to each other see the same step of the background, so they err together: where a scene cuts or
moves behind a caption, all of them may call it another one, and where there is none, all may take a texture for text.
Of pairs some frames further apart each sees another piece of what moves, while a caption stands still: a real change
looks alike to all of them, a mistaken one does not. So they are asked once more, in the mean, about each change from
caption to caption and about each caption.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cb_runtime.scene_cuts import STAY
from cb_runtime.trellis import DIFFERENT, EMPTY_EMPTY, EMPTY_VALID, SAME, VALID_EMPTY, Path

Array = NDArray[np.float64]
_Caption = tuple[int, int]
"""First frame, and first frame after it."""
_SEEN = [SAME, EMPTY_VALID, VALID_EMPTY]
"""Labels of pairs that see one caption and no other."""

CLOSER = 2.5
"""How much surer of a change than of none a closer look must be at least, in natural log units. In between: on
the first 21 videos of a development set (`development.py DEV --videos 40 --seed 78` in `benchmarks/independent/`, then
`cb evaluate`) all from 1.5 to 3.0 are alike to one boundary."""

READABLE = 0.2
"""Seconds for which even a single word is shown where captions come word by word (300 words a minute)."""

FLURRY = 4
"""Captions, one right after the other and each shorter than `READABLE`, from which on they are none."""


def looked_closer(path: Path, decided: Mapping[int, bool], min_frames: int, seconds: Sequence[float]) -> Path:
    """Return the captions, each change that was in doubt decided by a closer look at it.

    Args:
        path: Captions found.
        decided: Whether there is a change, by the first frame after it.
        min_frames: Least length of a caption in frames: none is split into shorter ones.
        seconds: When each frame is shown, and when the video ends: none is split into captions that are shorter than
            `READABLE` either. A caption that moves or grows differs from itself at any two frames, looked at closely.
    """

    def too_short(first: int, end: int) -> bool:
        return end - first < min_frames or seconds[end] - seconds[first] < READABLE

    changes = sorted(frame for frame, change in decided.items() if change)
    split: list[_Caption] = []
    for start, end in _captions(path):
        edges = [start]
        for frame in changes[bisect_right(changes, start) : bisect_left(changes, end)]:
            if not (too_short(edges[-1], frame) or too_short(frame, end)):
                edges.append(frame)
        split += itertools.pairwise([*edges, end])
    return _path(_joined(split, lambda one, other: one[1] == other[0] and not decided.get(other[0], True)))


def readable_changes(path: Path, decided: Collection[int], seconds: Sequence[float]) -> set[int]:
    """Return those changes that a closer look has decided of which both captions last long enough to be read.

    About others it says little: a caption that moves or grows differs from itself at any two frames, looked at closely.

    Args:
        path: Captions found.
        decided: First frames after the changes.
        seconds: When each frame is shown, and when the video ends.
    """
    captions = list(_captions(path))
    meeting = [one + other for one, other in itertools.pairwise(captions) if one[1] == other[0] and other[0] in decided]
    return {
        frame
        for first, frame, _, end in meeting
        if min(seconds[frame] - seconds[first], seconds[end] - seconds[frame]) >= READABLE
    }


def confirmed(
    path: Path,
    evidence: Array,
    distance: int,
    margin: float,
    decided: Collection[int] = (),
) -> Path:
    """Return the captions that pairs at a far distance confirm.

    A caption is one with that right before it, unless the pairs from the one to the other are surer of `different` than
    of `same`; where both are too short for any such pair, they are one. Then a caption is kept if its pairs, within
    itself and with the empty frames around, are surer of it than of no caption, or if there are none.

    Args:
        path: Captions found.
        evidence: `(n - distance, 5)` log-evidence for each label of the pair `(frame i, frame i + distance)`.
        distance: Of the pairs, in frames.
        margin: How much surer of a change, in the mean over the pairs, in natural log units.
        decided: Changes that a closer look has decided: those that are left are not asked about again.
    """
    surer = evidence[:, DIFFERENT] - evidence[:, SAME]

    def is_one(one: _Caption, other: _Caption) -> bool:
        if one[1] == other[0] and other[0] in decided:
            return False
        return not _change(one, other, surer, distance, margin)

    return _path(_shown(_joined(_captions(path), is_one), evidence, distance))


def joined_over_cuts(path: Path, staying: Mapping[int, float]) -> Path:
    """Return the captions, each one with that right before it where its strokes stay while the picture cuts.

    Args:
        path: Captions found.
        staying: Correlation of the strokes before and after, by the frame at which the picture cuts.
    """
    return _path(_joined(_captions(path), lambda one, other: one[1] == other[0] and staying.get(other[0], 0.0) >= STAY))


def _captions(path: Path) -> Iterator[_Caption]:
    return zip(path.starts, path.ends, strict=True)


def _path(captions: Sequence[_Caption]) -> Path:
    return Path([start for start, _ in captions], [end for _, end in captions])


def _joined(found: Iterable[_Caption], is_one: Callable[[_Caption, _Caption], bool]) -> list[_Caption]:
    """Return the captions, those joined of which `is_one` tells that they and the next are one."""
    captions: list[_Caption] = []
    for caption in found:
        captions.append(caption)
        while len(captions) > 1 and is_one(captions[-2], captions[-1]):
            captions[-2:] = [(captions[-2][0], captions[-1][1])]
    return captions


def without_flurries(path: Path, seconds: Sequence[float]) -> Path:
    """Return the captions without those that nobody could read: a texture that moves through the region looks so.

    Args:
        path: Captions found.
        seconds: When each frame is shown, and when the video ends.
    """
    kept: list[_Caption] = []
    flurry: list[_Caption] = []
    for caption in _captions(path):
        short = seconds[caption[1]] - seconds[caption[0]] < READABLE
        if flurry and not (short and flurry[-1][1] == caption[0]):
            kept += flurry if len(flurry) < FLURRY else []
            flurry = []
        (flurry if short else kept).append(caption)
    kept += flurry if len(flurry) < FLURRY else []
    return _path(kept)


def _change(one: _Caption, other: _Caption, surer: Array, distance: int, margin: float) -> bool:
    """Tell whether two captions, one after the other, are two.

    Args:
        one: The earlier.
        other: The later.
        surer: `(n - distance,)` how much surer of `different` than of `same` each pair is.
        distance: Of the pairs.
        margin: How much surer they must be in the mean.
    """
    if one[1] < other[0]:
        return True
    across = surer[max(one[0], one[1] - distance) : max(min(one[1], other[1] - distance), 0)]
    return len(across) > 0 and float(across.mean()) > margin


def _shown(captions: list[_Caption], evidence: Array, distance: int) -> list[_Caption]:
    """Return the captions that are more than background."""
    owner = np.zeros(len(evidence) + distance, np.intp)
    for number, (start, end) in enumerate(captions, 1):
        owner[start:end] = number
    kept = []
    for number, (start, end) in enumerate(captions, 1):
        near = slice(max(start - distance, 0), end)
        surer = _surer_of(number, owner[: len(evidence)][near], owner[distance:][near], evidence[near])
        if not len(surer) or surer.mean() > 0:
            kept.append((start, end))
    return kept


def _surer_of(number: int, earlier: NDArray[np.intp], later: NDArray[np.intp], evidence: Array) -> Array:
    """Return how much surer than of no caption those pairs are of one that see it and no other.

    `earlier` and `later` tell whose caption the two frames of a pair show, 0 for none.
    """
    at_start, at_end = earlier == number, later == number
    label = np.select([at_start & at_end, at_end & (earlier == 0), at_start & (later == 0)], _SEEN, EMPTY_EMPTY)
    seen = np.flatnonzero(label != EMPTY_EMPTY)
    surer: Array = evidence[seen, label[seen]] - evidence[seen, EMPTY_EMPTY]
    return surer
