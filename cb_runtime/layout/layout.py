"""The layout of a video's captions: what is known before any pair of frames is scored.

A layout says where captions appear (one region per video), how they are aligned, and where text was seen in sampled
frames. It comes from OCR (`detection`), from boxes in a file, or from a region given by hand (`given`); all three give
the same dataclass, and `caption_layout` is the one function that dataset building and inference both call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from cb_runtime.contract import ANCHORS
from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box

ORIGINS = ("ocr", "boxes", "region")
"""Where a layout comes from: OCR on sampled frames, boxes the user gave, or a region given by hand."""

SERIOUS = 0.5
"""Another region that scores at least this may hold captions too, and the user is told."""

TOO_TALL = 0.4
"""Share of the frame's height from which on a region that was found holds more than captions, and the user is told."""

REGION_HELP = "Give the caption region with --region LEFT,TOP,RIGHT,BOTTOM (pixels, or fractions of the frame)."


@dataclass(frozen=True)
class OtherRegion:
    """A place where text was seen that was not taken for the captions'."""

    region: Box
    """In frame coordinates."""
    score: float
    """How much it looks like captions beside the region chosen, in [0, 1]; 0 for logos, clocks and tickers."""
    reason: str
    """Why it was not chosen."""

    def __post_init__(self) -> None:
        if not (isinstance(self.score, int | float) and 0 <= self.score <= 1):
            raise InputError(f"The score of another region must lie in [0, 1], got {self.score!r}.")
        if not isinstance(self.reason, str):
            raise InputError(f"The reason why a region was not chosen must be text, got {self.reason!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"region": list(self.region.as_tuple()), "score": self.score, "reason": self.reason}


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
    other_regions: tuple[OtherRegion, ...] = ()
    """Where else text was seen, the most caption-like first; empty for a region given by hand."""

    def __post_init__(self) -> None:
        for name, value, known in (("anchor", self.anchor, ANCHORS), ("origin", self.origin, ORIGINS)):
            if value not in known:
                raise InputError(f"A layout's {name} must be one of {', '.join(known)}, got {value!r}.")
        for box in (self.region, *self.boxes, *(other.region for other in self.other_regions)):
            if not box.inside(self.frame_width, self.frame_height):
                raise InputError(
                    f"Box {box.as_tuple()} lies outside the frame of {self.frame_width} x {self.frame_height} pixels. "
                    "Give boxes as left, top, right, bottom in pixels of this video's displayed frame."
                )
        if self.samples < (1 if self.boxes else 0):
            raise InputError(f"A layout with boxes needs 'samples' of at least 1, got {self.samples}.")

    def doubts(self) -> tuple[str, ...]:
        """Return a sentence for the user about a region that holds more than captions, and each other one that may."""
        serious = [other for other in self.other_regions if other.score >= SERIOUS]
        height = self.region.height / self.frame_height
        too_tall = (
            f"The caption region {_as_text(self.region)} takes {height:.0%} of the frame's height: text that is no "
            f"caption's was taken for one's, and results may be worse. {REGION_HELP}"
        )
        others = tuple(
            f"Captions may also be at {_as_text(other.region)} (score {other.score:.2f}; {other.reason}); those at "
            f"{_as_text(self.region)} were read. For the others: --region {_as_text(other.region)}"
            for other in serious
        )
        return (too_tall, *others) if self.origin == "ocr" and height > TOO_TALL else others

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
            "other_regions": [other.to_dict() for other in self.other_regions],
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
        fields["other_regions"] = tuple(_other_region(other) for other in fields.get("other_regions", ()))
        return CaptionLayout(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The caption layout is malformed: {error}. {REGION_HELP}") from error


def _other_region(values: Mapping[str, Any]) -> OtherRegion:
    (region,) = boxes_from_lists([values["region"]])
    return OtherRegion(region, values["score"], values["reason"])


def _as_text(box: Box) -> str:
    return ",".join(map(str, box.as_tuple()))


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
