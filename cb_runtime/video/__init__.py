"""Frame sources: video files and video databases behind one protocol."""

from __future__ import annotations

from pathlib import Path

from cb_runtime.video.types import FrameSource

DATABASE_SUFFIX = ".db"
"""File name ending of a video database; every other file is read as a video."""


def open_source(path: str | Path, *, decode_threads: int | None = None) -> FrameSource:
    """Open a video file or a video database (`.db`).

    `decode_threads` is for video files, whose `VideoFile` says what it does. Raises InputError when it cannot be read.
    """
    # Imported here: av and cv2 take a while, and `cb --help` must not wait for them.
    if Path(path).suffix.lower() == DATABASE_SUFFIX:
        from cb_runtime.video.database import VideoDatabase

        return VideoDatabase(path)
    from cb_runtime.video.file import VideoFile

    return VideoFile(path, decode_threads=decode_threads)
