"""The videos of a folder."""

from __future__ import annotations

from pathlib import Path

from cb_runtime.errors import InputError
from cb_runtime.files import is_file

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "mp4",
        "mkv",
        "webm",
        "mov",
        "avi",
        "m4v",
        "ts",
        "m2ts",
        "mts",
        "mpg",
        "mpeg",
        "wmv",
        "flv",
        "ogv",
        "mxf",
    )
)
"""What counts as a video when a folder is searched."""


def is_folder(place: Path) -> bool:
    """Tell whether a place is a folder. One that may not be looked at is none: reading it says why."""
    try:
        return place.is_dir()
    except OSError:
        return False


def _may_be_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return True


def find_videos(place: Path) -> list[Path]:
    """Return a video file, or all videos in a folder and below, sorted. Raises InputError when there is none.

    Names that begin with a dot are left out: half-written files of a killed `cb synth`, trash, resource forks.
    """
    if is_file(place):
        return [place]
    seen = (path for path in place.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and _may_be_file(path))
    found = sorted(path for path in seen if not any(part.startswith(".") for part in path.relative_to(place).parts))
    if not found:
        raise InputError(f"There are no videos in {place}. Give a video file or a folder of them.")
    return found
