"""Writing video databases: whole or not at all, also through a kill or a full disk."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2

from cb_runtime.errors import UsageError
from cb_runtime.files import atomic_path
from cb_runtime.layout import CaptionLayout
from cb_runtime.progress import Progress, no_progress
from cb_runtime.results import json_text
from cb_runtime.spans import Span
from cb_runtime.video.database_file import (
    APPLICATION_ID,
    BOUNDARY_FIELDS,
    SCHEMA_VERSION,
    SPAN_COLUMNS,
    TABLES,
    connect,
    explained,
    has_boundaries,
    opened,
    read_values,
)
from cb_runtime.video.types import FrameSource, Image

DEFAULT_QUALITY = 95
"""JPEG quality at which strokes of small captions stay clean."""


def write_video_database(
    path: str | Path,
    source: FrameSource,
    layout: CaptionLayout | None,
    spans: Iterable[Span] | None = None,
    *,
    quality: int = DEFAULT_QUALITY,
    progress: Progress = no_progress,
) -> None:
    """Write the caption region of every frame of `source`, its layout and its confirmed captions.

    An existing file is replaced, in one step and only when the new one is whole.

    Args:
        path: Where to write, ending in `.db`.
        source: The video; read problems are stored too, so that the database is as partial as its video was.
        layout: Gives the region. None (no text in the video): no frames are stored.
        spans: Confirmed captions in the source's time base.
        quality: JPEG quality, 1 to 100.
        progress: Told after each frame.

    Raises:
        InputError: The source cannot be read, the disk is full, or the place cannot be written.
        UsageError: A span is in another time base than the source's.
    """
    captions = [_span_row(span, source) for span in spans or ()]
    with atomic_path(path) as temporary, explained(Path(path)), closing(connect(temporary)) as connection:
        # Nobody else sees this file before it is whole, so it needs no journal of its own.
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.executescript(TABLES)
        connection.execute("BEGIN")
        rows = _frame_rows(source, layout, quality, progress)
        connection.executemany("INSERT INTO frames VALUES (?, ?, ?, ?)", rows)
        connection.executemany(f"INSERT INTO captions ({SPAN_COLUMNS}) VALUES (?, ?, ?, ?, ?)", captions)  # noqa: S608 (constant)
        values = {key: json.dumps(value) for key, value in _values(source, layout).items()}
        connection.executemany("INSERT INTO video VALUES (?, ?)", values.items())
        connection.execute("COMMIT")


def copy_video_database(source: str | Path, path: str | Path) -> None:
    """Copy a video database as it stands between two transactions. Raises InputError as `write_video_database` does."""
    with (
        opened(Path(source)) as connection,
        atomic_path(path) as temporary,
        explained(Path(path)),
        closing(connect(temporary)) as copy,
    ):
        connection.backup(copy)


def append_results(
    path: str | Path,
    spans: Iterable[Span],
    *,
    model: Mapping[str, Any] | None = None,
    statistics: Mapping[str, Any] | None = None,
    messages: Sequence[str] = (),
    partial: bool = False,
) -> int:
    """Add one run's captions to a video database in one transaction; earlier runs stay. Returns the run's id.

    Raises:
        InputError: The file is not a video database, the disk is full, or another program keeps it locked.
        UsageError: A span is in another time base than the video's.
    """
    texts = [json_text(value) for value in (dict(model or {}), dict(statistics or {}), list(messages))]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with opened(Path(path)) as connection:
        time_base = read_values(connection)["time_base"]
        rows = [(*_checked(span, time_base), span.score, json.dumps(span.flags), _boundaries(span)) for span in spans]
        connection.execute("BEGIN IMMEDIATE")
        if not has_boundaries(connection):
            connection.execute("ALTER TABLE results ADD COLUMN boundaries TEXT NOT NULL DEFAULT '{}'")
        run = _insert_run(connection, (created, partial, *texts))
        columns = f"{SPAN_COLUMNS}, score, flags, boundaries, run"
        connection.executemany(f"INSERT INTO results ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {run})", rows)  # noqa: S608 (constants)
        connection.execute("COMMIT")
    return run


def _boundaries(span: Span) -> str:
    return json.dumps({name: getattr(span, name) for name in BOUNDARY_FIELDS})


def _insert_run(connection: sqlite3.Connection, values: tuple[object, ...]) -> int:
    insert = "INSERT INTO runs (created, partial, model, statistics, messages) VALUES (?, ?, ?, ?, ?) RETURNING id"
    (run,) = connection.execute(insert, values).fetchone()
    return int(run)


def _span_row(span: Span, source: FrameSource) -> tuple[int, int, int, int, str | None]:
    return _checked(span, list(source.info.time_base.as_integer_ratio()))


def _checked(span: Span, time_base: list[int]) -> tuple[int, int, int, int, str | None]:
    if list(span.time_base.as_integer_ratio()) != time_base:
        wanted = "/".join(map(str, time_base))
        raise UsageError(f"Captions of this video must be in its time base {wanted} s, got {span.time_base} s.")
    return (span.start_pts, span.end_pts, span.start_frame, span.end_frame, span.text)


def _frame_rows(
    source: FrameSource, layout: CaptionLayout | None, quality: int, progress: Progress
) -> Iterator[tuple[int, int, int, bytes]]:
    if layout is None:
        return
    for frame in source.frames(layout.region):
        yield (frame.index, frame.pts, frame.duration, jpeg_from_image(frame.image, quality))
        progress("frames", frame.index + 1, source.info.frame_count)


def _values(source: FrameSource, layout: CaptionLayout | None) -> dict[str, Any]:
    """Collect what is stored of the video; called after its frames were read, when all problems are known."""
    info, report = source.info, source.report
    return {
        "name": info.path.name,
        "width": info.width,
        "height": info.height,
        "time_base": list(info.time_base.as_integer_ratio()),
        "average_rate": list(info.average_rate.as_integer_ratio()) if info.average_rate else None,
        "duration_seconds": info.duration_seconds,
        "layout": layout.to_dict() if layout else None,
        "problems": {
            "errors": report.errors,
            "skipped_without_pts": report.skipped_without_pts,
            "truncated": report.truncated,
            "messages": report.messages,
        },
    }


def jpeg_from_image(image: Image, quality: int = DEFAULT_QUALITY) -> bytes:
    """Encode uint8 `(height, width, 3)` RGB as JPEG with full colour resolution (coloured strokes stay sharp)."""
    options = (cv2.IMWRITE_JPEG_QUALITY, quality)
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [*options, *sampling])
    return data.tobytes()
