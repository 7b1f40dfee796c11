"""What finding captions in one video gives: the `CaptionTrack`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cb_runtime.spans import Span
from cb_runtime.video.types import VideoInfo

if TYPE_CHECKING:
    from cb_runtime.layout import CaptionLayout


@dataclass(frozen=True)
class CaptionTrack:
    """The captions of one video, and how they were found."""

    video: VideoInfo
    spans: tuple[Span, ...]
    """Captions in time order; none overlaps another."""
    layout: CaptionLayout | None = None
    """Where captions were looked for; None when no sampled frame showed text."""
    partial: bool = False
    """True when parts of the video could not be read."""
    messages: tuple[str, ...] = ()
    """What the user should know: read problems, doubts about the model; one line each."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Name, sha256, device and backend of the model; plain JSON types."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """Counts and rates of the run, e.g. frames and frames per second; plain JSON types."""


def json_text(value: object, indent: int | None = None) -> str:
    """Return JSON of plain types; paths become strings and NumPy numbers plain numbers."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    return value.item() if hasattr(value, "item") else str(value)
