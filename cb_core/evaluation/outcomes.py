"""What became of one video's boundaries and captions: predictions beside the truth, one by one.

**Boundaries** are matched one to one, nearest first, up to `TOLERANCES[-1]` frames; in a fade every frame counts, and
further predictions in it are false.

**Captions** are *linked* when they have at least half of the frames of the shorter one in common. A true caption
without a link is missed, a predicted one without a link is a phantom. A true caption linked with several predicted ones
is split, a predicted one linked with several true ones is merged. A true and a predicted caption that are linked with
each other only are matched; onset and offset errors are measured on these. Where half of two true captions is found in
one piece and the rest apart, a caption may be split and merged at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cb_core.data.sampling import label_of
from cb_core.data.timeline import UNKNOWN
from cb_core.evaluation.boundaries import Boundary, match_boundaries, predicted_boundaries
from cb_core.evaluation.truth import TrueCaption, VideoTruth
from cb_runtime.contract import LABELS, REVERSED_LABEL
from cb_runtime.scoring import PairScores
from cb_runtime.spans import Span

TOLERANCES = (0, 1, 2)
"""In frames."""

IOUS = (0.5, 0.9)
"""Temporal intersection over union from which a predicted caption counts as the true one."""

NEAR_FRAMES = 12
"""A false boundary counts in the slices of the true one nearest to it, when it is at most this far away."""

Confusion = NDArray[np.int64]


@dataclass(frozen=True)
class BoundaryOutcome:
    """A true boundary found or missed, or a false one."""

    true_frame: int | None
    """Frame of the true boundary (half opacity in a fade); None for a false one."""
    predicted_frame: int | None
    """Frame of the predicted boundary; None for a missed one."""
    distance: int | None
    """Frames by which the prediction lies outside the cut or fade, 0 to `TOLERANCES[-1]`; None without a match."""
    kinds: tuple[str, ...]
    """Slices of the true boundary; of a false one, those of the true boundary within `NEAR_FRAMES` frames."""
    seconds: float
    """When the true boundary is shown; the predicted one where there is no true one."""
    error_ms: float | None
    """Predicted minus true time; None without a match."""
    score: float | None
    """The prediction's probability of being right, in [0, 1]; None for a missed boundary."""
    probabilities: tuple[float, ...] | None
    """The model's five label probabilities of the pair before and at the boundary; None where nothing was scored."""

    @property
    def problem(self) -> str | None:
        """`missed`, `phantom` or `shifted`; None for a boundary found to the frame."""
        if self.predicted_frame is None:
            return "missed"
        if self.true_frame is None:
            return "phantom"
        return "shifted" if self.distance else None


@dataclass(frozen=True)
class EdgeError:
    """By how much the start or the end of a matched caption is off."""

    start: bool
    """True for an onset, False for an offset."""
    error_ms: float
    """Predicted minus true time."""
    kinds: tuple[str, ...]
    """Slices of the true boundary."""


@dataclass(frozen=True)
class CaptionCounts:
    """Captions of one video, or of several; see the module for the words."""

    true: int = 0
    predicted: int = 0
    matched: int = 0
    missed: int = 0
    phantom: int = 0
    split: int = 0
    """True captions that were split."""
    merged: int = 0
    """Predicted captions that merge several true ones."""
    spans: tuple[int, ...] = (0,) * len(IOUS)
    """Captions matched one to one at each intersection over union of `IOUS`."""


def boundary_outcomes(truth: VideoTruth, spans: Sequence[Span], scores: PairScores | None) -> list[BoundaryOutcome]:
    """Match predicted boundaries with true ones; in time order."""
    true = truth.boundaries()
    certainty = _boundary_scores(spans)
    predicted = [frame for frame in predicted_boundaries(spans, truth.frames) if truth.known(frame)]
    matches = {i: (j, distance) for i, j, distance in match_boundaries(true, predicted, TOLERANCES[-1])}
    found = []
    for i, boundary in enumerate(true):
        j, distance = matches.get(i, (None, None))
        at = None if j is None else predicted[j]
        found.append(_outcome(truth, boundary, at, distance, certainty, scores))
    unmatched = sorted(set(range(len(predicted))) - {j for j, _ in matches.values()})
    found += [_false_alarm(truth, true, predicted[j], certainty, scores) for j in unmatched]
    return sorted(found, key=lambda outcome: outcome.seconds)


def _outcome(
    truth: VideoTruth,
    boundary: Boundary,
    predicted: int | None,
    distance: int | None,
    certainty: dict[int, float],
    scores: PairScores | None,
) -> BoundaryOutcome:
    seconds = truth.seconds_at(boundary.frame)
    return BoundaryOutcome(
        true_frame=boundary.frame,
        predicted_frame=predicted,
        distance=distance,
        kinds=boundary.kinds,
        seconds=seconds,
        error_ms=None if predicted is None else 1000 * (truth.seconds_at(predicted) - seconds),
        score=None if predicted is None else certainty[predicted],
        probabilities=_probabilities(scores, boundary.frame),
    )


def _false_alarm(
    truth: VideoTruth, true: Sequence[Boundary], frame: int, certainty: dict[int, float], scores: PairScores | None
) -> BoundaryOutcome:
    near = min(true, key=lambda boundary: boundary.distance(frame), default=None)
    kinds = near.kinds if near is not None and near.distance(frame) <= NEAR_FRAMES else ()
    return BoundaryOutcome(
        true_frame=None,
        predicted_frame=frame,
        distance=None,
        kinds=kinds,
        seconds=truth.seconds_at(frame),
        error_ms=None,
        score=certainty[frame],
        probabilities=_probabilities(scores, frame),
    )


