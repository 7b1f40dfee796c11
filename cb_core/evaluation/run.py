"""Score videos once, decode them as often as wanted, and compare each decoding with the truth."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from cb_core.evaluation.outcomes import boundary_outcomes, caption_outcomes, pair_confusion
from cb_core.evaluation.record import read_record, record_digest, record_path, write_record
from cb_core.evaluation.results import Cost, Evaluation, LayoutOutcome, VideoEvaluation
from cb_core.evaluation.truth import VideoTruth, check_frames, check_timeline, find_truth, read_video_truth
from cb_runtime.decoding import DecodeOptions
from cb_runtime.errors import InputError, StorageError, UsageError
from cb_runtime.files import check_writable
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout, caption_layout
from cb_runtime.layout.ocr import TextDetector
from cb_runtime.layout.region import anchor_of_region
from cb_runtime.progress import Progress, no_progress
from cb_runtime.results import CaptionTrack
from cb_runtime.scored_video import ScoredVideo
from cb_runtime.skipping import Skipping
from cb_runtime.video import open_source
from cb_runtime.video.types import VideoInfo

AUTO, TRUTH = "auto", "truth"
LAYOUTS = (AUTO, TRUTH)
"""Where layouts come from: detected as users get them, or given by the truth, so that only the model can be wrong."""

TRUTH_PADDING = 0.15
"""Added around the captions' rectangle with `TRUTH`, as a share of its height: detected regions have some air too."""

NO_TRUTH = (
    "There is no truth beside any of the {count} videos in {place}. Put <video's stem>.truth.json (cb synth writes "
    "it), or captions that people made (.json, .ass, .vtt, .srt) beside each video."
)


class Predicts(Protocol):
    """What is evaluated; `BoundaryPredictor` is one."""

    @property
    def model(self) -> Mapping[str, Any]:
        """What results say of the model; has `sha256`, and `backend`, `precision` and `device` where they are known."""
        ...

    @property
    def skipping(self) -> Skipping:
        """What need not be looked at."""
        ...

    def score_video(
        self, path: Path, *, layout_file: Path, distances: tuple[int, ...] | None, progress: Progress
    ) -> ScoredVideo:
        """Score the pairs of one video with the layout in a file; at the model's own distances when None."""
        ...

    def decode(self, scored: ScoredVideo, options: DecodeOptions | None = None) -> CaptionTrack:
        """Return the captions that a scored video gives."""
        ...


@dataclass(frozen=True)
class EvaluateOptions:
    """How videos are evaluated."""

    layout: str = AUTO
    """One of `LAYOUTS`."""
    decode: DecodeOptions | None = None
    """None decodes as `predictor.decode` does by default."""
    output: Path | None = None
    """Folder that keeps each video's result, so that a later run can go on; None keeps none."""
    resume: bool = False
    """Take the results that `output` holds of the same videos, truths, model, engine and settings."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UsageError(f"--layout must be one of {', '.join(LAYOUTS)}, got {self.layout}.")
        if self.resume and self.output is None:
            raise UsageError("--resume needs --output: the folder in which an earlier run kept its results.")

    def to_dict(self) -> dict[str, Any]:
        """Return what decides the results, plain JSON types."""
        return {"layout": self.layout, "decode": None if self.decode is None else asdict(self.decode)}


@dataclass(frozen=True, eq=False)
class ScoredTruth:
    """One video scored, with its truth: all that comparing needs, whatever the decoding."""

    video: Path
    truth: VideoTruth
    scored: ScoredVideo | None
    """None when no captions were seen, so that nothing was scored."""
    layout: LayoutOutcome
    cost: Cost
    partial: bool
    messages: tuple[str, ...]


def videos_with_truth(videos: Iterable[Path]) -> tuple[list[tuple[Path, Path]], list[Path], dict[Path, str]]:
    """Return `(video, truth)` pairs, videos without a truth, and why a video's truth cannot be used."""
    pairs, without, failed = [], [], {}
    for video in videos:
        try:
            truth = find_truth(video)
        except InputError as error:
            failed[video] = str(error)
            continue
        if truth is None:
            without.append(video)
        else:
            pairs.append((video, truth))
    return pairs, without, failed


