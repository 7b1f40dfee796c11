"""The layout of a video's captions: what is known before any pair of frames is scored.

A layout says where captions appear (one region per video), how they are aligned, and where text was seen in sampled
frames. It comes from OCR, from boxes in a file, or from a region given by hand; all three give the same dataclass, and
`caption_layout` is the one function that dataset building and inference both call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cb_runtime.contract import ANCHORS
from cb_runtime.errors import CbError, InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.layout.blocks import samples_from_boxes
from cb_runtime.layout.ocr import RapidOcrDetector, TextDetector
from cb_runtime.layout.region import anchor_of_region, caption_region
from cb_runtime.progress import Progress, no_progress
from cb_runtime.video.types import FrameSource, VideoInfo

ORIGINS = ("ocr", "boxes", "region")
"""Where a layout comes from: OCR on sampled frames, boxes the user gave, or a region given by hand."""

DEFAULT_SAMPLES = 12
"""Frames looked at by OCR: about half of a film's frames show a caption, so five or so captions are seen."""

_REGION_HELP = "Give the caption region with --region LEFT,TOP,RIGHT,BOTTOM (pixels, or fractions of the frame)."


@dataclass(frozen=True)
class CaptionLayout:
    """Where and how captions appear in one video."""

    frame_width: int
    """Width of the displayed frame in pixels."""
    frame_height: int
    """Height of the displayed frame in pixels."""
    region: Box
    """The caption region, in frame coordinates."""
    anchor: str
    """One of `ANCHORS`: the side of captions that stays in place."""
    boxes: tuple[Box, ...] = ()
    """All text boxes seen in the sampled frames, in frame coordinates, inside the region or not."""
    samples: int = 0
    """Frames that were sampled; at least 1 when there are boxes."""
    origin: str = "region"
    """One of `ORIGINS`."""
    ocr_engine: str | None = None
    """Engine that found the boxes, e.g. `rapidocr`; None when they were not found by OCR here."""
    ocr_engine_version: str | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("anchor", self.anchor, ANCHORS), ("origin", self.origin, ORIGINS)):
            if value not in known:
                raise InputError(f"A layout's {name} must be one of {', '.join(known)}, got {value!r}.")
        for box in (self.region, *self.boxes):
            if not box.inside(self.frame_width, self.frame_height):
                raise InputError(
                    f"Box {box.as_tuple()} lies outside the frame of {self.frame_width} x {self.frame_height} pixels. "
                    "Give boxes as left, top, right, bottom in pixels of this video's displayed frame."
                )
        if self.samples < (1 if self.boxes else 0):
            raise InputError(f"A layout with boxes needs 'samples' of at least 1, got {self.samples}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `layout_from_dict` reads them back."""
        return {
            "frame_width": self.frame_width,
            "frame_height": self.frame_height,
            "region": list(self.region.as_tuple()),
            "anchor": self.anchor,
            "boxes": [list(box.as_tuple()) for box in self.boxes],
            "samples": self.samples,
            "origin": self.origin,
            "ocr_engine": self.ocr_engine,
            "ocr_engine_version": self.ocr_engine_version,
        }


@runtime_checkable
class StoresLayout(Protocol):
    """A frame source that brings its layout: a video database, whose frames are crops."""

    @property
    def layout(self) -> CaptionLayout | None:
        """The layout; None when the video showed no captions."""
        ...


def layout_from_dict(values: Mapping[str, Any]) -> CaptionLayout:
    """Read what `CaptionLayout.to_dict` wrote. Raises InputError when it is something else."""
    try:
        fields = dict(values)
        (fields["region"],) = boxes_from_lists([fields["region"]])
        fields["boxes"] = boxes_from_lists(fields.get("boxes", ()))
        return CaptionLayout(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The caption layout is malformed: {error}. {_REGION_HELP}") from error


def boxes_from_lists(lists: object) -> tuple[Box, ...]:
    """Read boxes given as `[left, top, right, bottom]` in pixels. Raises InputError naming the first bad one."""
    if not isinstance(lists, list | tuple):
        raise InputError(f"'boxes' must be a list of [left, top, right, bottom], got {lists!r}.")
    boxes = []
    for number, values in enumerate(lists):
        try:
            boxes.append(Box(*(round(value) for value in values)))
        except (TypeError, ValueError, OverflowError, UsageError) as error:
            raise InputError(f"Box {number} must be [left, top, right, bottom] in pixels, got {values!r}.") from error
    return tuple(boxes)


def region_from_text(text: str, frame_width: int, frame_height: int) -> Box:
    """Read `left,top,right,bottom` in pixels, or in fractions of the frame when all are <= 1 and one has a dot.

    Raises UsageError when it is neither, or lies outside the frame.
    """
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
        if "." in text and max(numbers) <= 1:
            scale = (frame_width, frame_height, frame_width, frame_height)
            numbers = [number * size for number, size in zip(numbers, scale, strict=True)]
        left, top, right, bottom = (round(number) for number in numbers)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--region must be LEFT,TOP,RIGHT,BOTTOM, got '{text}'.") from error
    box = Box(left, top, right, bottom)
    if not box.inside(frame_width, frame_height):
        raise UsageError(f"--region {text} lies outside the frame of {frame_width} x {frame_height} pixels.")
    return box


def layout_from_region(info: VideoInfo, region: Box) -> CaptionLayout:
    """Return the layout of a region given by hand: no boxes, anchor by the region's place in the frame."""
    return CaptionLayout(info.width, info.height, region, anchor_of_region(region, info.width))


def layout_from_boxes(info: VideoInfo, boxes: Iterable[Box], samples: int) -> CaptionLayout:
    """Return the layout that text boxes seen in `samples` frames give. Raises InputError when none is a caption's."""
    seen = tuple(boxes)
    found = caption_region(samples_from_boxes(seen), info.width, info.height)
    if found is None:
        raise InputError(
            f"None of the {len(seen)} text boxes given for {info.path} looks like a caption. {_REGION_HELP}"
        )
    return CaptionLayout(info.width, info.height, found.region, found.anchor, seen, samples, "boxes")


def layout_from_file(path: Path, info: VideoInfo) -> CaptionLayout:
    """Read a JSON layout: `CaptionLayout.to_dict()`, or `{"boxes": [[l, t, r, b], ...], "samples": n, "region": ...}`.

    Raises InputError, naming the file, when it cannot be read or does not fit the video.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Layout {path} cannot be read as JSON: {error}. {_REGION_HELP}") from error
    try:
        return _layout_from_values(values, info)
    except CbError as error:
        raise InputError(f"Layout {path}: {error}") from error


def _layout_from_values(values: object, info: VideoInfo) -> CaptionLayout:
    if not isinstance(values, dict) or not values.keys() & {"boxes", "region"}:
        raise InputError(f"Expected an object with 'boxes' or 'region'. {_REGION_HELP}")
    if "anchor" not in values:
        return _layout_from_given(values, info)
    layout = layout_from_dict(values)
    if (layout.frame_width, layout.frame_height) != (info.width, info.height):
        raise InputError(
            f"It is for frames of {layout.frame_width} x {layout.frame_height} pixels, "
            f"{info.path} has {info.width} x {info.height}. Use a layout of this video."
        )
    return layout


def _layout_from_given(values: Mapping[str, Any], info: VideoInfo) -> CaptionLayout:
    boxes = boxes_from_lists(values.get("boxes", ()))
    samples = values.get("samples", 1 if boxes else 0)
    if type(samples) is not int:
        raise InputError(f"'samples' must be a whole number of frames, got {samples!r}.")
    if values.get("region") is None:
        return layout_from_boxes(info, boxes, samples)
    (region,) = boxes_from_lists([values["region"]])
    anchor = anchor_of_region(region, info.width)
    return CaptionLayout(info.width, info.height, region, anchor, boxes, samples, "boxes" if boxes else "region")


def detect_layout(
    source: FrameSource,
    *,
    samples: int = DEFAULT_SAMPLES,
    detector: TextDetector | None = None,
    progress: Progress = no_progress,
) -> CaptionLayout | None:
    """Find captions by OCR in `samples` frames spread over the video.

    Returns:
        The layout, or None when no sampled frame shows text like a caption's (logos, clocks and tickers are not).

    Raises:
        MissingPackageError: `detector` is None and rapidocr is not installed.
    """
    reader = detector or RapidOcrDetector()
    seen: list[list[Box]] = []
    for frame in source.sample(samples):
        seen.append([box for box, _ in reader(frame.image)])
        progress("layout", len(seen), samples)
    info = source.info
    found = caption_region(seen, info.width, info.height)
    if found is None:
        return None
    boxes = tuple(box for sample in seen for box in sample)
    return CaptionLayout(
        info.width, info.height, found.region, found.anchor, boxes, len(seen), "ocr", reader.engine, reader.version
    )


def caption_layout(
    source: FrameSource,
    *,
    region: str | None = None,
    layout_file: Path | None = None,
    detector: TextDetector | None = None,
    progress: Progress = no_progress,
) -> CaptionLayout | None:
    """Return a video's layout: from `region`, from `layout_file`, stored with the source, or detected, in this order.

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
    return detect_layout(source, detector=detector, progress=progress)
