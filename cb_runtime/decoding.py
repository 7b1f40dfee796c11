"""From label probabilities to captions: constrained decoding of the frame sequence.

The most probable path through the states of `cb_runtime.trellis` is consistent by construction: a caption that starts
also ends, and a fade over many uncertain frames still has exactly one boundary. Pairs of frames further apart than one
say what neighbours cannot: a caption gone for a frame or two and back is one caption when the frames on both sides are
`same`, and a change that only one pair sees is none. Both directions of a pair are one piece of evidence: the mean of
their log-probabilities, the backward labels turned round. The forward-backward algorithm over the same states gives
each boundary's probability. A closer look then decides changes that were in doubt (`cb_runtime.closer_look`), pairs
some frames further apart confirm what was found, a caption whose strokes stay where the picture cuts is one, and what
nobody could read is dropped (`cb_runtime.confirmation`). Where a boundary is a fade, the strips say where half opacity
lies (`cb_runtime.fades`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.calibration import calibrated
from cb_runtime.confirmation import (
    CLOSER,
    confirmed,
    joined_over_cuts,
    looked_closer,
    readable_changes,
    without_flurries,
)
from cb_runtime.contract import LABELS, MAX_DISTANCE, REVERSED_LABEL, Decoding, distances_fit
from cb_runtime.errors import ContractError, UsageError
from cb_runtime.fades import Fade, StripProducts, find_fades
from cb_runtime.scoring import PairScores
from cb_runtime.spans import Span
from cb_runtime.trellis import Path, Trellis

CONTRADICTION = "contradiction"
"""Flag of a caption at one of whose neighbouring pairs the two directions claim different labels."""

PROBABILITY_FLOOR = 1e-5
"""Least probability a label is given: one pair the model is wrongly certain of must not outvote its neighbours."""

CUT_PROBABILITY = 0.98
"""Two neighbours that show a change with at least this probability show all of it: it is a cut, no fade."""

Array = NDArray[np.float64]

_CHANGES = [index for index, label in enumerate(LABELS) if label not in ("same", "empty_empty")]


@dataclass(frozen=True)
class DecodeOptions:
    """What the caller wants otherwise than the model's own `Decoding`; None takes the model's."""

    min_frames: int | None = None
    """See `Decoding`."""
    change_penalty: float | None = None
    """See `Decoding`."""
    distances: tuple[int, ...] | None = None
    """See `Decoding`."""

    def __post_init__(self) -> None:
        if self.min_frames is not None and self.min_frames < 1:
            raise UsageError(f"--min-frames must be 1 or more, got {self.min_frames}.")
        if self.change_penalty is not None and not 0 <= self.change_penalty < float("inf"):
            raise UsageError(f"--change-penalty must be 0 or more, got {self.change_penalty}.")
        if self.distances is not None and not distances_fit(self.distances):
            raise UsageError(
                f"--distances must ascend from 1 to at most {MAX_DISTANCE}, e.g. 1,2,3, got "
                f"{','.join(map(str, self.distances)) or 'none'}."
            )

    def applied_to(self, decoding: Decoding) -> Decoding:
        """Return the model's decoding with these options in place of its own; each distance keeps its weight."""
        wanted = {name: value for name, value in vars(self).items() if value is not None}
        if self.distances is not None:
            wanted["distance_weights"] = tuple(map(decoding.weight, self.distances))
        return dataclasses.replace(decoding, **wanted)


