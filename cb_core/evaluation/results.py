"""What an evaluation gives: one `VideoEvaluation` per video, and the `Evaluation` of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cb_core.evaluation.metrics import (
    Metrics,
    boundary_scores_of,
    calibration_of,
    error_statistics,
    hard_cuts_of,
    sum_counts,
)
from cb_core.evaluation.outcomes import BoundaryOutcome, CaptionCounts, EdgeError
from cb_core.evaluation.slices import BOUNDARY
from cb_runtime.geometry import Box


@dataclass(frozen=True)
class LayoutOutcome:
    """Whether the captions' place was found."""

    expected: bool
    """Whether the video has captions."""
    found: bool
    """Whether a caption region was found."""
    region: Box | None
    """The region found."""
    true_region: Box | None
    """Smallest rectangle that holds all captions; None when the truth does not tell places."""
    coverage: float | None
    """Share of the true region that lies in the region found, in [0, 1]; None without a true region."""
    iou: float | None
    """Intersection over union of both, in [0, 1]; None without a true region."""


@dataclass(frozen=True)
class Cost:
    """What one video, or all together, cost."""

    frames: int
    layout_seconds: float
    """Wall time of finding the layout; 0 when it was given."""
    layout_cpu_seconds: float
    """CPU time of it, over all threads of the process."""
    scoring_seconds: float
    """Wall time of decoding the video, preparing strips and scoring."""
    scoring_cpu_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, with the rates that follow."""
        frames, wall = self.frames, self.layout_seconds + self.scoring_seconds
        return {
            **asdict(self),
            "frames_per_second": frames / wall if wall else None,
            "scoring_frames_per_second": frames / self.scoring_seconds if self.scoring_seconds else None,
            "layout_cpu_seconds_per_frame": self.layout_cpu_seconds / max(frames, 1),
            "scoring_cpu_seconds_per_frame": self.scoring_cpu_seconds / max(frames, 1),
        }


@dataclass(frozen=True)
class VideoEvaluation:
    """How well the captions found in one video agree with its truth."""

    video: Path
    truth: Path
    slices: dict[str, str]
    """Name of a property of the video to its value."""
    outcomes: tuple[BoundaryOutcome, ...]
    """Boundaries found, missed and false, in time order."""
    edges: tuple[EdgeError, ...]
    """Onset and offset errors of matched captions."""
    captions: CaptionCounts
    confusion: tuple[tuple[int, ...], ...]
    """Neighbouring pairs by true label (row) and predicted label (column), `(5, 5)`."""
    layout: LayoutOutcome
    cost: Cost
    partial: bool = False
    """True when parts of the video could not be read."""
    messages: tuple[str, ...] = ()
    """What the user should know; one line each."""
    resumed: bool = False
    """True when it was done by an earlier run."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `video_from_dict` reads them back."""
        return {**asdict(self), "video": str(self.video), "truth": str(self.truth)}