def evaluate_videos(
    predictor: Predicts,
    videos: Sequence[Path],
    options: EvaluateOptions | None = None,
    *,
    detector: TextDetector | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Find the captions of videos and compare them with the truth beside each.

    A video that cannot be read or does not fit its truth fails alone. What is wrong with the model, the output folder
    or a missing package concerns all videos and is raised; finished videos are kept in `options.output`.

    Args:
        predictor: The model.
        videos: Video files; the truth of each is found by name, see `cb_core.data.caption_files.find_captions`.
        options: How they are evaluated.
        detector: Finds text for the layout; rapidocr when left out.
        progress: Told about videos and about the frames of each.

    Raises:
        InputError: No video has a truth.
        StorageError: The output folder cannot be written.
        ModelError: The model cannot run.
        MissingPackageError: A layout has to be detected and rapidocr is not installed.
    """
    wanted = options or EvaluateOptions()
    pairs, without, unusable = videos_with_truth(videos)
    if not (pairs or unusable):
        places = sorted({str(video.parent) for video in videos})
        raise InputError(NO_TRUTH.format(count=len(videos), place=", ".join(places) or "the folder"))
    if wanted.output is not None:
        check_writable(wanted.output)
    failed = {str(video): reason for video, reason in unusable.items()}
    done = []
    for number, (video, truth) in enumerate(pairs):
        progress("videos", number, len(pairs))
        try:
            done.append(_evaluated(predictor, video, truth, wanted, detector, progress))
        except StorageError:
            raise
        except (InputError, UsageError) as error:
            failed[str(video)] = str(error)
    progress("videos", len(pairs), len(pairs))
    return Evaluation(tuple(done), predictor.model, _settings(predictor, wanted), failed, tuple(map(str, without)))


def _evaluated(
    predictor: Predicts,
    video: Path,
    truth: Path,
    options: EvaluateOptions,
    detector: TextDetector | None,
    progress: Progress,
) -> VideoEvaluation:
    if options.output is None:
        return compare(predictor, _scored(predictor, video, truth, options.layout, detector, progress), options.decode)
    place = record_path(options.output, video)
    digest = record_digest(predictor.model, video, truth, _settings(predictor, options))
    kept = read_record(place, digest) if options.resume else None
    if kept is not None:
        return kept
    scored = _scored(predictor, video, truth, options.layout, detector, progress)
    result = compare(predictor, scored, options.decode)
    write_record(place, digest, result)
    return result


def _settings(predictor: Predicts, options: EvaluateOptions) -> dict[str, Any]:
    return options.to_dict() | predictor.skipping.to_dict()


def score_once(
    predictor: Predicts,
    videos: Iterable[Path],
    layout: str = AUTO,
    *,
    distances: tuple[int, ...] | None = None,
    detector: TextDetector | None = None,
    progress: Progress = no_progress,
) -> Iterator[ScoredTruth]:
    """Score each video that has a truth, to be decoded in several ways with `evaluate_scored`.

    `distances` are those of the pairs, in frames; None takes the model's own. Keep the results in a list: each holds
    some hundred bytes a frame. Raises InputError or UsageError at the first video that cannot be evaluated.
    """
    EvaluateOptions(layout)
    pairs, _, failed = videos_with_truth(videos)
    for reason in failed.values():
        raise InputError(reason)
    for video, truth in pairs:
        yield _scored(predictor, video, truth, layout, detector, progress, distances)


def evaluate_scored(
    predictor: Predicts, scored: Iterable[ScoredTruth], decode: DecodeOptions | None = None, layout: str = AUTO
) -> Evaluation:
    """Decode scored videos and compare them with their truth; takes milliseconds a video."""
    results = tuple(compare(predictor, one, decode) for one in scored)
    return Evaluation(results, predictor.model, _settings(predictor, EvaluateOptions(layout, decode)), {})


def compare(predictor: Predicts, one: ScoredTruth, decode: DecodeOptions | None = None) -> VideoEvaluation:
    """Decode one scored video and compare it with its truth."""
    spans = () if one.scored is None else predictor.decode(one.scored, decode).spans
    scores = None if one.scored is None else one.scored.scores
    captions, edges = caption_outcomes(one.truth, spans)
    return VideoEvaluation(
        video=one.video,
        truth=one.truth.path,
        slices=dict(one.truth.slices),
        outcomes=tuple(boundary_outcomes(one.truth, spans, scores)),
        edges=tuple(edges),
        captions=captions,
        confusion=tuple(map(tuple, pair_confusion(one.truth, scores).tolist())),
        layout=one.layout,
        cost=one.cost,
        partial=one.partial,
        messages=one.messages,
    )


def _scored(
    predictor: Predicts,
    video: Path,
    truth_path: Path,
    mode: str,
    detector: TextDetector | None,
    progress: Progress,
    distances: tuple[int, ...] | None = None,
) -> ScoredTruth:
    truth = read_video_truth(truth_path, video)
    began, began_cpu = time.perf_counter(), time.process_time()
    with closing(open_source(video)) as source:
        if mode == TRUTH:
            layout, partial = true_layout(truth, source.info), False
        else:
            layout = caption_layout(source, detector=detector, progress=progress)
            partial = source.report.partial
    between, between_cpu = time.perf_counter(), time.process_time()
    scored = None if layout is None else _score(predictor, video, layout, distances, progress)
    if scored is not None:
        check_timeline(truth, scored.pts, scored.video.time_base)
        partial = scored.partial
    cost = Cost(
        truth.frames,
        between - began,
        between_cpu - began_cpu,
        time.perf_counter() - between,
        time.process_time() - between_cpu,
    )
    if scored is None:
        check_frames(truth, video)  # after the cost was taken: only evaluating needs this
    messages = scored.messages if scored is not None else ()
    return ScoredTruth(video, truth, scored, _layout_outcome(truth, layout), cost, partial, messages)


def _score(
    predictor: Predicts, video: Path, layout: CaptionLayout, distances: tuple[int, ...] | None, progress: Progress
) -> ScoredVideo:
    # Handed over in a file, so that finding the layout and scoring with it are timed apart.
    with TemporaryDirectory() as folder:
        file = Path(folder) / "layout.json"
        file.write_text(json.dumps(layout.to_dict()), encoding="utf-8")
        return predictor.score_video(video, layout_file=file, distances=distances, progress=progress)


def true_layout(truth: VideoTruth, info: VideoInfo) -> CaptionLayout | None:
    """Return the layout that a truth tells; None for a video without captions.

    Raises InputError when the truth does not tell where captions are.
    """
    region = truth.region
    if region is None:
        if not truth.captions:
            return None
        raise InputError(
            f"{truth.path} does not tell where captions are, which --layout truth needs. Use --layout auto, or a "
            ".truth.json as cb synth writes it."
        )
    air = max(2, round(TRUTH_PADDING * region.height))
    left, top = max(0, region.left - air), max(0, region.top - air)
    wide = Box(left, top, min(info.width, region.right + air), min(info.height, region.bottom + air))
    boxes = tuple(caption.region for caption in truth.captions if caption.region)
    anchor = anchor_of_region(wide, info.width)
    return CaptionLayout(info.width, info.height, wide, anchor, boxes, len(boxes), "boxes")


def _layout_outcome(truth: VideoTruth, layout: CaptionLayout | None) -> LayoutOutcome:
    region, true = layout.region if layout else None, truth.region
    coverage = iou = None
    if true is not None:
        common = 0 if region is None else _common_area(region, true)
        whole = true.width * true.height
        union = whole + (region.width * region.height if region else 0) - common
        coverage, iou = common / whole, common / union
    return LayoutOutcome(bool(truth.captions), region is not None, region, true, coverage, iou)


def _common_area(one: Box, other: Box) -> int:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(0, width) * max(0, height)
