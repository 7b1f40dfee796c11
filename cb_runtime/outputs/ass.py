"""Advanced SubStation Alpha: centiseconds, rounded so that the same frames are selected."""

from __future__ import annotations

from pathlib import Path

from cb_runtime.outputs._cues import CENTISECOND, subtitles, write_text
from cb_runtime.results import CaptionTrack

SUFFIX = ".ass"


def write(track: CaptionTrack, path: Path) -> None:
    """Write the captions as ASS, for a script of the video's size."""
    file = subtitles(track, CENTISECOND, _escaped)
    file.info["PlayResX"], file.info["PlayResY"] = str(track.video.width), str(track.video.height)
    write_text(path, file.to_string("ass"))


def _escaped(text: str) -> str:
    # libass shows `\{` as a brace, but knows no escape for the backslash itself: an invisible word joiner after it
    # keeps it from starting `\N` or the like.
    return text.replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}")
