"""Numbers over many boundaries and captions: of all videos, or of one slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cb_core.evaluation.boundaries import BoundaryScores
from cb_core.evaluation.outcomes import IOUS, TOLERANCES, BoundaryOutcome, CaptionCounts, Confusion, EdgeError
from cb_runtime.contract import LABELS

BINS = 10
"""Bins of equal width in which boundary scores are compared with how often they are right."""

FADE = "fade"


@dataclass(frozen=True)
class ErrorStatistics:
    """Errors in time of starts or ends, in milliseconds; predicted minus true."""

    count: int
    mean_ms: float | None
    """Signed: below 0 when predictions come early. None when there is nothing to average; so are the others."""
    mean_absolute_ms: float | None
    p95_ms: float | None
    """95th percentile of the absolute errors."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Boundaries whose scores lie in `[low, high)`; 1.0 lies in the last bin."""

    low: float
    high: float
    count: int
    score: float | None
    """Mean score, in [0, 1]; None for an empty bin."""
    right: float
    """Share of them that are right to the frame, in [0, 1]; 0 for an empty bin."""


@dataclass(frozen=True)
class Calibration:
    """Whether boundary scores mean what they say."""

    bins: tuple[ReliabilityBin, ...]

    @property
    def error(self) -> float | None:
        """Expected calibration error in [0, 1]: mean of |score - share right| over boundaries; None without any.

        M. Naeini and others, "Obtaining well calibrated probabilities using Bayesian binning", 2015.
        """
        total = sum(one.count for one in self.bins)
        gaps = sum(one.count * abs(one.score - one.right) for one in self.bins if one.score is not None)
        return gaps / total if total else None


@dataclass(frozen=True)
class Metrics:
    """How well predictions agree with the truth, over all videos or one slice."""

    videos: int
    boundaries: tuple[BoundaryScores, ...]
    """One per tolerance of `TOLERANCES`."""
    hard_cuts: tuple[BoundaryScores, ...]
    """The same without fades and the false boundaries beside them."""
    onset: ErrorStatistics
    """Starts of matched captions."""
    offset: ErrorStatistics
    """Ends of matched captions."""
    calibration: Calibration
    captions: CaptionCounts | None
    """None for a slice of boundaries, to which no whole captions belong; so are the next two."""
    confusion: Confusion | None
    """int64 `(5, 5)`: neighbouring pairs by true label (row) and predicted label (column)."""

    @property
    def pair_macro_f1(self) -> float | None:
        """Mean F1 over the labels that occur among true or predicted ones, in [0, 1]; None without pairs."""
        return None if self.confusion is None else macro_f1(self.confusion)

    @property
    def phantom_rate(self) -> float | None:
        """Share of predicted captions that are phantoms, in [0, 1]; 0 when nothing was predicted."""
        return None if self.captions is None else self.captions.phantom / max(self.captions.predicted, 1)

    @property
    def span_f1(self) -> tuple[float, ...] | None:
        """F1 of captions at each intersection over union of `IOUS`, in [0, 1]; 1 when there are none at all."""
        if self.captions is None:
            return None
        both = self.captions.true + self.captions.predicted
        return tuple(2 * hits / both if both else 1.0 for hits in self.captions.spans)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        document: dict[str, Any] = {
            "videos": self.videos,
            "boundaries": [scores.to_dict() for scores in self.boundaries],
            "hard_cuts": [scores.to_dict() for scores in self.hard_cuts],
            "onset": vars(self.onset),
            "offset": vars(self.offset),
            "calibration": {"error": self.calibration.error, "bins": [vars(one) for one in self.calibration.bins]},
        }
        if self.captions is None or self.confusion is None or self.span_f1 is None:
            return document
        counts = {name: value for name, value in vars(self.captions).items() if name != "spans"}
        document["captions"] = {**counts, "phantom_rate": self.phantom_rate}
        document["span_f1"] = {str(iou): f1 for iou, f1 in zip(IOUS, self.span_f1, strict=True)}
        pairs = {"macro_f1": self.pair_macro_f1, "labels": list(LABELS), "confusion": self.confusion.tolist()}
        return {**document, "pairs": pairs}


def boundary_scores_of(outcomes: Sequence[BoundaryOutcome]) -> tuple[BoundaryScores, ...]:
    """Return the boundary scores of some outcomes, one per tolerance of `TOLERANCES`."""
    predicted = sum(outcome.predicted_frame is not None for outcome in outcomes)
    true = sum(outcome.true_frame is not None for outcome in outcomes)
    distances = [outcome.distance for outcome in outcomes if outcome.distance is not None]
    return tuple(BoundaryScores(most, sum(d <= most for d in distances), predicted, true) for most in TOLERANCES)


def hard_cuts_of(outcomes: Iterable[BoundaryOutcome]) -> list[BoundaryOutcome]:
    """Leave out fades and the false boundaries beside them."""
    return [outcome for outcome in outcomes if FADE not in outcome.kinds]


def error_statistics(errors: Iterable[EdgeError], *, start: bool) -> ErrorStatistics:
    """Return statistics of the onset or offset errors among `errors`."""
    values = np.array([error.error_ms for error in errors if error.start == start], np.float64)
    if not len(values):
        return ErrorStatistics(0, None, None, None)
    size = np.abs(values)
    return ErrorStatistics(len(values), float(values.mean()), float(size.mean()), float(np.percentile(size, 95)))


def calibration_of(outcomes: Iterable[BoundaryOutcome]) -> Calibration:
    """Compare the scores of predicted boundaries with whether they are right to the frame."""
    cases = [(one.score, one.distance == 0) for one in outcomes if one.score is not None]
    bins = []
    for number in range(BINS):
        inside = [case for case in cases if min(int(case[0] * BINS), BINS - 1) == number]
        score, right = np.mean(inside, axis=0).tolist() if inside else (None, 0.0)
        bins.append(ReliabilityBin(number / BINS, (number + 1) / BINS, len(inside), score, right))
    return Calibration(tuple(bins))


def sum_counts(parts: Iterable[CaptionCounts]) -> CaptionCounts:
    """Add up captions of several videos."""
    counts = list(parts)
    names = [name for name in vars(CaptionCounts()) if name != "spans"]
    spans = tuple(sum(count.spans[place] for count in counts) for place in range(len(IOUS)))
    return CaptionCounts(**{name: sum(getattr(count, name) for count in counts) for name in names}, spans=spans)


def macro_f1(confusion: Confusion) -> float | None:
    """Return the mean F1 over the labels that occur in rows or columns; None when nothing does."""
    hits, both = confusion.diagonal(), confusion.sum(axis=0) + confusion.sum(axis=1)
    occurs = both > 0
    return float((2 * hits[occurs] / both[occurs]).mean()) if occurs.any() else None
