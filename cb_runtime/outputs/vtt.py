"""WebVTT: header, milliseconds with a point, `&`, `<` and `>` escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path

from cb_runtime.outputs._cues import MILLISECOND, subtitles, write_text
from cb_runtime.results import CaptionTrack

SUFFIX = ".vtt"


def write(track: CaptionTrack, path: Path) -> None:
    """Write the captions as WebVTT (https://www.w3.org/TR/webvtt1/)."""
    write_text(path, subtitles(track, MILLISECOND, _escaped).to_string("vtt", keep_ssa_tags=True))


def _escaped(text: str) -> str:
    return escape(text, quote=False)
