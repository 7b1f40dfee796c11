"""JSON: everything that is known, exact; `segments` with `id, start, end, text` as subtitle tools read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from cb_runtime.errors import InputError
from cb_runtime.outputs._cues import write_text
from cb_runtime.results import CaptionTrack, json_text
from cb_runtime.spans import Span
from cb_runtime.video.types import VideoInfo

SUFFIX = ".json"

SCHEMA = 1
"""Number of this document's schema."""


def write(track: CaptionTrack, path: Path) -> None:
    """Write the whole track as one JSON document."""
    write_text(path, json_text(track_to_dict(track), indent=2) + "\n")


def track_to_dict(track: CaptionTrack) -> dict[str, Any]:
    """Return the track as JSON types; times are exact as PTS and time base, and given in seconds beside."""
    return {
        "schema": SCHEMA,
        "video": _video(track.video),
        "time_base": list(track.video.time_base.as_integer_ratio()),
        "partial": track.partial,
        "messages": list(track.messages),
        "model": dict(track.model),
        "statistics": dict(track.statistics),
        "layout": track.layout.to_dict() if track.layout else None,
        "segments": [_segment(number, span) for number, span in enumerate(track.spans, 1)],
    }


def _video(info: VideoInfo) -> dict[str, Any]:
    return {
        "path": str(info.path),
        "width": info.width,
        "height": info.height,
        "average_rate": list(info.average_rate.as_integer_ratio()) if info.average_rate else None,
        "frame_count": info.frame_count,
        "duration_seconds": info.duration_seconds,
    }


def _segment(number: int, span: Span) -> dict[str, Any]:
    return {
        "id": number,
        "start": span.start_seconds,
        "end": span.end_seconds,
        "text": span.text,
        "start_pts": span.start_pts,
        "end_pts": span.end_pts,
        "time_base": list(span.time_base.as_integer_ratio()),
        "start_frame": span.start_frame,
        "end_frame": span.end_frame,
        "score": span.score,
        "start_score": span.start_score,
        "end_score": span.end_score,
        "flags": list(span.flags),
        **_fade("fade_in", span.fade_in, span.fade_in_pts, span.time_base),
        **_fade("fade_out", span.fade_out, span.fade_out_pts, span.time_base),
    }


def _fade(
    name: str, frames: tuple[int, int] | None, pts: tuple[int, int] | None, time_base: Fraction
) -> dict[str, list[int] | list[float] | None]:
    """Return a fade as frames, PTS and seconds of `[first partly visible, first settled)`; None for a cut."""
    return {
        name: list(frames) if frames else None,
        f"{name}_pts": list(pts) if pts else None,
        f"{name}_seconds": [float(time * time_base) for time in pts] if pts else None,
    }


def read_spans_json(path: str | Path) -> list[Span]:
    """Read the captions of a document written by `write`. Raises InputError when it is not one."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        return [_span(segment) for segment in document["segments"]]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise InputError(
            f"{path} cannot be read as captions ({type(error).__name__}: {error}). Expected a JSON file written by "
            "`cb infer --format json`."
        ) from error


def _span(segment: Mapping[str, Any]) -> Span:
    return Span(
        start_pts=int(segment["start_pts"]),
        end_pts=int(segment["end_pts"]),
        time_base=Fraction(*segment["time_base"]),
        start_frame=int(segment["start_frame"]),
        end_frame=int(segment["end_frame"]),
        text=segment["text"],
        score=float(segment["score"]),
        flags=tuple(segment["flags"]),
        start_score=float(segment.get("start_score", 1.0)),
        end_score=float(segment.get("end_score", 1.0)),
        fade_in=_pair(segment.get("fade_in")),
        fade_out=_pair(segment.get("fade_out")),
        fade_in_pts=_pair(segment.get("fade_in_pts")),
        fade_out_pts=_pair(segment.get("fade_out_pts")),
    )


def _pair(values: Sequence[int] | None) -> tuple[int, int] | None:
    if values is None:
        return None
    first, stop = values
    return int(first), int(stop)