def distances_from_text(text: str) -> tuple[int, ...]:
    """Read distances as `1,2,3`. Raises UsageError when they are not whole numbers."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--distances must be whole numbers with commas between, e.g. 1,2,3, got '{text}'.") from error


def decode_spans(
    pts: Sequence[int],
    durations: Sequence[int],
    time_base: Fraction,
    scores: PairScores,
    decoding: Decoding,
    products: StripProducts | None = None,
    staying: Mapping[int, float] | None = None,
    closer: Mapping[int, float] | None = None,
) -> list[Span]:
    """Return the captions of a video in time order.

    Args:
        pts: Presentation time stamp of each of n frames, in units of `time_base`.
        durations: How long each frame is shown, in the same units; 0 when unknown.
        time_base: Unit of the times, in seconds.
        scores: Label probabilities of the video's pairs.
        decoding: How to decode them; uses the pairs at its distances.
        products: Of all n strips: finds fades, and puts their boundaries at half opacity, whatever the least length.
            None leaves them where the pairs put them.
        staying: How alike the strokes before and after each cut of the picture are (`SceneCuts`): a caption whose
            strokes stay is one.
        closer: How much surer a closer look at changes in doubt is of a change than of none, by the first frame after
            it (`cb_runtime.closer_look`): it decides them.

    Returns:
        Spans; empty for a video of fewer than two frames, which has no pair to judge.

    Raises:
        ContractError: Arrays or products of other lengths, or probabilities that are not numbers in [0, 1].
        UsageError: A distance that was not scored.
    """
    _check(pts, durations, scores, decoding)
    if products and products.frames != len(pts):
        raise ContractError(f"{len(pts)} frames need as many strips, got {products.frames}.")
    if len(pts) < 2:
        return []
    trellis = Trellis(decoding)
    evidence = combined_evidence(scores, decoding)
    path = trellis.best_path(evidence)
    decided = {frame: surer > _least(decoding) for frame, surer in (closer or {}).items()}
    times = [*pts, _end_of_video(pts, durations)]
    seconds = [float(time * time_base) for time in times]
    path = looked_closer(path, decided, decoding.min_frames, seconds)
    for distance in decoding.far_distances:
        left = readable_changes(path, decided, seconds)
        path = confirmed(path, _at(scores, distance), distance, decoding.far_margin, left)
    path = joined_over_cuts(path, staying or {})
    path = without_flurries(path, seconds)
    posteriors = trellis.posteriors(evidence)
    sure = sure_changes(scores)
    sure[[frame - 1 for frame, change in decided.items() if change]] = True
    fades = _fades(path, products, sure) if products else {}
    doubted = contradictions(scores)
    spans = []
    for first, stop in zip(path.starts, path.ends, strict=True):
        start = _edge(first, posteriors.begins, posteriors.shown_first, times, fades, decoding)
        end = _edge(stop, posteriors.ends, posteriors.shown_last, times, fades, decoding)
        spans.append(
            Span(
                start_pts=start.pts,
                end_pts=end.pts,
                time_base=time_base,
                start_frame=start.frame,
                end_frame=end.frame,
                score=start.score * end.score,
                flags=(CONTRADICTION,) if doubted[max(start.frame - 1, 0) : end.frame].any() else (),
                start_score=start.score if start.frame else 1.0,
                end_score=end.score if end.frame < len(pts) else 1.0,
                fade_in=start.fade,
                fade_out=end.fade,
                fade_in_pts=start.fade_pts,
                fade_out_pts=end.fade_pts,
            )
        )
    return spans


@dataclass(frozen=True)
class _Edge:
    """Start or end of a caption."""

    frame: int
    pts: int
    score: float
    """Calibrated probability; at the video's own start and end, that a caption is shown there."""
    fade: tuple[int, int] | None = None
    fade_pts: tuple[int, int] | None = None


def _check(pts: Sequence[int], durations: Sequence[int], scores: PairScores, decoding: Decoding) -> None:
    for distance in (*decoding.distances, *decoding.far_distances):
        if distance not in scores.distances:
            raise UsageError(
                f"Pairs at distance {distance} were not scored, only those at {', '.join(map(str, scores.distances))}. "
                "Score the video again with the distances to decode with."
            )
        wanted = (max(len(pts) - distance, 0), len(LABELS))
        forward, backward = scores.forward_at[distance], scores.backward_at[distance]
        if len(durations) != len(pts) or forward.shape != wanted or backward.shape != wanted:
            raise ContractError(
                f"{len(pts)} frames need as many durations and probabilities {wanted} in both directions at distance "
                f"{distance}, got {len(durations)} durations, forward {forward.shape}, backward {backward.shape}."
            )
        for name, values in (("forward", forward), ("backward", backward)):
            if not ((values >= 0) & (values <= 1 + 1e-3)).all():
                raise ContractError(
                    f"The {name} probabilities must be numbers in [0, 1]. Check the model with `cb verify`."
                )


