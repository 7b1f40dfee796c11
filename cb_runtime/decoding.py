"""From label probabilities to captions: constrained decoding of the frame sequence.

Each frame is *empty* or shows a *caption*. The label of a pair of neighbouring frames is the label of one step between
such states: `empty_empty` stays empty, `empty_valid` starts a caption, `same` goes on with it, `different` starts the
next one at once, `valid_empty` ends it. The most probable path through these states (Viterbi; L. Rabiner, "A tutorial
on hidden Markov models", 1989) is consistent by construction: a caption that starts also ends, and a fade over many
uncertain frames still has exactly one boundary. Both directions of a pair are one piece of evidence: the mean of their
log-probabilities, the backward labels turned round. The forward-backward algorithm over the same states gives each
boundary's probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import LABELS, REVERSED_LABEL
from cb_runtime.errors import ContractError, UsageError
from cb_runtime.spans import Span

SAME, DIFFERENT, EMPTY_EMPTY, EMPTY_VALID, VALID_EMPTY = range(len(LABELS))

CONTRADICTION = "contradiction"
"""Flag of a caption at one of whose pairs the two directions claim different labels."""

PROBABILITY_FLOOR = 1e-5
"""Least probability a label is given: one pair the model is wrongly certain of must not outvote its neighbours."""

_EMPTY = 0
_IMPOSSIBLE = len(LABELS)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DecodeOptions:
    """What is known of captions beforehand."""

    min_frames: int = 1
    """Least length of a caption in frames; one that is cut by the start or end of the video may be shorter."""
    change_penalty: float = 1.0
    """How much surer of `different` than of `same` the evidence must be to split a caption, in natural log units: 1.0
    asks for odds of 2.7 to 1, 0 for even odds. Only one caption following another at once is affected."""

    def __post_init__(self) -> None:
        if self.min_frames < 1:
            raise UsageError(f"--min-frames must be 1 or more, got {self.min_frames}.")
        if not 0 <= self.change_penalty < float("inf"):
            raise UsageError(f"--change-penalty must be 0 or more, got {self.change_penalty}.")


def decode_spans(
    pts: Sequence[int],
    durations: Sequence[int],
    time_base: Fraction,
    forward: NDArray[Any],
    backward: NDArray[Any],
    options: DecodeOptions | None = None,
) -> list[Span]:
    """Return the captions of a video in time order.

    Args:
        pts: Presentation time stamp of each of n frames, in units of `time_base`.
        durations: How long each frame is shown, in the same units; 0 when unknown.
        time_base: Unit of the times, in seconds.
        forward: Label probabilities `(n - 1, 5)` of pairs `(frame i, frame i + 1)`.
        backward: Label probabilities `(n - 1, 5)` of pairs `(frame i + 1, frame i)`.
        options: What is known of captions beforehand.

    Returns:
        Spans; empty for a video of fewer than two frames, which has no pair to judge.

    Raises:
        ContractError: Arrays of other lengths, or probabilities that are not numbers in [0, 1].
    """
    _check(pts, durations, forward, backward)
    if len(pts) < 2:
        return []
    wanted = options or DecodeOptions()
    evidence = combined_evidence(forward, backward)
    evidence[:, DIFFERENT] -= wanted.change_penalty
    model = _Model(wanted.min_frames)
    starts, ends = _intervals(*model.best_path(evidence))
    label_probability, caption_probability = model.posteriors(evidence)
    doubted = contradictions(forward, backward)
    spans = []
    for start, end in zip(starts, ends, strict=True):
        spans.append(
            Span(
                start_pts=pts[start],
                end_pts=pts[end] if end < len(pts) else _end_of_video(pts, durations),
                time_base=time_base,
                start_frame=start,
                end_frame=end,
                score=_score(label_probability, caption_probability, start, end),
                flags=(CONTRADICTION,) if doubted[max(start - 1, 0) : end].any() else (),
            )
        )
    return spans


def _check(pts: Sequence[int], durations: Sequence[int], forward: NDArray[Any], backward: NDArray[Any]) -> None:
    wanted = (max(len(pts) - 1, 0), len(LABELS))
    if len(durations) != len(pts) or forward.shape != wanted or backward.shape != wanted:
        raise ContractError(
            f"{len(pts)} frames need as many durations and probabilities {wanted} in both directions, got "
            f"{len(durations)} durations, forward {forward.shape}, backward {backward.shape}."
        )
    for name, values in (("forward", forward), ("backward", backward)):
        if not ((values >= 0) & (values <= 1 + 1e-3)).all():
            raise ContractError(
                f"The {name} probabilities must be numbers in [0, 1]. Check the model with `cb verify`."
            )


def combined_evidence(forward: NDArray[Any], backward: NDArray[Any]) -> Array:
    """Return log-evidence `(n - 1, 5)` for each label of the forward pair: the mean of both directions."""
    turned = backward[:, REVERSED_LABEL]
    evidence: Array = (_log(forward) + _log(turned)) / 2
    return evidence


def _log(probabilities: NDArray[Any]) -> Array:
    return np.log(np.maximum(probabilities.astype(np.float64), PROBABILITY_FLOOR))


def contradictions(forward: NDArray[Any], backward: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for each pair whether the two directions claim different labels."""
    claimed = np.asarray(REVERSED_LABEL)[backward.argmax(axis=1)]
    differ: NDArray[np.bool_] = forward.argmax(axis=1) != claimed
    return differ


