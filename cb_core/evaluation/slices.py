"""Slices: groups of videos, and of boundaries, for which results are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cb_core.data.timeline import UNKNOWN

if TYPE_CHECKING:
    from cb_core.evaluation.truth import TrueCaption, VideoTruth

BOUNDARY = "boundary"
"""Name of the slices that are made of boundaries rather than of videos."""

SHORT_FRAMES, SHORT_SECONDS = 12, 0.5
"""A caption of fewer frames, or of less time, is short."""

_QUALITY = {"libx264": (23, 29), "libvpx-vp9": (33, 41)}
"""Encoder to the constant rate factors from which quality is medium and low."""
_BITS = (-0.18, -0.12)
"""The same for bits per pixel, negated: more is better."""


def video_slices(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the properties of a video by name, from its ground truth.

    `details.slices`, where the truth has it, is taken as it is; for videos of `cb synth` the same kind of properties
    follow from style, encoding and distractors.
    """
    details = document["details"]
    if "slices" in details:
        return {str(name): str(value) for name, value in details["slices"].items()}
    style, encoding = details["style"], details["encoding"]
    return {
        "resolution": f"{min(document['width'], document['height'])}p",
        "frame_rate": _rate(*document["frame_rate"]),
        "vfr": str(document["variable_frame_rate"]),
        "codec": encoding["codec"],
        "quality": _quality(encoding),
        "script": style["script"],
        "font": style["font"],
        "lines": "one" if style["max_lines"] == 1 else "more",
        "position": "top" if style["top"] else "bottom",
        "anchor": style["anchor"],
        "style": _style(style),
        "karaoke": str(style["karaoke"]),
        "transition": "cut" if style["fades"] == 0 else "fade" if style["fades"] == 1 else "mixed",
        "distractor": "+".join(sorted(set(details["distractors"]))) or "none",
    }


def boundary_kinds(truth: VideoTruth, index: int, *, start: bool) -> tuple[str, ...]:
    """Return what makes the start or the end of caption `index` hard; `normal` when nothing does.

    What the truth says of the boundary counts. Otherwise: `short` for both ends of a caption of fewer than 12 frames
    or half a second; `back_to_back` where the next caption follows at once; `one_frame_gap` where one empty frame lies
    between; `near_identical` where caption and neighbour are at most that far apart and have texts of the same length
    that differ in one character.
    """
    caption = truth.captions[index]
    told = caption.start_kinds if start else caption.end_kinds
    if told is not None:
        return told or ("normal",)
    return tuple(_derived(truth, caption, index - 1 if start else index + 1)) or ("normal",)


def _derived(truth: VideoTruth, caption: TrueCaption, beside: int) -> list[str]:
    kinds = []
    seconds = truth.seconds_at(caption.end_frame) - truth.seconds_at(caption.start_frame)
    if caption.end_frame - caption.start_frame < SHORT_FRAMES or seconds < SHORT_SECONDS:
        kinds.append("short")
    if not 0 <= beside < len(truth.captions):
        return kinds
    other = truth.captions[beside]
    earlier, later = sorted((caption, other), key=lambda one: one.start_frame)
    gap = later.start_frame - earlier.end_frame
    if gap > 1 or (gap == 1 and truth.states[earlier.end_frame] == UNKNOWN):
        return kinds
    kinds.append("one_frame_gap" if gap else "back_to_back")
    if _differ_in_one(caption.text, other.text):
        kinds.append("near_identical")
    return kinds


def _differ_in_one(one: str | None, other: str | None) -> bool:
    if not one or not other or len(one) != len(other):
        return False
    return sum(a != b for a, b in zip(one, other, strict=True)) == 1


def _rate(numerator: int, denominator: int) -> str:
    return f"{numerator / denominator:.3f}".rstrip("0").rstrip(".")


def _quality(encoding: Mapping[str, Any]) -> str:
    crf, bits = encoding["options"].get("crf"), encoding["bits_per_pixel"]
    if crf is None and bits is None:
        return "default"
    low, high = _QUALITY[encoding["codec"]] if crf is not None else _BITS
    value = float(crf) if crf is not None else -float(bits)
    return "high" if value < low else "medium" if value < high else "low"


def _style(style: Mapping[str, Any]) -> str:
    if style["box"] != "none":
        return "box"
    return "outline" if style["outline"] else "shadow" if style["shadow"] else "plain"