def video_from_dict(values: Mapping[str, Any]) -> VideoEvaluation:
    """Read what `VideoEvaluation.to_dict` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    layout = {**values["layout"]}
    for name in ("region", "true_region"):
        layout[name] = layout[name] and Box(**layout[name])
    return VideoEvaluation(
        **{
            **values,
            "video": Path(values["video"]),
            "truth": Path(values["truth"]),
            "outcomes": tuple(_with_tuples(BoundaryOutcome, outcome) for outcome in values["outcomes"]),
            "edges": tuple(_with_tuples(EdgeError, edge) for edge in values["edges"]),
            "captions": _with_tuples(CaptionCounts, values["captions"]),
            "confusion": tuple(map(tuple, values["confusion"])),
            "layout": LayoutOutcome(**layout),
            "cost": Cost(**values["cost"]),
            "messages": tuple(values["messages"]),
        }
    )


def _with_tuples(kind: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401  (any of the dataclasses above)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@dataclass(frozen=True)
class Evaluation:
    """How well a model does over many videos."""

    videos: tuple[VideoEvaluation, ...]
    model: Mapping[str, Any]
    """What `BoundaryPredictor.model` says: name, sha256, architecture, backend, device."""
    settings: Mapping[str, Any]
    """Layout mode and decoding; plain JSON types."""
    failed: Mapping[str, str]
    """Video to the reason why it could not be evaluated."""
    without_truth: tuple[str, ...] = ()
    """Videos that have no truth beside them; they were left out."""

    @cached_property
    def overall(self) -> Metrics:
        """Metrics over all videos."""
        return _metrics_of(self.videos)

    @cached_property
    def slices(self) -> dict[str, dict[str, Metrics]]:
        """Metrics by name and value of a property; under `boundary`, by kind of boundary."""
        found = {name: self._by_property(name) for name in sorted({name for one in self.videos for name in one.slices})}
        return {**found, BOUNDARY: self._by_kind()}

    def worst_slices(self) -> list[tuple[str, Metrics]]:
        """Return `name: value` and metrics of all slices, the worst F1 at tolerance 0 first."""
        every = [(f"{name}: {value}", one) for name, values in self.slices.items() for value, one in values.items()]
        return sorted(every, key=lambda slice_: (slice_[1].boundaries[0].f1, slice_[1].boundaries[1].f1))

    @property
    def cost(self) -> Cost:
        """What all videos cost together."""
        names = ("frames", "layout_seconds", "layout_cpu_seconds", "scoring_seconds", "scoring_cpu_seconds")
        return Cost(*(sum(getattr(one.cost, name) for one in self.videos) for name in names))

    def layout_to_dict(self) -> dict[str, Any]:
        """Return how well captions' places were found, plain JSON types."""
        layouts = [one.layout for one in self.videos]
        with_captions = [layout for layout in layouts if layout.expected]
        coverages = [layout.coverage for layout in with_captions if layout.coverage is not None]
        ious = [layout.iou for layout in with_captions if layout.iou is not None]
        return {
            "videos_with_captions": len(with_captions),
            "found": sum(layout.found for layout in with_captions),
            "found_without_captions": sum(layout.found for layout in layouts if not layout.expected),
            "mean_coverage": sum(coverages) / len(coverages) if coverages else None,
            "least_coverage": min(coverages, default=None),
            "mean_iou": sum(ious) / len(ious) if ious else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: everything but the pictures."""
        slices = {
            name: {value: metrics.to_dict() for value, metrics in values.items()}
            for name, values in self.slices.items()
        }
        return {
            "model": dict(self.model),
            "settings": dict(self.settings),
            "overall": self.overall.to_dict(),
            "slices": slices,
            "layout": self.layout_to_dict(),
            "cost": self.cost.to_dict(),
            "videos": [_video_summary(one) for one in self.videos],
            "failed": dict(self.failed),
            "without_truth": list(self.without_truth),
        }

    def _by_property(self, name: str) -> dict[str, Metrics]:
        values = sorted({one.slices[name] for one in self.videos if name in one.slices})
        return {value: _metrics_of([one for one in self.videos if one.slices.get(name) == value]) for value in values}

    def _by_kind(self) -> dict[str, Metrics]:
        kinds = sorted({kind for one in self.videos for outcome in one.outcomes for kind in outcome.kinds})
        return {kind: self._of_kind(kind) for kind in kinds}

    def _of_kind(self, kind: str) -> Metrics:
        with_it = [one for one in self.videos if any(kind in outcome.kinds for outcome in one.outcomes)]
        outcomes = [outcome for one in with_it for outcome in one.outcomes if kind in outcome.kinds]
        return _metrics(len(with_it), outcomes, [edge for one in with_it for edge in one.edges if kind in edge.kinds])


def _metrics_of(videos: Iterable[VideoEvaluation]) -> Metrics:
    chosen = list(videos)
    outcomes = [outcome for one in chosen for outcome in one.outcomes]
    edges = [edge for one in chosen for edge in one.edges]
    return _metrics(len(chosen), outcomes, edges, chosen)


def _metrics(
    videos: int,
    outcomes: Sequence[BoundaryOutcome],
    edges: Sequence[EdgeError],
    whole: Sequence[VideoEvaluation] | None = None,
) -> Metrics:
    return Metrics(
        videos=videos,
        boundaries=boundary_scores_of(outcomes),
        hard_cuts=boundary_scores_of(hard_cuts_of(outcomes)),
        onset=error_statistics(edges, start=True),
        offset=error_statistics(edges, start=False),
        calibration=calibration_of(outcomes),
        captions=None if whole is None else sum_counts(one.captions for one in whole),
        confusion=None if whole is None else np.sum([np.array(one.confusion) for one in whole], axis=0, dtype=np.int64),
    )


def _video_summary(one: VideoEvaluation) -> dict[str, Any]:
    metrics = _metrics_of([one])
    document = one.to_dict()
    for name in ("edges", "confusion", "captions", "outcomes"):
        del document[name]
    problems = [outcome for outcome in one.outcomes if outcome.problem]
    return {
        **document,
        "cost": one.cost.to_dict(),
        "boundaries": [scores.to_dict() for scores in metrics.boundaries],
        "captions": metrics.to_dict()["captions"],
        "pair_macro_f1": metrics.pair_macro_f1,
        "problems": [{"problem": outcome.problem, **asdict(outcome)} for outcome in problems],
    }