def _least(decoding: Decoding) -> float:
    """Return how sure a closer look must be: as pairs must be in the mean, where more is asked of them."""
    return max(CLOSER, decoding.change_penalty / sum(decoding.distances))


def combined_evidence(scores: PairScores, decoding: Decoding) -> Array:
    """Return weighted log-evidence `(n - 1, distances, 5)` for each label of the pair that ends at frame i + 1.

    It is the mean of both directions, and 0 for all labels where there is no such pair.
    """
    evidence = np.zeros((len(scores.forward), len(decoding.distances), len(LABELS)))
    for column, distance in enumerate(decoding.distances):
        evidence[distance - 1 :, column] = _at(scores, distance) * decoding.weight(distance)
    return evidence


def _at(scores: PairScores, distance: int) -> Array:
    return pair_evidence(scores.forward_at[distance], scores.backward_at[distance])


def pair_evidence(forward: NDArray[Any], backward: NDArray[Any]) -> Array:
    """Return the log-evidence `(pairs, 5)` of pairs asked in both directions: the mean of both."""
    return (_log(forward) + _log(backward[:, REVERSED_LABEL])) / 2


def _log(probabilities: NDArray[Any]) -> Array:
    return np.log(np.maximum(probabilities.astype(np.float64), PROBABILITY_FLOOR))


def contradictions(scores: PairScores) -> NDArray[np.bool_]:
    """Tell for each pair of neighbours whether the two directions claim different labels."""
    claimed = np.asarray(REVERSED_LABEL)[scores.backward.argmax(axis=1)]
    differ: NDArray[np.bool_] = scores.forward.argmax(axis=1) != claimed
    return differ


def sure_changes(scores: PairScores) -> NDArray[np.bool_]:
    """Tell for each pair of neighbours whether both directions together are sure that the caption changes there."""
    both = np.exp(_at(scores, 1))
    sure: NDArray[np.bool_] = both[:, _CHANGES].sum(axis=1) >= CUT_PROBABILITY * both.sum(axis=1)
    return sure


def _fades(path: Path, products: StripProducts, sure: NDArray[np.bool_]) -> dict[int, Fade]:
    """Return the fades at the path's boundaries, but for those that the model sees whole.

    A background that darkens or moves around a cut may look like a fade; between neighbours of a fade too little
    changes for the model to be sure. A change that took a closer look to be seen is where that was taken.
    """
    found = find_fades(path.starts, path.ends, products)
    return {boundary: fade for boundary, fade in found.items() if not sure[boundary - 1]}


def _edge(
    frame: int, probabilities: Array, at_edge: float, pts: Sequence[int], fades: Mapping[int, Fade], decoding: Decoding
) -> _Edge:
    """Return the boundary that the path has at a frame, moved to half opacity where it is a fade.

    Args:
        frame: Where the path has it; the number of frames for an end beyond the video.
        probabilities: `(n - 1,)`: such a boundary is at frame i + 1. Those of all frames of a fade count together.
        at_edge: Probability that a caption is shown at the video's first or last frame, in place of a boundary there.
        pts: Of the frames, and of the end of the video.
        fades: Of the path's boundaries.
        decoding: How to calibrate the probability.
    """
    fade = fades.get(frame)
    if fade is None:
        inside = 0 < frame < len(pts) - 1
        probability = probabilities[frame - 1] if inside else at_edge
        return _Edge(frame, pts[frame], _calibrated(probability, decoding))
    first, last = min(fade.interval[0], frame), max(fade.interval[1], frame)
    probability = probabilities[first - 1 : last].sum()
    times = (pts[fade.interval[0]], pts[fade.interval[1]])
    return _Edge(fade.frame, pts[fade.frame], _calibrated(probability, decoding), fade.interval, times)


def _calibrated(probability: float, decoding: Decoding) -> float:
    return float(calibrated(probability, decoding.score_scale, decoding.score_offset))


def _end_of_video(pts: Sequence[int], durations: Sequence[int]) -> int:
    """Return the last PTS plus its duration; where that is unknown, the last frame is as long as the one before."""
    return pts[-1] + (durations[-1] or pts[-1] - pts[-2])
