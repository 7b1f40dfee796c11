"""The states a video can be in from frame to frame, and the most probable path through them.

Each frame is *empty*, or shows a *caption*, or *blinks*: its caption is gone for a moment and comes back. A state is
what the last w frames were, w being the largest distance of the pairs, and the age of the caption. So each step from
frame to frame says which label every pair that ends at the later frame must have, and evidence at all distances is
weighed in one exact search (Viterbi; L. Rabiner, "A tutorial on hidden Markov models", 1989). States and steps are
found by walking from the states a video can start in; there are 18 for distances 1 to 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import LABELS, Decoding

SAME, DIFFERENT, EMPTY_EMPTY, EMPTY_VALID, VALID_EMPTY = range(len(LABELS))

CHUNK = 256
"""Steps whose scores are worked out at a time: enough to be fast, and what a long video needs stays small."""

Array = NDArray[np.float64]


class State(NamedTuple):
    """What the last frames were."""

    window: tuple[int, ...]
    """The last w frames, oldest first: 0 empty, k the k-th caption in the window, -k that caption blinking."""
    age: int
    """For how many frames on end the caption was shown, counted to its least length; 0 when the last frame is empty."""


class Step(NamedTuple):
    """One way from a frame's state to the next frame's."""

    source: int
    target: int
    labels: tuple[int, ...]
    """Label that the pair at each distance must have."""
    begins: bool
    """A caption starts at the later frame."""
    ends: bool
    """A caption was shown last at the earlier frame."""
    returns: bool
    """A caption is back from a blink at the later frame."""


@dataclass(frozen=True, eq=False)
class Path:
    """Captions along the most probable path."""

    starts: list[int]
    """First frame of each caption."""
    ends: list[int]
    """First frame after each caption; the number of frames for one that lasts to the end."""


@dataclass(frozen=True, eq=False)
class Posteriors:
    """Probabilities over all paths."""

    begins: Array
    """`(n - 1,)`: a caption starts at frame i + 1."""
    ends: Array
    """`(n - 1,)`: frame i + 1 is the first after a caption."""
    shown_first: float
    """The first frame shows a caption."""
    shown_last: float
    """The last frame shows a caption."""


class Trellis:
    """States and steps for pairs at some distances and a least length of captions.

    A caption may end, blink, or be followed by another, only once it was shown for `min_frames` on end: so its least
    length is kept. It may blink for less than w frames, so that a pair spans the blink. A video starts empty or in a
    caption of any age, and may end in a caption of any age but not in a blink.

    Args:
        decoding: Its distances, least length and penalties; evidence must have its weights already.
    """

    def __init__(self, decoding: Decoding) -> None:
        width, min_frames = decoding.distances[-1], decoding.min_frames
        roots = [State((0,) * width, 0), State((1,) * width, min_frames)]
        self.states, self.steps = _reached(roots, decoding.distances, min_frames)
        self._into = _grouped(self.steps, len(self.states), "target")
        self._out_of = _grouped(self.steps, len(self.states), "source")
        self._step_sources = np.array([step.source for step in self.steps] + [0])
        self._step_targets = np.array([step.target for step in self.steps] + [0])
        self._sources, self._targets = self._step_sources[self._into], self._step_targets[self._out_of]
        self._first = np.full(len(self.states), -np.inf)
        self._first[:2] = 0.0
        self._last = np.array([-np.inf if state.window[-1] < 0 else 0.0 for state in self.states])
        self._shown = np.array([state.window[-1] > 0 for state in self.states])
        self._required = _one_hot([step.labels for step in self.steps])
        self._begins = np.array([step.begins for step in self.steps])
        self._ends = np.array([step.ends for step in self.steps])
        returns = np.array([step.returns for step in self.steps])
        self._penalties = decoding.change_penalty * (self._begins & self._ends) + decoding.blink_penalty * returns

    def best_path(self, evidence: Array) -> Path:
        """Return the captions on the most probable path.

        Args:
            evidence: `(n - 1, distances, 5)` log-evidence for each label of the pair that ends at frame i + 1; 0 where
                there is no such pair.
        """
        chosen = np.empty((len(evidence), len(self.states)), np.uint8)
        columns = np.arange(len(self.states))
        score = self._first
        for chunk in _chunks(len(evidence)):
            rows = chosen[chunk]
            for row, scores in enumerate(self._scores(evidence[chunk])[:, self._into]):
                candidates = score[self._sources] + scores
                rows[row] = candidates.argmax(axis=0)
                score = candidates[rows[row], columns]
        return self._traced(chosen, int((score + self._last).argmax()))

    def _traced(self, chosen: NDArray[np.uint8], state: int) -> Path:
        """Follow the choices back from the last frame's state."""
        count = len(chosen)
        starts, ends = [], [count + 1] if self._shown[state] else []
        for row in range(count - 1, -1, -1):
            step = self.steps[self._into[chosen[row, state], state]]
            if step.begins:
                starts.append(row + 1)
            if step.ends:
                ends.append(row + 1)
            state = step.source
        if self._shown[state]:
            starts.append(0)
        return Path(starts[::-1], ends[::-1])

    def posteriors(self, evidence: Array) -> Posteriors:
        """Return the probabilities of starts and ends (forward-backward algorithm); arguments as in `best_path`."""
        alpha = self._alpha(evidence)
        total = np.logaddexp.reduce(alpha[-1] + self._last)
        begins, ends, beta = np.empty(len(evidence)), np.empty(len(evidence)), self._last
        for chunk in reversed(_chunks(len(evidence))):
            scores = self._scores(evidence[chunk])
            after = np.empty((len(scores), len(self.states)))
            for row, outgoing in reversed(list(enumerate(scores[:, self._out_of]))):
                after[row] = beta
                beta = np.logaddexp.reduce(beta[self._targets] + outgoing, axis=0)
            taken = np.exp(alpha[chunk][:, self._step_sources] + scores + after[:, self._step_targets] - total)
            begins[chunk], ends[chunk] = taken[:, :-1] @ self._begins, taken[:, :-1] @ self._ends
        first, last = (np.exp(values[self._shown] - total).sum() for values in (alpha[0] + beta, alpha[-1]))
        return Posteriors(begins, ends, float(first), float(last))

    def _alpha(self, evidence: Array) -> Array:
        """Return `(n, states)`: log-probability of what was seen up to each frame, and of its state."""
        alpha = np.empty((len(evidence) + 1, len(self.states)))
        alpha[0] = self._first
        for chunk in _chunks(len(evidence)):
            rows = alpha[chunk.start : chunk.stop + 1]
            for row, incoming in enumerate(self._scores(evidence[chunk])[:, self._into]):
                rows[row + 1] = np.logaddexp.reduce(rows[row][self._sources] + incoming, axis=0)
        return alpha

    def _scores(self, evidence: Array) -> Array:
        """Return the score of every step `(rows, steps + 1)`; the last column is of steps that do not exist."""
        padded = np.full((len(evidence), len(self.steps) + 1), -np.inf)
        padded[:, :-1] = evidence.reshape(len(evidence), -1) @ self._required - self._penalties
        return padded


