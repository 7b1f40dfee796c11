"""SubRip: numbered cues, milliseconds with a comma."""

from __future__ import annotations

from pathlib import Path

from cb_runtime.outputs._cues import MILLISECOND, subtitles, write_text
from cb_runtime.results import CaptionTrack

SUFFIX = ".srt"


def write(track: CaptionTrack, path: Path) -> None:
    """Write the captions as SubRip; texts stand as they are, since the format has no escapes."""
    # keep_ssa_tags: else pysubs2 would take braces in a text for ASS tags and drop them.
    write_text(path, subtitles(track, MILLISECOND, str).to_string("srt", keep_ssa_tags=True))
