"""Finding a video's layout: OCR on sampled frames, unless the user or the source says where captions are.

OCR is what costs, so frames are looked at in two rounds. The first is spread evenly over the video and is enough for
most; when it showed few captions, or two places where they may be, frames in between follow until that is settled.
While one frame is looked at, the next is decoded.
"""

from __future__ import annotations

from pathlib import Path

from cb_runtime.cores import usable_cores
from cb_runtime.errors import UsageError
from cb_runtime.geometry import Box
from cb_runtime.layout.given import layout_from_file, layout_from_region, region_from_text
from cb_runtime.layout.layout import CaptionLayout, StoresLayout
from cb_runtime.layout.ocr import RapidOcrDetector, TextDetector
from cb_runtime.layout.survey import survey
from cb_runtime.pipeline import Pipeline
from cb_runtime.progress import Progress, no_progress
from cb_runtime.video.types import FrameSource

DEFAULT_SAMPLES = 12
"""Frames looked at by OCR: about half of a film's frames show a caption, so five or so captions are seen."""

MORE = 3
"""At most this many times the samples are looked at. Odd, so that the first round's frames are among the second's."""

JUDGE_EVERY = 4
"""Further frames between two judgements of what was seen."""


def detect_layout(
    source: FrameSource,
    *,
    samples: int = DEFAULT_SAMPLES,
    detector: TextDetector | None = None,
    pipeline: Pipeline | None = None,
    progress: Progress = no_progress,
) -> CaptionLayout | None:
    """Find captions by OCR in `samples` frames spread over the video, in up to `MORE` times as many when in doubt.

    Args:
        source: The video.
        samples: Frames of the first round.
        detector: Finds text; rapidocr when left out.
        pipeline: Where frames are decoded ahead; its stages have ended then. None: one of its own.
        progress: Told the number of frames looked at.

    Returns:
        The layout, or None when no sampled frame shows text like a caption's (logos, clocks and tickers are not).

    Raises:
        MissingPackageError: `detector` is None and rapidocr is not installed.
    """
    reader = detector or RapidOcrDetector()
    info = source.info
    seen = _text_seen(source, samples, reader, pipeline or Pipeline(overlapped=usable_cores() > 1), progress)
    found = survey(seen, info.width, info.height)
    if found.main is None:
        return None
    return CaptionLayout(
        info.width,
        info.height,
        found.main.region,
        found.main.anchor,
        boxes=tuple(box for boxes in seen for box in boxes),
        samples=len(seen),
        origin="ocr",
        ocr_engine=reader.engine,
        ocr_engine_version=reader.version,
        other_regions=found.others,
    )


def _text_seen(
    source: FrameSource, samples: int, reader: TextDetector, pipeline: Pipeline, progress: Progress
) -> list[list[Box]]:
    """Return the boxes seen in each frame looked at, in time order."""
    info = source.info
    seen: dict[int, list[Box]] = {}

    def settled() -> bool:
        return survey(list(seen.values()), info.width, info.height).settled

    for count in (samples, MORE * samples):
        with pipeline:
            for frame in pipeline.ahead(source.sample(count), "sample", streaming=False):
                if frame.pts in seen:
                    continue
                seen[frame.pts] = [box for box, _ in reader(frame.image)]
                progress("layout", len(seen), count)
                if count > samples and len(seen) % JUDGE_EVERY == 0 and settled():
                    break
        if settled():
            break
    return [boxes for _, boxes in sorted(seen.items())]


def caption_layout(
    source: FrameSource,
    *,
    region: str | None = None,
    layout_file: Path | None = None,
    detector: TextDetector | None = None,
    pipeline: Pipeline | None = None,
    progress: Progress = no_progress,
) -> CaptionLayout | None:
    """Return a video's layout: from `region`, from `layout_file`, stored with the source, or detected, in this order.

    `detector`, `pipeline` and `progress` are those of `detect_layout`.

    Returns:
        The layout, or None when it had to be detected and no caption was seen.

    Raises:
        UsageError: Both `region` and `layout_file` are given, or the region does not fit the frame.
        InputError: The file does not give a layout of this video.
        MissingPackageError: It had to be detected and rapidocr is not installed.
    """
    info = source.info
    if region is not None and layout_file is not None:
        raise UsageError("Give either --region or --layout, not both.")
    if region is not None:
        return layout_from_region(info, region_from_text(region, info.width, info.height))
    if layout_file is not None:
        return layout_from_file(layout_file, info)
    if isinstance(source, StoresLayout):
        return source.layout
    return detect_layout(source, detector=detector, pipeline=pipeline, progress=progress)
