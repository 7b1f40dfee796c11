"""Output formats: one module per format, each with `SUFFIX` and `write(track, path)`.

`write` publishes the file when it is whole; after an error an older file stays as it was. To add a format, add a module
and its line in `FORMATS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from cb_runtime.errors import UsageError
from cb_runtime.outputs import ass, csv, json, srt, video_db, vtt
from cb_runtime.outputs.json import read_spans_json
from cb_runtime.results import CaptionTrack

__all__ = ["FORMATS", "OutputFormat", "formats", "read_spans_json", "replaces", "suffix_of", "write_track"]


class OutputFormat(Protocol):
    """What a format's module holds."""

    SUFFIX: str
    """File name ending, with its dot."""

    def write(self, track: CaptionTrack, path: Path) -> None:
        """Write the captions of one video to `path`, whole or not at all."""
        ...


FORMATS: dict[str, OutputFormat] = {
    "srt": cast(OutputFormat, srt),
    "vtt": cast(OutputFormat, vtt),
    "ass": cast(OutputFormat, ass),
    "json": cast(OutputFormat, json),
    "csv": cast(OutputFormat, csv),
    "video_db": cast(OutputFormat, video_db),
}
"""Every format by its name on the command line."""


def formats() -> tuple[str, ...]:
    """Return the names of all formats."""
    return tuple(FORMATS)


def suffix_of(format: str) -> str:
    """Return a format's file name ending. Raises UsageError for an unknown format."""
    return _format(format).SUFFIX


def replaces(format: str) -> bool:
    """Tell whether writing a format replaces the file that is there; `video_db` adds to it instead."""
    return _format(format) is not FORMATS["video_db"]


def write_track(track: CaptionTrack, path: str | Path, format: str) -> None:
    """Write the captions of one video in a format, whole or not at all.

    Raises:
        UsageError: Unknown format.
        StorageError: The disk is full, or the place cannot be written.
        InputError: The video is gone (`video_db` reads it again), or the database at `path` is another video's.
    """
    _format(format).write(track, Path(path))


def _format(name: str) -> OutputFormat:
    if name not in FORMATS:
        raise UsageError(f"Unknown format '{name}'. Known: {', '.join(FORMATS)}.")
    return FORMATS[name]
