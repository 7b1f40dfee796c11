"""Choose the pairs of one video, from what is known of each of its frames.

Every boundary is crossed at every distance, at a random phase; frames beside boundaries are taken as hard examples of
"no change" (the faint end of a fade); and each pair comes in both orders. Where `different` is rare, because captions
of this video never follow each other directly, frames of two captions further apart stand in for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cb_core.data.timeline import EMPTY, UNKNOWN
from cb_runtime.contract import LABELS, REVERSED_LABEL

SAME, DIFFERENT, EMPTY_EMPTY, EMPTY_VALID, VALID_EMPTY = range(len(LABELS))

PHASES = 3
"""Random phases at which a boundary is crossed at each distance, while there is room."""

EDGE = 4
"""Frames on either side of a boundary that count as beside it."""

TRIES = 2
"""Random pairs drawn for each one wanted: some are drawn twice or are of no use."""

States = NDArray[np.int64]
PairPlan = list[tuple[int, int, int]]
"""`(frame1, frame2, label)`, sorted."""


def plan_pairs(
    states: States,
    texts: Sequence[str | None],
    distances: Sequence[int],
    pairs_per_video: int,
    rng: np.random.Generator,
) -> PairPlan:
    """Choose pairs of one video.

    Args:
        states: Per frame: index of its caption, `EMPTY` or `UNKNOWN`.
        texts: Text per caption; pairs of two captions that say the same are left out, because they look the same.
        distances: Frames between the two of a pair.
        pairs_per_video: Pairs at most, both orders counted; a fifth of them for each label.
        rng: Decides what is random.
    """
    quota = pairs_per_video // len(LABELS)
    crossing = _Chosen(states, texts)
    crossing.add(_across_boundaries(states, distances, rng))
    plan: PairPlan = []
    for label, source in (
        (SAME, _calm(states, states >= 0, distances, TRIES * quota, rng)),
        (DIFFERENT, _between_captions(states, distances, TRIES * quota, rng)),
        (EMPTY_EMPTY, _calm(states, states == EMPTY, distances, TRIES * quota, rng)),
    ):
        chosen = _Chosen(states, texts, [pair for pair in crossing.pairs if crossing.pairs[pair] == label])
        chosen.add(source, only=label, limit=quota // 2)
        plan += [(*pair, label) for pair in list(chosen.pairs)[: quota // 2]]
    changes = [pair for pair, label in crossing.pairs.items() if label in (EMPTY_VALID, VALID_EMPTY)]
    plan += [(*pair, crossing.pairs[pair]) for pair in changes[:quota]]
    return sorted(plan + [(second, first, REVERSED_LABEL[label]) for first, second, label in plan])


def label_of(state1: int, state2: int) -> int:
    """Return the label of two annotated frames."""
    if state1 == EMPTY:
        return EMPTY_EMPTY if state2 == EMPTY else EMPTY_VALID
    if state2 == EMPTY:
        return VALID_EMPTY
    return SAME if state1 == state2 else DIFFERENT


class _Chosen:
    """Pairs in the order they were chosen, each once, annotated, and not ambiguous."""

    def __init__(self, states: States, texts: Sequence[str | None], first: Iterable[tuple[int, int]] = ()) -> None:
        self._states = states
        self._texts = texts
        self.pairs: dict[tuple[int, int], int] = {}
        self.add(first)

    def add(self, pairs: Iterable[tuple[int, int]], *, only: int | None = None, limit: int | None = None) -> None:
        for pair in pairs:
            if limit is not None and len(self.pairs) >= limit:
                return
            label = self._label(*pair)
            if label is not None and only in (None, label):
                self.pairs.setdefault(pair, label)

    def _label(self, first: int, second: int) -> int | None:
        state1, state2 = int(self._states[first]), int(self._states[second])
        if UNKNOWN in (state1, state2):
            return None
        label = label_of(state1, state2)
        same_words = label == DIFFERENT and self._texts[state1] == self._texts[state2] is not None
        return None if same_words else label


def _across_boundaries(states: States, distances: Sequence[int], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    boundaries = np.flatnonzero(np.diff(states)) + 1
    for _ in range(PHASES):
        # Shuffled, so that a limit on pairs leaves a fair choice of boundaries and distances.
        crossings = [(int(boundary), distance) for boundary in boundaries for distance in distances]
        for boundary, distance in (crossings[place] for place in rng.permutation(len(crossings))):
            first = boundary - 1 - int(rng.integers(distance))
            if first >= 0 and first + distance < len(states):
                yield first, first + distance


def _calm(
    states: States, member: NDArray[np.bool_], distances: Sequence[int], attempts: int, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Give pairs in which nothing changes: at every distance and far apart, every other one beside a boundary."""
    frames, edges = np.flatnonzero(member), np.flatnonzero(member & _beside_boundaries(states))
    for attempt in range(attempts if len(frames) else 0):
        first = int(rng.choice(edges if attempt % 2 and len(edges) else frames))
        place = attempt // 2 % (len(distances) + 1)
        if place < len(distances):
            second = first + distances[place] * int(rng.choice((-1, 1)))
        else:
            second = int(rng.choice(np.flatnonzero(states == states[first])))
        far_enough = place < len(distances) or abs(second - first) > distances[-1]
        if 0 <= second < len(states) and far_enough:
            yield (min(first, second), max(first, second))


def _beside_boundaries(states: States) -> NDArray[np.bool_]:
    near = np.zeros(len(states), bool)
    for boundary in np.flatnonzero(np.diff(states)) + 1:
        near[max(0, boundary - EDGE) : boundary + EDGE] = True
    return near


def _between_captions(
    states: States, distances: Sequence[int], attempts: int, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Give pairs of two captions far apart, every other one of neighbours, whose backgrounds are most alike."""
    captions = np.unique(states[states >= 0])
    for attempt in range(attempts if len(captions) > 1 else 0):
        place = int(rng.integers(len(captions) - 1))
        other = place + 1 if attempt % 2 else int(rng.integers(place + 1, len(captions)))
        first, second = (int(rng.choice(np.flatnonzero(states == captions[at]))) for at in (place, other))
        if second - first > distances[-1]:
            yield (first, second)
