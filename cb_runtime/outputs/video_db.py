"""Video database: the caption region's frames, the layout, and the captions found, in one `.db` file.

From a video file the frames are decoded once more and stored. A database that is already there keeps its frames,
captions and earlier results, and gets one more run.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cb_runtime.errors import InputError
from cb_runtime.files import atomic_path
from cb_runtime.progress import Progress, no_progress
from cb_runtime.results import CaptionTrack
from cb_runtime.video.types import VideoInfo

if TYPE_CHECKING:
    from cb_runtime.video.database import VideoDatabase

SUFFIX = ".db"

_OF_THE_SAME_VIDEO = ("width", "height", "time_base", "duration_seconds")
"""What is compared besides the name, to tell whether a database is of a video."""


def write(track: CaptionTrack, path: Path, progress: Progress = no_progress) -> None:
    """Add the captions to the video database at `path`; make it first when there is none, or none with frames.

    Args:
        track: The captions of one video.
        path: The database.
        progress: Told of every frame that is copied; what it raises ends the copying, and nothing is written.

    Raises InputError when `path` is something else than a database of this video, or the video is gone.
    """
    if path.exists() and not _bare(track, path):
        _append(track, path)
        return
    with atomic_path(path) as temporary:
        _copy_frames(track, temporary, progress)
        _append(track, temporary)


def check_destination(video: Path, path: Path) -> None:
    """Raise InputError when `path` exists and is something else than a database of this video."""
    from cb_runtime.video import open_source
    from cb_runtime.video.database import VideoDatabase

    if path.exists() and not path.samefile(video):
        with closing(open_source(video)) as source, closing(VideoDatabase(path)) as stored:
            _check_same_video(source.info, stored)


def _copy_frames(track: CaptionTrack, path: Path, progress: Progress) -> None:
    from cb_runtime.video import open_source
    from cb_runtime.video.database import VideoDatabase, copy_video_database, write_video_database

    with closing(open_source(track.video.path)) as source:
        if isinstance(source, VideoDatabase):
            copy_video_database(track.video.path, path)
        else:
            write_video_database(path, source, track.layout, progress=_copying(progress))


def _copying(progress: Progress) -> Progress:
    def told(phase: str, done: int, total: int | None = None) -> None:
        progress("Storing frames", done, total)

    return told


def _append(track: CaptionTrack, path: Path) -> None:
    from cb_runtime.video.database import append_results

    append_results(
        path,
        track.spans,
        model=track.model,
        statistics=track.statistics,
        messages=track.messages,
        partial=track.partial,
    )


def _bare(track: CaptionTrack, path: Path) -> bool:
    """Tell whether the database at `path` has nothing to keep: it was written when no text was seen in the video."""
    from cb_runtime.video.database import VideoDatabase, read_captions

    with closing(VideoDatabase(path)) as stored:
        _check_same_video(track.video, stored)
        return stored.layout is None and not read_captions(path)


def _check_same_video(video: VideoInfo, stored: VideoDatabase) -> None:
    info = stored.info
    name = _video_name(video.path)
    same = all(getattr(info, one) == getattr(video, one) for one in _OF_THE_SAME_VIDEO)
    if not same or stored.name != name:
        raise InputError(
            f"{info.path} holds another video ({stored.name}, {_in_short(info)}), not {name} ({_in_short(video)}). "
            "Move it away, or choose another folder with --output."
        )


def _in_short(info: VideoInfo) -> str:
    seconds = "" if info.duration_seconds is None else f", {info.duration_seconds:.3f} s"
    return f"{info.width}x{info.height}{seconds}"


def _video_name(path: Path) -> str:
    from cb_runtime.video import DATABASE_SUFFIX
    from cb_runtime.video.database import VideoDatabase

    return VideoDatabase(path).name if path.suffix.lower() == DATABASE_SUFFIX else path.name
