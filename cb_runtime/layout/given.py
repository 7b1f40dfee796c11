"""Layouts that the user gives: a region by hand, text boxes found elsewhere, or a whole layout as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cb_runtime.errors import CbError, InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.layout.blocks import samples_from_boxes
from cb_runtime.layout.layout import REGION_HELP, CaptionLayout, boxes_from_lists, layout_from_dict
from cb_runtime.layout.region import anchor_of_region
from cb_runtime.layout.survey import survey
from cb_runtime.video.types import VideoInfo


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
    found = survey(samples_from_boxes(seen), info.width, info.height)
    if found.main is None:
        raise InputError(
            f"None of the {len(seen)} text boxes given for {info.path} looks like a caption. {REGION_HELP}"
        )
    main = found.main
    return CaptionLayout(
        info.width, info.height, main.region, main.anchor, seen, samples, "boxes", other_regions=found.others
    )


def layout_from_file(path: Path, info: VideoInfo) -> CaptionLayout:
    """Read a JSON layout: `CaptionLayout.to_dict()`, or `{"boxes": [[l, t, r, b], ...], "samples": n, "region": ...}`.

    Raises InputError, naming the file, when it cannot be read or does not fit the video.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Layout {path} cannot be read as JSON: {error}. {REGION_HELP}") from error
    try:
        return _layout_from_values(values, info)
    except CbError as error:
        raise InputError(f"Layout {path}: {error}") from error


def _layout_from_values(values: object, info: VideoInfo) -> CaptionLayout:
    if not isinstance(values, dict) or not values.keys() & {"boxes", "region"}:
        raise InputError(f"Expected an object with 'boxes' or 'region'. {REGION_HELP}")
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
