"""Read one captioned video into what a dataset keeps of it; every frame is decoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from cb_core.data.captions import CaptionFile
from cb_core.data.fonts import FontEncoder
from cb_core.data.options import BuildOptions
from cb_core.data.sampling import PairPlan, plan_pairs
from cb_core.data.spill import StripSpill
from cb_core.data.timeline import Annotation, Timeline, annotate
from cb_runtime.errors import InputError
from cb_runtime.features import VideoInputs, strip, video_inputs
from cb_runtime.layout import CaptionLayout, caption_layout
from cb_runtime.layout.ocr import TextDetector
from cb_runtime.progress import Progress
from cb_runtime.video import open_source
from cb_runtime.video.types import Frame, FrameSource, VideoInfo

PROGRESS_EVERY = 32
"""Frames between two reports of progress."""


@dataclass(frozen=True)
class VideoTask:
    """One video to read, and how."""

    path: Path
    sha256: str
    captions: CaptionFile
    options: BuildOptions
    region: str | None = None
    layout_file: Path | None = None
    skip_bad_captions: bool = False
    detector: TextDetector | None = None
    font_encoder: FontEncoder | None = None


@dataclass(frozen=True)
class VideoContent:
    """What a dataset keeps of one video."""

    info: VideoInfo
    layout: CaptionLayout
    inputs: VideoInputs
    timeline: Timeline
    annotation: Annotation
    plan: PairPlan
    strips: StripSpill
    partial: bool
    messages: tuple[str, ...]

    @property
    def frames(self) -> list[int]:
        """Frames that take part in a pair, in order."""
        return sorted({frame for first, second, _ in self.plan for frame in (first, second)})

    def digest(self) -> str:
        """Return SHA-256 over everything that training can see of the video."""
        content = hashlib.sha256()
        captions = [
            # A region only where there is one, so that datasets without any keep their digest.
            [caption.start_frame, caption.end_frame, caption.text, *([caption.region] if caption.region else [])]
            for caption in self.annotation.captions
        ]
        content.update(json.dumps([self.layout.to_dict(), captions, self.plan], sort_keys=True).encode())
        content.update(self.inputs.ocr_viz.tobytes() + self.inputs.spatial_features.astype("<f4").tobytes())
        for frame in self.frames:
            content.update(int(self.timeline.pts[frame]).to_bytes(8, "little", signed=True))
            content.update(self.strips.digest(frame))
        return content.hexdigest()


@contextmanager
def read_video(task: VideoTask, scratch: Path | None, progress: Progress) -> Iterator[VideoContent]:
    """Give the content of one video; its strips lie in a temporary file in `scratch` until the block ends.

    Raises:
        InputError: The video or its layout cannot be had, or its captions cannot be true.
        StorageError: `scratch` is full.
    """
    with closing(open_source(task.path)) as source, TemporaryFile(dir=scratch) as file:
        layout = _layout(task, source, progress)
        # The font encoder samples the video, and reading it whole must come last: its report is the one that counts.
        font = task.font_encoder.embedding_of(source, layout) if task.font_encoder else None
        strips = StripSpill(file)
        timeline = _read_frames(task, source, layout, strips, progress)
        yield _content(task, source, layout, timeline, strips, font)


def _layout(task: VideoTask, source: FrameSource, progress: Progress) -> CaptionLayout:
    layout = caption_layout(
        source, region=task.region, layout_file=task.layout_file, detector=task.detector, progress=progress
    )
    if layout is None:
        raise InputError(
            f"No captions were seen in sampled frames of {task.path}, so their place is not known. Give it with "
            f"--region LEFT,TOP,RIGHT,BOTTOM, with --layout FILE, or as {task.path.stem}.layout.json beside the video."
        )
    return layout


def _read_frames(
    task: VideoTask, source: FrameSource, layout: CaptionLayout, strips: StripSpill, progress: Progress
) -> Timeline:
    pts: list[int] = []
    last: Frame | None = None
    for last in source.frames(layout.region):
        strips.add(strip(last.image, task.options.preprocessing, layout.anchor))
        pts.append(last.pts)
        if len(pts) % PROGRESS_EVERY == 0:
            progress(f"frames of {task.path.name}", len(pts), source.info.frame_count)
    if last is None:
        raise InputError(f"No frame of {task.path} could be decoded. Replace the file, or take it away.")
    duration = last.duration or (pts[-1] - pts[-2] if len(pts) > 1 else 1)
    progress(f"frames of {task.path.name}", len(pts), len(pts))
    return Timeline(np.array(pts, np.int64), pts[-1] + duration, source.info.time_base, source.report.truncated)


def _content(
    task: VideoTask,
    source: FrameSource,
    layout: CaptionLayout,
    timeline: Timeline,
    strips: StripSpill,
    font: NDArray[np.float32] | None,
) -> VideoContent:
    options = task.options
    annotation = annotate(timeline, task.captions, skip_bad=task.skip_bad_captions)
    texts = [caption.text for caption in annotation.captions]
    rng = np.random.default_rng([options.seed, int(task.sha256[:16], 16)])
    return VideoContent(
        info=source.info,
        layout=layout,
        inputs=video_inputs(layout, options.preprocessing, options.ocr_viz_variant, font),
        timeline=timeline,
        annotation=annotation,
        plan=plan_pairs(annotation.states, texts, options.distances, options.pairs_per_video, rng),
        strips=strips,
        partial=source.report.partial,
        messages=(*source.report.messages, *annotation.messages),
    )
