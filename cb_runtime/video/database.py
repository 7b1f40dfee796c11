"""A video database (`.db`): one video's caption region as JPEG pictures with times, its layout, captions and results.

It makes a video small and quick to read again, and it is where people correct captions. One SQLite file:

- `video`: what is known of the video, its layout and read problems, as JSON values;
- `frames`: position, PTS, duration, JPEG of the caption region (not of the whole frame);
- `captions`: confirmed captions; text NULL means not transcribed, `''` means confirmed empty;
- `runs` and `results`: one row per inference run with its model, and the captions it found.

JPEG loses a little, so strips from a database are close to those from the video file, not equal.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cb_runtime.errors import InputError
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout
from cb_runtime.spans import Span
from cb_runtime.video.database_file import SPAN_COLUMNS, has_boundaries, layout_of, opened, read_values
from cb_runtime.video.database_write import append_results, copy_video_database, write_video_database
from cb_runtime.video.types import DecodeReport, Frame, Image, VideoInfo

__all__ = [
    "VideoDatabase",
    "append_results",
    "copy_video_database",
    "read_captions",
    "read_layout",
    "read_results",
    "write_video_database",
]

_PICTURES = "SELECT pts, duration, jpeg FROM frames"

_MOST_VALUES = 500
"""Values in one query; SQLite takes 999 in its older releases."""

_CLOSED = "The source of {path} is closed."

_Window = tuple[slice, slice]
"""Rows and columns of the stored pictures."""


class VideoDatabase:
    """Frames of one video database. Raises InputError when the file is not one, or is damaged."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._closed = False
        try:
            with opened(self._path) as connection:
                self._values = read_values(connection)
                (self._count,) = connection.execute("SELECT count(*) FROM frames").fetchone()
            self._layout = layout_of(self._values)
            self._report = self._stored_report()
            self._info = self._stored_info()
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"{self._path} is damaged (table 'video': {error!r}). Write it again from the video."
            ) from error

    @property
    def info(self) -> VideoInfo:
        """What is known of the video; `path` is the database's, width and height are those of the whole frame."""
        return self._info

    @property
    def name(self) -> str:
        """File name of the video that the database was written from."""
        return str(self._values["name"])

    @property
    def layout(self) -> CaptionLayout | None:
        """The stored layout, whose region the frames were cropped to; None when the video showed no text."""
        return self._layout

    @property
    def report(self) -> DecodeReport:
        """Problems of the latest iteration, and those met when the database was written."""
        return self._report

    def frames(self, region: Box | None = None) -> Iterator[Frame]:
        """Give all frames in presentation order, cropped to `region`; None gives the whole stored region.

        Raises:
            InputError: `region` does not lie inside the stored region.
            ValueError: The source is closed.
        """
        window = self._window(region)
        pictures = self._pictures(f"{_PICTURES} ORDER BY position", [], self._new_report(), window)
        return (Frame(index, *picture) for index, picture in enumerate(pictures))

    def again(self, times: Sequence[int], region: Box | None = None) -> Iterator[Frame]:
        """Give those frames once more whose PTS are in `times`, ascending; cropped as in `frames`.

        Their `index` is -1. What cannot be read again is left out; `report` stays as it is. Raises what `frames` does.
        """
        if self._closed:
            raise ValueError(_CLOSED.format(path=self._path))
        return self._at_times(sorted({*times}), self._window(region))

    def _at_times(self, times: list[int], window: _Window) -> Iterator[Frame]:
        for begin in range(0, len(times), _MOST_VALUES):
            wanted = times[begin : begin + _MOST_VALUES]
            query = f"{_PICTURES} WHERE pts IN ({','.join('?' * len(wanted))}) ORDER BY position"
            yield from (Frame(-1, *picture) for picture in self._pictures(query, wanted, DecodeReport(), window))

    def sample(self, count: int) -> Iterator[Frame]:
        """Give about `count` frames spread evenly: their whole stored region, as whole frames are not stored.

        Their `index` is -1, as with every source. Raises ValueError when the source is closed.
        """
        wanted = sorted({self._count * (2 * number + 1) // (2 * count) for number in range(count)})
        query = f"{_PICTURES} WHERE position IN ({','.join('?' * len(wanted))}) ORDER BY position"
        pictures = self._pictures(query, wanted, self._new_report(), self._window(None))
        return (Frame(-1, *picture) for picture in pictures)

    def close(self) -> None:
        """Stop iterations that still run; a closed source gives no more frames."""
        self._closed = True

    def _pictures(
        self, query: str, wanted: list[int], report: DecodeReport, window: _Window
    ) -> Iterator[tuple[int, int, Image]]:
        damaged = 0
        with opened(self._path) as connection:
            for pts, duration, jpeg in _rows(connection, query, wanted, report):
                if self._closed:
                    return
                picture = image_from_jpeg(jpeg)
                damaged += picture is None
                if picture is not None:
                    report.frames += 1
                    yield pts, duration, np.ascontiguousarray(picture[window])
        report.errors += damaged
        if damaged:
            report.messages.append(f"{damaged} damaged pictures in {self._path.name} left out.")

    def _window(self, region: Box | None) -> _Window:
        if region is None:
            return (slice(None), slice(None))
        if self._layout is None:
            raise InputError(
                f"{self._path} holds no frames: no text was seen in {self.name} when it was written. Give that video "
                "itself, with --region."
            )
        stored = self._layout.region
        left, top = region.left - stored.left, region.top - stored.top
        if left < 0 or top < 0 or region.right > stored.right or region.bottom > stored.bottom:
            raise InputError(
                f"{self._path} holds only the region {stored.as_tuple()} of each frame, asked for {region.as_tuple()}. "
                "Ask for a region inside it, or read the video file itself."
            )
        return (slice(top, top + region.height), slice(left, left + region.width))

    def _new_report(self) -> DecodeReport:
        if self._closed:
            raise ValueError(_CLOSED.format(path=self._path))
        self._report = self._stored_report()
        return self._report

    def _stored_report(self) -> DecodeReport:
        problems = self._values["problems"]
        return DecodeReport(
            errors=problems["errors"],
            skipped_without_pts=problems["skipped_without_pts"],
            truncated=problems["truncated"],
            messages=list(problems["messages"]),
        )

    def _stored_info(self) -> VideoInfo:
        values = self._values
        return VideoInfo(
            path=self._path,
            width=values["width"],
            height=values["height"],
            time_base=Fraction(*values["time_base"]),
            average_rate=Fraction(*values["average_rate"]) if values["average_rate"] else None,
            frame_count=self._count,
            duration_seconds=values["duration_seconds"],
            frame_count_exact=True,
        )


def _rows(
    connection: sqlite3.Connection, query: str, wanted: list[int], report: DecodeReport
) -> Iterator[tuple[int, int, bytes]]:
    """Give rows up to where the file is damaged; the rows before are kept."""
    try:
        yield from connection.execute(query, wanted)
    except sqlite3.DatabaseError as error:
        report.truncated = True
        report.messages.append(f"The database is damaged ({error}); the frames before are kept.")


def image_from_jpeg(data: bytes) -> Image | None:
    """Decode a JPEG to uint8 `(height, width, 3)` RGB; None when it is damaged."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    return None if picture is None else picture.astype(np.uint8, copy=False)


def read_layout(path: str | Path) -> CaptionLayout | None:
    """Return the layout stored in a video database; None when the video showed no text. Raises InputError."""
    return VideoDatabase(path).layout


def read_captions(path: str | Path) -> list[Span]:
    """Return the confirmed captions of a video database in time order. Raises InputError."""
    time_base = VideoDatabase(path).info.time_base
    with opened(Path(path)) as connection:
        query = f"SELECT {SPAN_COLUMNS} FROM captions ORDER BY start_pts, id"  # noqa: S608 (constant)
        return [
            Span(start, end, time_base, first, last, text)
            for start, end, first, last, text in connection.execute(query)
        ]


def read_results(path: str | Path, run: int | None = None) -> list[Span]:
    """Return the captions that one inference run found, the latest run's when `run` is None. Raises InputError."""
    time_base = VideoDatabase(path).info.time_base
    chosen = "run = ?" if run is not None else "run = (SELECT max(id) FROM runs)"
    with opened(Path(path)) as connection:
        boundaries = "boundaries" if has_boundaries(connection) else "'{}'"
        columns = f"{SPAN_COLUMNS}, score, flags, {boundaries}"
        query = f"SELECT {columns} FROM results WHERE {chosen} ORDER BY start_pts, id"  # noqa: S608 (constants)
        rows = connection.execute(query, () if run is None else (run,))
        return [
            Span(start, end, time_base, first, last, text, score, tuple(json.loads(flags)), **_boundaries(more))
            for start, end, first, last, text, score, flags, more in rows
        ]


def _boundaries(text: str) -> dict[str, Any]:
    """Read what results say of their boundaries; JSON has lists where a span has tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()}