def _chunks(count: int) -> list[slice]:
    return [slice(at, min(at + CHUNK, count)) for at in range(0, count, CHUNK)]


def _reached(roots: list[State], distances: tuple[int, ...], min_frames: int) -> tuple[list[State], list[Step]]:
    """Return all states that can be reached from the roots and all steps between them, in the order they are reached.

    Steps from the empty root come first, and of equally probable steps the first is taken: in doubt, no caption.
    """
    numbers = {state: number for number, state in enumerate(roots)}
    steps, states = [], list(roots)
    for state in states:  # grows on the way
        for symbol, age in _moves(state, min_frames):
            target = State(_canonical((*state.window[1:], symbol)), age)
            if target not in numbers:
                numbers[target] = len(numbers)
                states.append(target)
            last, labels = state.window[-1], tuple(_label(state.window[-d], symbol) for d in distances)
            begins = symbol > 0 and abs(last) != symbol
            ends, returns = last > 0 and abs(symbol) != last, last < 0 < symbol
            steps.append(Step(numbers[state], numbers[target], labels, begins, ends, returns))
    return states, steps


def _moves(state: State, min_frames: int) -> Iterator[tuple[int, int]]:
    """Give what the next frame may be, as it would stand in the window, and the age it would have."""
    window, age = state
    last, following = window[-1], max(map(abs, window)) + 1
    if last == 0:
        yield from ((0, 0), (following, 1))
        return
    if last > 0:
        yield last, min(age + 1, min_frames)
    else:
        yield -last, 1
    if last > 0 and age == min_frames:
        yield from ((0, 0), (following, 1))
    if age == min_frames and abs(last) in window[1:]:
        yield -abs(last), min_frames


def _canonical(window: tuple[int, ...]) -> tuple[int, ...]:
    """Number captions in order; frames of a blink that is over are empty frames like others."""
    numbers = {0: 0}
    for symbol in window:
        if symbol > 0:
            numbers.setdefault(symbol, len(numbers))
    blinking = window[-1]
    return tuple(
        numbers[symbol] if symbol >= 0 else -numbers[-symbol] if symbol == blinking else 0 for symbol in window
    )


def _label(earlier: int, later: int) -> int:
    if earlier > 0 and later > 0:
        return SAME if earlier == later else DIFFERENT
    if later > 0:
        return EMPTY_VALID
    return VALID_EMPTY if earlier > 0 else EMPTY_EMPTY


def _one_hot(labels: list[tuple[int, ...]]) -> Array:
    """Return `(distances x 5, steps)`: 1 where a step needs that label at that distance."""
    required: Array = np.eye(len(LABELS))[np.array(labels)].reshape(len(labels), -1)
    return required.T


def _grouped(steps: list[Step], states: int, end: str) -> NDArray[np.intp]:
    """Return the numbers of the steps at each state's `source` or `target` end, `(most, states)`.

    Where a state has fewer than most, the rest is the number of a step that does not exist: `len(steps)`.
    """
    groups = [[number for number, step in enumerate(steps) if getattr(step, end) == state] for state in range(states)]
    table = np.full((max(map(len, groups)), states), len(steps), np.intp)
    for state, group in enumerate(groups):
        table[: len(group), state] = group
    return table
