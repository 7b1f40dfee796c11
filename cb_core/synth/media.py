"""The user's own pictures and videos as backgrounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from cb_runtime.errors import InputError

Pixels = NDArray[np.uint8]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts")


def find_backgrounds(folder: Path | None) -> tuple[Path, ...]:
    """Return the pictures and videos below a folder, sorted; nothing without a folder.

    Raises InputError when the folder is missing or holds neither.
    """
    if folder is None:
        return ()
    if not folder.is_dir():
        raise InputError(
            f"Background folder {folder} does not exist. Give a folder with pictures or videos without captions."
        )
    known = PICTURE_SUFFIXES + VIDEO_SUFFIXES
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and not path.name.startswith("."))
    if not files:
        raise InputError(f"No picture or video in {folder}. Put files there that end with one of: {', '.join(known)}.")
    return tuple(files)


def read_picture(path: Path) -> Pixels:
    """Read a picture as RGB uint8 `(height, width, 3)`. Raises InputError when it cannot be read."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error) as error:
        raise _unreadable(path, error) from error
    if picture is None:
        raise _unreadable(path, "not a picture OpenCV can read")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _unreadable(path: Path, reason: object) -> InputError:
    return InputError(f"Background {path} cannot be read ({reason}). Remove it from the folder or replace it.")


def covering(picture: Pixels, size: tuple[int, int], place: tuple[float, float] = (0.5, 0.5)) -> Pixels:
    """Scale a picture to cover `size` (width, height) with its aspect kept, and cut what is over.

    `place` tells which part is kept, across and down: 0 the left or upper end, 1 the other.
    """
    width, height = size
    scale = max(width / picture.shape[1], height / picture.shape[0])
    across, down = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, (across, down), interpolation=filter_)
    left, top = int((across - width) * place[0]), int((down - height) * place[1])
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


class VideoLoop:
    """Frames of a video by time, from a place in it on, beginning anew after its end."""

    def __init__(
        self, path: Path, size: tuple[int, int], start_share: float, place: tuple[float, float] = (0.5, 0.5)
    ) -> None:
        self._path, self._size, self._place = path, size, place
        self._frames = self._read(start_share)
        self._current, self._until = next(self._frames)
        self._offset = 0.0

    def frame(self, seconds: float) -> Pixels:
        """Return the frame shown at a time since the start; times must not fall."""
        while seconds >= self._until:
            self._current, self._until = next(self._frames)
        return self._current.copy()

    def _read(self, start_share: float) -> Iterator[tuple[Pixels, float]]:
        """Give frames and the time at which each ends, without end."""
        clock = 0.0
        while True:
            given = False
            try:
                for picture, length in self._decode(start_share):
                    given = True
                    clock += length
                    yield picture, clock
            except (OSError, ValueError, av.error.FFmpegError) as error:
                if not given:
                    raise _unreadable(self._path, error) from error
            if not given and start_share == 0:
                raise _unreadable(self._path, "no video frame in it")
            start_share = 0.0

    def _decode(self, start_share: float) -> Iterator[tuple[Pixels, float]]:
        with av.open(str(self._path)) as container:
            if not container.streams.video:
                return
            stream = container.streams.video[0]
            stream.thread_count = 1
            if start_share and container.duration:
                container.seek(int(container.duration * start_share), backward=True)
            rate = stream.average_rate or 25
            for frame in container.decode(stream):
                picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                yield covering(picture, self._size, self._place), float(1 / rate)