class _Model:
    """States and steps: state 0 is empty, states 1 to m are the caption's first, second, ... m-th and later frames.

    A caption may end, or be followed by another, only from state m = `min_frames`: so its least length is kept. A video
    starts empty or in state m (the caption may be older than the video), and ends in any state.
    """

    def __init__(self, min_frames: int) -> None:
        first, last = 1, min_frames
        steps = [
            (_EMPTY, _EMPTY, EMPTY_EMPTY),
            (_EMPTY, first, EMPTY_VALID),
            (last, _EMPTY, VALID_EMPTY),
            (last, first, DIFFERENT),
            (last, last, SAME),
            *((state, state + 1, SAME) for state in range(first, last)),
        ]
        self.states = last + 1
        self.start = np.full(self.states, -np.inf)
        self.start[[_EMPTY, last]] = 0.0
        self._sources, self._labels_in = _by_end(steps, self.states, at=1)
        self._targets, self._labels_out = _by_end(steps, self.states, at=0)

    def best_path(self, evidence: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the state of each of n frames and the label of each of n - 1 steps on the most probable path."""
        padded = _padded(evidence)
        score = self.start
        columns = np.arange(self.states)
        chosen = np.empty((len(evidence), self.states), np.uint8)
        for step, logs in enumerate(padded):
            candidates = score[self._sources] + logs[self._labels_in]
            chosen[step] = candidates.argmax(axis=0)
            score = candidates[chosen[step], columns]
        states = np.empty(len(evidence) + 1, np.int64)
        labels = np.empty(len(evidence), np.int64)
        states[-1] = score.argmax()
        for step in range(len(evidence) - 1, -1, -1):
            way = (chosen[step, states[step + 1]], states[step + 1])
            states[step], labels[step] = self._sources[way], self._labels_in[way]
        return states, labels

    def posteriors(self, evidence: Array) -> tuple[Array, Array]:
        """Return the probability of each label at each step `(n - 1, 5)` and of a caption at first and last frame."""
        padded = _padded(evidence)
        alpha = np.empty((len(evidence) + 1, self.states))
        alpha[0] = self.start
        for step, logs in enumerate(padded):
            alpha[step + 1] = np.logaddexp.reduce(alpha[step][self._sources] + logs[self._labels_in], axis=0)
        total = np.logaddexp.reduce(alpha[-1])
        beta = np.zeros(self.states)
        probability = np.zeros((len(evidence), _IMPOSSIBLE + 1))
        for step in range(len(evidence) - 1, -1, -1):
            onward = beta[self._targets] + padded[step][self._labels_out]
            np.add.at(probability[step], self._labels_out, np.exp(alpha[step] + onward - total))
            beta = np.logaddexp.reduce(onward, axis=0)
        ends = np.array([1 - np.exp(alpha[0, _EMPTY] + beta[_EMPTY] - total), 1 - np.exp(alpha[-1, _EMPTY] - total)])
        return probability[:, :_IMPOSSIBLE], ends


def _padded(evidence: Array) -> Array:
    """Add a column for steps that do not exist."""
    return np.pad(evidence, ((0, 0), (0, 1)), constant_values=-np.inf)


def _by_end(steps: list[tuple[int, int, int]], states: int, at: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group steps by their source (`at` 0) or target (1); return the other ends and the labels, `(most, states)`."""
    groups = [[step for step in steps if step[at] == state] for state in range(states)]
    shape = (max(map(len, groups)), states)
    others, labels = np.zeros(shape, np.intp), np.full(shape, _IMPOSSIBLE, np.intp)
    for state, group in enumerate(groups):
        for row, step in enumerate(group):
            others[row, state], labels[row, state] = step[1 - at], step[2]
    return others, labels


def _intervals(states: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Return first frame and end frame (exclusive) of each caption on a path."""
    begins = np.flatnonzero((labels == EMPTY_VALID) | (labels == DIFFERENT)) + 1
    finishes = np.flatnonzero((labels == VALID_EMPTY) | (labels == DIFFERENT)) + 1
    starts = ([0] if states[0] != _EMPTY else []) + begins.tolist()
    ends = finishes.tolist() + ([len(states)] if states[-1] != _EMPTY else [])
    return starts, ends


def _end_of_video(pts: Sequence[int], durations: Sequence[int]) -> int:
    """Return the last PTS plus its duration; where that is unknown, the last frame is as long as the one before."""
    return pts[-1] + (durations[-1] or pts[-1] - pts[-2])


def _score(label_probability: Array, caption_probability: Array, start: int, end: int) -> float:
    begins = label_probability[start - 1, [EMPTY_VALID, DIFFERENT]].sum() if start else caption_probability[0]
    frames = len(label_probability) + 1
    ends = label_probability[end - 1, [VALID_EMPTY, DIFFERENT]].sum() if end < frames else caption_probability[1]
    return float(min(max(begins * ends, 0.0), 1.0))
