"""Ground truth of a rendered video: exact captions and opacities as JSON, and the subtitles as SRT."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pysubs2

from cb_core.synth.script import CaptionEvent
from cb_core.synth.timing import Timing
from cb_runtime.errors import InputError
from cb_runtime.geometry import Box

SCHEMA = 1
"""Number of the ground truth's JSON schema. A reader refuses any other number."""

GENERATOR = "cb synth 4"
"""Who rendered, with a number that rises whenever the same seed begins to give other videos."""

TRUTH_SUFFIX = ".truth.json"


@dataclass(frozen=True)
class RenderedCaption:
    """A caption as it was drawn."""

    event: CaptionEvent
    region: Box
    """Smallest rectangle that holds everything drawn of it, in frame coordinates."""


def truth_document(
    *,
    video: str,
    size: tuple[int, int],
    time_base: Fraction,
    timing: Timing,
    captions: Sequence[RenderedCaption],
    settings: Mapping[str, Any],
    settings_digest: str,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the ground truth as a JSON document.

    Frame indices and PTS refer to the encoded file: `time_base` is the file's own, PTS count from its first frame.
    `first_frame` and `last_frame` (inclusive) bound what is visible at all; `[start_frame, end_frame)` is where the
    opacity is one half or more, which is the boundary for labels and subtitles.
    """
    pts = [_converted(timing.pts_at(frame), timing.time_base, time_base) for frame in range(timing.frames + 1)]
    return {
        "schema": SCHEMA,
        "generator": GENERATOR,
        "settings": dict(settings),
        "settings_digest": settings_digest,
        "seed": settings["seed"],
        "video": video,
        "width": size[0],
        "height": size[1],
        "time_base": [time_base.numerator, time_base.denominator],
        "frame_rate": [timing.rate.numerator, timing.rate.denominator],
        "variable_frame_rate": timing.variable,
        "frames": timing.frames,
        "region": _union([caption.region for caption in captions]) if captions else None,
        "captions": [_caption(number, caption, pts) for number, caption in enumerate(captions)],
        "details": dict(details),
        "end_pts": pts[-1],
        "pts": pts[:-1],
        "opacity": opacities([caption.event for caption in captions], timing.frames),
    }


def _caption(number: int, caption: RenderedCaption, pts: Sequence[int]) -> dict[str, Any]:
    event = caption.event
    return {
        "id": number,
        "text": event.text,
        "first_frame": event.first_frame,
        "last_frame": event.last_frame,
        "start_frame": event.start_frame,
        "end_frame": event.end_frame,
        "start_pts": pts[event.start_frame],
        "end_pts": pts[event.end_frame],
        "fade_in": list(event.fade_in) if event.fade_in else None,
        "fade_out": list(event.fade_out) if event.fade_out else None,
        "region": list(caption.region.as_tuple()),
    }


def _converted(pts: int, base: Fraction, other: Fraction) -> int:
    converted = pts * base / other
    assert converted.denominator == 1, "the file's time base must hold every frame's time exactly"
    return int(converted)


def _union(boxes: Sequence[Box]) -> list[int]:
    lows = [min(box.as_tuple()[side] for box in boxes) for side in (0, 1)]
    return lows + [max(box.as_tuple()[side] for box in boxes) for side in (2, 3)]


def opacities(events: Sequence[CaptionEvent], frames: int) -> list[float]:
    """Return how visible the most visible caption is in each frame, in [0, 1]."""
    values = [0.0] * frames
    for event in events:
        for frame in range(event.first_frame, event.last_frame + 1):
            values[frame] = max(values[frame], round(event.opacity(frame), 4))
    return values


def srt_text(captions: Sequence[Mapping[str, Any]], time_base: Fraction) -> str:
    """Return captions of a ground truth as SRT.

    Times are cut, not rounded, to milliseconds: a player that shows a cue from its start until before its end then
    selects exactly the frames of the ground truth, and so does a reader that takes the nearest frame.
    """
    subtitles = pysubs2.SSAFile()
    for caption in captions:
        start, end = (int(caption[key] * time_base * 1000) for key in ("start_pts", "end_pts"))
        subtitles.append(pysubs2.SSAEvent(start=start, end=end, text=caption["text"].replace("\n", "\\N")))
    return subtitles.to_string("srt")


def read_truth(path: str | Path) -> dict[str, Any]:
    """Read a ground truth file. Raises InputError when it is damaged or of another schema."""
    file = Path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} is not a readable ground truth ({error}). Render the video again with cb synth."
        ) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA or "captions" not in document:
        raise InputError(
            f"{file} has ground truth schema {schema}, this version reads {SCHEMA}. Render it again with cb synth."
        )
    return dict(document)
