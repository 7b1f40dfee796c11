"""The worst cases as pictures: the frame before a boundary, the frame at it, and their difference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cb_core.evaluation.outcomes import BoundaryOutcome
from cb_core.evaluation.results import Evaluation, VideoEvaluation
from cb_runtime.contract import LABELS
from cb_runtime.geometry import Box
from cb_runtime.pictures import brightened_difference, jpeg_base64
from cb_runtime.video import open_source
from cb_runtime.video.types import Image

WIDTH = 420
"""Widest picture in pixels; larger crops are scaled down."""

AROUND = 0.25
"""Shown around the caption region, as a share of its height."""


@dataclass(frozen=True)
class Case:
    """One boundary that was missed, is false, or is off, in pictures."""

    video: Path
    outcome: BoundaryOutcome
    before: str
    """JPEG of the frame before the boundary, base64."""
    after: str
    """JPEG of the boundary's frame."""
    difference: str
    """JPEG of the absolute difference, made brighter."""


def worst_outcomes(evaluation: Evaluation, limit: int) -> list[tuple[VideoEvaluation, BoundaryOutcome]]:
    """Return the `limit` worst boundaries: of each video the surest mistake first, then of each the second, ..."""
    ranked = []
    for one in evaluation.videos:
        problems = sorted((outcome for outcome in one.outcomes if outcome.problem), key=_sureness, reverse=True)
        ranked += [(rank, -_sureness(outcome), str(one.video), one, outcome) for rank, outcome in enumerate(problems)]
    ranked.sort(key=lambda entry: (*entry[:3], entry[4].seconds))
    return [(one, outcome) for *_, one, outcome in ranked[:limit]]


def _sureness(outcome: BoundaryOutcome) -> float:
    """Return how sure the model was of its mistake, in [0, 1]."""
    if outcome.problem != "missed":
        return outcome.score or 0.0
    if outcome.probabilities is None:
        return 1.0
    return outcome.probabilities[LABELS.index("same")] + outcome.probabilities[LABELS.index("empty_empty")]


def picture_cases(evaluation: Evaluation, limit: int) -> list[Case]:
    """Return the worst boundaries in pictures; reads each of their videos once.

    A boundary whose frames can no longer be read is left out. Raises InputError for a lost video.
    """
    chosen = worst_outcomes(evaluation, limit)
    pictures: dict[tuple[Path, int], Image] = {}
    for one in {id(one): one for one, _ in chosen}.values():
        frames = {at for other, outcome in chosen if other is one for at in (_frame(outcome) - 1, _frame(outcome))}
        pictures |= {(one.video, at): image for at, image in _crops(one, frames).items()}
    around = [(one, outcome, *_around(one, outcome)) for one, outcome in chosen]
    return [
        _case(one, outcome, pictures[before], pictures[after])
        for one, outcome, before, after in around
        if before in pictures and after in pictures
    ]


def _around(one: VideoEvaluation, outcome: BoundaryOutcome) -> tuple[tuple[Path, int], tuple[Path, int]]:
    frame = _frame(outcome)
    return (one.video, frame - 1), (one.video, frame)


def _frame(outcome: BoundaryOutcome) -> int:
    frame = outcome.predicted_frame if outcome.true_frame is None else outcome.true_frame
    assert frame is not None
    return frame


def _crops(one: VideoEvaluation, frames: set[int]) -> dict[int, Image]:
    found = {}
    with closing(open_source(one.video)) as source:
        for frame in source.frames(_shown(one, source.info.width, source.info.height)):
            if frame.index in frames:
                found[frame.index] = frame.image.copy()
            if len(found) == len(frames):
                break
    return found


def _shown(one: VideoEvaluation, width: int, height: int) -> Box:
    """Return what is shown of a frame: the captions' place, true or found, with some air; all when it is unknown."""
    boxes = [box.as_tuple() for box in (one.layout.region, one.layout.true_region) if box]
    if not boxes:
        return Box(0, 0, width, height)
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    air = round(AROUND * (max(bottoms) - min(tops)))
    left, top = max(0, min(lefts) - air), max(0, min(tops) - air)
    return Box(left, top, min(width, max(rights) + air), min(height, max(bottoms) + air))


def _case(one: VideoEvaluation, outcome: BoundaryOutcome, before: Image, after: Image) -> Case:
    shown = (before, after, brightened_difference(before, after))
    return Case(one.video, outcome, *(jpeg_base64(image, WIDTH) for image in shown))


def total_problems(videos: Sequence[VideoEvaluation]) -> int:
    """Return how many boundaries are missed, false or off."""
    return sum(outcome.problem is not None for one in videos for outcome in one.outcomes)
