"""Contenders that find captions in the same frames of the same videos, and what their answers cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from edges import EdgeRules, EdgeSignals, captions_from_edges, edge_mask, edge_signals
from ocr_loop import OcrRules, Read, TextReader, captions_from_reads

from cb_core.evaluation import Boundary, BoundaryScores, boundaries_from_truth, boundary_scores
from cb_core.synth.truth import TRUTH_SUFFIX, read_truth
from cb_runtime import BoundaryPredictor
from cb_runtime.layout import CaptionLayout, caption_layout
from cb_runtime.video import open_source

TOLERANCES = (0, 1, 2)
Captions = list[tuple[int, int]]
"""`[start, end)` in frames."""


@dataclass(frozen=True)
class Excerpt:
    """The first frames of a video, which all contenders look at."""

    video: Path
    frames: int
    truth: tuple[Boundary, ...]
    """Boundaries inside these frames."""
    rate: float
    layout: CaptionLayout | None
    """Found by us and given to all; None when no text like a caption's was seen, and then nobody finds captions."""
    layout_cpu_seconds: float


@dataclass(frozen=True)
class Result:
    """One contender on all excerpts."""

    contender: str
    scores: tuple[BoundaryScores, ...]
    """One per tolerance, over all excerpts."""
    cpu_seconds: float
    """Process time of all threads, decoding included, layout excluded."""
    frames: int
    """How many were looked at for it: none of excerpts without a layout."""
    videos: dict[str, BoundaryScores]
    """Of each excerpt alone, at tolerance 1."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "contender": self.contender,
            "scores": [score.to_dict() for score in self.scores],
            "cpu_seconds_per_frame": self.cpu_seconds / max(1, self.frames),
            "frames": self.frames,
            "videos_at_tolerance_1": {name: _counts(score) for name, score in self.videos.items()},
        }


def _counts(score: BoundaryScores) -> dict[str, int]:
    return {"hits": score.hits, "predicted": score.predicted, "true": score.true}


Contender = Callable[[Excerpt, CaptionLayout], tuple[Captions, int]]
"""Finds captions in an excerpt; says too how many frames it looked at for them."""


def excerpts(folder: Path, names: Sequence[str], seconds: float | None) -> Iterator[Excerpt]:
    """Give the first `seconds` (None: all) of videos with their truth and layout."""
    for name in names:
        truth_file = folder / f"{name}{TRUTH_SUFFIX}"
        truth = read_truth(truth_file)
        boundaries, total = boundaries_from_truth(truth_file)
        rate = total / (truth["end_pts"] * truth["time_base"][0] / truth["time_base"][1])
        frames = total if seconds is None else min(total, round(seconds * rate))
        video = folder / truth["video"]
        began = time.process_time()
        with closing(open_source(video)) as source:
            layout = caption_layout(source)
        inside = tuple(boundary for boundary in boundaries if boundary.frame < frames)
        yield Excerpt(video, frames, inside, rate, layout, time.process_time() - began)


def compete(name: str, contender: Contender, course: Sequence[Excerpt], told: Callable[[str], None]) -> Result:
    """Run one contender over all excerpts."""
    found: list[list[int]] = []
    spent, frames = 0.0, 0
    for excerpt in course:
        captions: Captions = []
        if excerpt.layout is not None:
            began = time.process_time()
            captions, looked_at = contender(excerpt, excerpt.layout)
            spent += time.process_time() - began
            frames += looked_at
        found.append(changes(captions, excerpt.frames))
        told(f"{name}: {excerpt.video.name}")
    scores = tuple(pooled_scores(course, found, tolerance) for tolerance in TOLERANCES)
    alone = {each.video.name: boundary_scores(each.truth, at, 1) for each, at in zip(course, found, strict=True)}
    return Result(name, scores, spent, frames, alone)


def changes(captions: Iterable[tuple[int, int]], frames: int) -> list[int]:
    """Return the frames, inside an excerpt, at which the caption changes."""
    return sorted({frame for caption in captions for frame in caption if 0 < frame < frames})


def pooled_scores(course: Sequence[Excerpt], found: Sequence[Sequence[int]], tolerance: int) -> BoundaryScores:
    """Return the scores over the boundaries of all excerpts."""
    each = [boundary_scores(e.truth, frames, tolerance) for e, frames in zip(course, found, strict=True)]
    return BoundaryScores(
        tolerance, sum(s.hits for s in each), sum(s.predicted for s in each), sum(s.true for s in each)
    )


def ocr_reads(excerpt: Excerpt, layout: CaptionLayout, reader: TextReader) -> list[Read]:
    """Read the caption region in every frame."""
    with closing(open_source(excerpt.video)) as source:
        return [reader(frame.image) for frame in islice(source.frames(layout.region), excerpt.frames)]


def signals_of(excerpt: Excerpt, layout: CaptionLayout, strength: int) -> EdgeSignals:
    """Return the edge signals of the caption region."""
    with closing(open_source(excerpt.video)) as source:
        frames = islice(source.frames(layout.region), excerpt.frames)
        return edge_signals(edge_mask(frame.image, strength) for frame in frames)


def ocr_contender(rules: OcrRules) -> Contender:
    """Return the OCR loop."""
    reader = TextReader()

    def run(excerpt: Excerpt, layout: CaptionLayout) -> tuple[Captions, int]:
        reads = ocr_reads(excerpt, layout, reader)
        return captions_from_reads(reads, excerpt.rate, rules), len(reads)

    return run


def edge_contender(rules: EdgeRules) -> Contender:
    """Return the classical method."""

    def run(excerpt: Excerpt, layout: CaptionLayout) -> tuple[Captions, int]:
        signals = signals_of(excerpt, layout, rules.strength)
        return captions_from_edges(signals, excerpt.rate, rules), len(signals.density)

    return run


def cb_contender(checkpoint: Path, scratch: Path) -> Contender:
    """Return ours, on one thread; it always looks at whole videos."""
    predictor = BoundaryPredictor(checkpoint, device="cpu", threads=1, measure=False)

    def run(excerpt: Excerpt, layout: CaptionLayout) -> tuple[Captions, int]:
        file = scratch / "layout.json"
        file.write_text(json.dumps(layout.to_dict()), encoding="utf-8")
        track = predictor.predict_video(excerpt.video, layout_file=file)
        return [(span.start_frame, span.end_frame) for span in track.spans], track.statistics["frames"]

    return run


def full_frame_cpu_seconds(course: Sequence[Excerpt], each: int = 3) -> float:
    """Return what the OCR loop costs a frame without a region: detection and recognition on whole frames."""
    reader = TextReader()
    times = []
    for excerpt in course:
        with closing(open_source(excerpt.video)) as source:
            for frame in source.sample(each):
                began = time.process_time()
                reader(frame.image)
                times.append(time.process_time() - began)
    return sum(times) / len(times)