def _boundary_scores(spans: Sequence[Span]) -> dict[int, float]:
    """Return the score of each predicted boundary; where one caption follows another at once, the mean of both."""
    found: dict[int, list[float]] = {}
    for span in spans:
        found.setdefault(span.start_frame, []).append(span.start_score)
        found.setdefault(span.end_frame, []).append(span.end_score)
    return {frame: sum(values) / len(values) for frame, values in found.items()}


def _probabilities(scores: PairScores | None, frame: int) -> tuple[float, ...] | None:
    return None if scores is None else tuple(scores.forward[frame - 1].tolist())


def caption_outcomes(truth: VideoTruth, spans: Sequence[Span]) -> tuple[CaptionCounts, list[EdgeError]]:
    """Compare captions; those that reach into frames nobody annotated are left out."""
    predicted = [span for span in spans if _annotated(truth, span.start_frame, span.end_frame)]
    true = truth.captions
    linked = np.zeros((len(true), len(predicted)), bool)
    for i, caption in enumerate(true):
        for j, span in enumerate(predicted):
            linked[i, j] = _linked(caption, span)
    of_true, of_predicted = linked.sum(axis=1), linked.sum(axis=0)
    matched = [(i, j) for i, j in np.argwhere(linked).tolist() if of_true[i] == of_predicted[j] == 1]
    counts = CaptionCounts(
        true=len(true),
        predicted=len(predicted),
        matched=len(matched),
        missed=int((of_true == 0).sum()),
        phantom=int((of_predicted == 0).sum()),
        split=int((of_true > 1).sum()),
        merged=int((of_predicted > 1).sum()),
        spans=_span_matches(truth, predicted),
    )
    edges = truth.edges()
    errors = [error for i, j in matched for error in _edge_errors(truth, edges[2 * i : 2 * i + 2], predicted[j])]
    return counts, errors


def _annotated(truth: VideoTruth, start: int, end: int) -> bool:
    return UNKNOWN not in truth.states[start:end]


def _linked(caption: TrueCaption, span: Span) -> bool:
    common = min(caption.end_frame, span.end_frame) - max(caption.start_frame, span.start_frame)
    shorter = min(caption.end_frame - caption.start_frame, span.end_frame - span.start_frame)
    return common > 0 and 2 * common >= shorter


def _edge_errors(truth: VideoTruth, edges: Sequence[tuple[bool, Boundary]], span: Span) -> list[EdgeError]:
    """Return the errors of both ends, without those at the video's ends, which cannot be seen."""
    found = []
    for start, boundary in edges:
        frame = span.start_frame if start else span.end_frame
        if truth.known(boundary.frame):
            error = 1000 * (truth.seconds_at(frame) - truth.seconds_at(boundary.frame))
            found.append(EdgeError(start, error, boundary.kinds))
    return found


def _span_matches(truth: VideoTruth, predicted: Sequence[Span]) -> tuple[int, ...]:
    overlaps = []
    for i, caption in enumerate(truth.captions):
        for j, span in enumerate(predicted):
            if min(caption.end_frame, span.end_frame) > max(caption.start_frame, span.start_frame):
                overlaps.append((_iou(truth, caption, span), i, j))
    overlaps.sort(key=lambda overlap: (-overlap[0], *overlap[1:]))
    best: list[float] = []
    taken: set[tuple[str, int]] = set()
    for iou, i, j in overlaps:
        if not taken & {("true", i), ("predicted", j)}:
            taken |= {("true", i), ("predicted", j)}
            best.append(iou)
    return tuple(sum(iou >= least for iou in best) for least in IOUS)


def _iou(truth: VideoTruth, caption: TrueCaption, span: Span) -> float:
    """Return intersection over union in time, not in frames."""
    at = truth.seconds_at
    common = at(min(caption.end_frame, span.end_frame)) - at(max(caption.start_frame, span.start_frame))
    whole = at(max(caption.end_frame, span.end_frame)) - at(min(caption.start_frame, span.start_frame))
    return common / whole


def pair_confusion(truth: VideoTruth, scores: PairScores | None) -> Confusion:
    """Count the neighbouring pairs by true label (row) and predicted label (column), `(5, 5)`.

    Both directions count, the backward labels turned round. Left out are pairs with a frame nobody annotated and pairs
    within a fade, whose label is a matter of definition.
    """
    confusion = np.zeros((len(LABELS),) * 2, np.int64)
    if scores is None:
        return confusion
    true = _true_labels(truth)
    judged = true >= 0
    for labels in (scores.forward.argmax(axis=1), np.asarray(REVERSED_LABEL)[scores.backward.argmax(axis=1)]):
        np.add.at(confusion, (true[judged], labels[judged]), 1)
    return confusion


def _true_labels(truth: VideoTruth) -> NDArray[np.int64]:
    """Return the label of each pair of neighbours; -1 where it is not judged."""
    states = truth.states.tolist()
    pairs = pairwise(states)
    labels = np.array([-1 if UNKNOWN in pair else label_of(*pair) for pair in pairs], np.int64)
    for caption in truth.captions:
        for fade in (caption.fade_in, caption.fade_out):
            if fade is not None:
                labels[max(fade[0] - 1, 0) : fade[1]] = -1
    return labels
