"""How well predicted boundaries agree with the truth.

A boundary is a frame at which the caption changes: it starts, ends, or gives way to the next one without a gap. The
first and the last frame of a video are no boundaries: what happened before and after them cannot be seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cb_runtime.errors import InputError
from cb_runtime.spans import Span


@dataclass(frozen=True, order=True)
class Boundary:
    """One true boundary, with the frames that count as hitting it."""

    frame: int
    """Index of the first frame that shows the change (half opacity in a fade)."""
    first: int
    """First frame that counts: equal to `frame` for a cut, the fade's first frame for a fade."""
    last: int
    """Last frame that counts."""
    kinds: tuple[str, ...] = field(default=(), compare=False)
    """What makes it hard, e.g. `near_identical`, and `cut` or `fade`; for slices."""

    def distance(self, frame: int) -> int:
        """Return how many frames `frame` lies outside the interval that counts; 0 inside."""
        return max(self.first - frame, frame - self.last, 0)


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary precision, recall and F1 at one tolerance; each in [0, 1]."""

    tolerance: int
    """In frames."""
    hits: int
    """Predicted boundaries matched one to one with true ones."""
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        """Share of predicted boundaries that are true; 1.0 when nothing was predicted."""
        return self.hits / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        """Share of true boundaries that were predicted; 1.0 when there are none."""
        return self.hits / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "tolerance_frames": self.tolerance,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "hits": self.hits,
            "predicted": self.predicted,
            "true": self.true,
        }


def boundary_scores(truth: Iterable[Boundary], predicted: Iterable[int], tolerance: int = 0) -> BoundaryScores:
    """Match predicted frames with true boundaries one to one, nearest first.

    Args:
        truth: True boundaries.
        predicted: Predicted boundary frames.
        tolerance: How many frames a prediction may lie outside a boundary's interval.
    """
    true_list, frames = sorted(truth), sorted(predicted)
    hits = len(match_boundaries(true_list, frames, tolerance))
    return BoundaryScores(tolerance, hits, len(frames), len(true_list))


def match_boundaries(truth: Sequence[Boundary], predicted: Sequence[int], tolerance: int) -> list[tuple[int, int, int]]:
    """Match one to one, nearest first; among equally near ones, the nearest to the middle of the fade.

    Raising the tolerance only adds matches: those at a smaller one stay.

    Returns:
        `(index in truth, index in predicted, distance in frames)` of each match.
    """
    candidates = sorted(
        (boundary.distance(frame), abs(boundary.frame - frame), i, j)
        for i, boundary in enumerate(truth)
        for j, frame in enumerate(predicted)
        if boundary.distance(frame) <= tolerance
    )
    taken_true: set[int] = set()
    taken_predicted: set[int] = set()
    matches = []
    for distance, _, i, j in candidates:
        if i not in taken_true and j not in taken_predicted:
            taken_true.add(i)
            taken_predicted.add(j)
            matches.append((i, j, distance))
    return matches


def predicted_boundaries(spans: Iterable[Span], frame_count: int) -> list[int]:
    """Return the frames at which the caption changes, without the video's first and last."""
    frames = {frame for span in spans for frame in (span.start_frame, span.end_frame)}
    return sorted(frame for frame in frames if 0 < frame < frame_count)


def boundaries_from_truth(path: str | Path) -> tuple[list[Boundary], int]:
    """Read the boundaries and the frame count from a ground-truth JSON that `cb synth` wrote.

    Raises InputError when the file is not such a JSON.
    """
    try:
        truth = json.loads(Path(path).read_text(encoding="utf-8"))
        frame_count = len(truth["pts"])
        return _boundaries(truth["captions"], frame_count), frame_count
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a ground truth written by cb synth: {error!r}.") from error


def _boundaries(captions: Sequence[dict[str, Any]], frame_count: int) -> list[Boundary]:
    found: dict[int, Boundary] = {}
    for caption in captions:
        for frame, fade in (
            (caption["start_frame"], caption["fade_in"]),
            (caption["end_frame"], caption["fade_out"]),
        ):
            first, last = (fade[0], fade[1]) if fade else (frame, frame)
            if frame in found:
                first, last = min(first, found[frame].first), max(last, found[frame].last)
            found[frame] = Boundary(frame, first, last)
    return sorted(boundary for boundary in found.values() if 0 < boundary.frame < frame_count)
