"""Keep the strips of one video on disk until it is known which of them are needed."""

from __future__ import annotations

import errno
import hashlib
from typing import IO

from cb_core.data.database import StorageError
from cb_core.data.pictures import png_from_image
from cb_runtime.video.types import Image


class StripSpill:
    """Strips in a temporary file, so that memory does not grow with the video's length."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: list[tuple[int, int]] = []
        self._digests: list[bytes] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, strip: Image) -> None:
        """Append the strip of the next frame. Raises StorageError when the disk is full."""
        data = png_from_image(strip)
        start = sum(self._places[-1]) if self._places else 0
        try:
            self._file.write(data)
        except OSError as error:
            raise _full(error) from error
        self._places.append((start, len(data)))
        self._digests.append(hashlib.sha256(strip.tobytes()).digest())

    def png(self, frame: int) -> bytes:
        """Return a frame's strip as PNG."""
        start, length = self._places[frame]
        try:
            self._file.seek(start)  # also writes what is still buffered
        except OSError as error:
            raise _full(error) from error
        return self._file.read(length)

    def digest(self, frame: int) -> bytes:
        """Return SHA-256 of a frame's strip as pixels."""
        return self._digests[frame]


def _full(error: OSError) -> OSError | StorageError:
    if error.errno != errno.ENOSPC:
        return error
    return StorageError(
        "The disk is full: the strips of the video being read found no room. Videos that are already in the dataset "
        "are safe. Free some space and run the same command again; it continues there."
    )
