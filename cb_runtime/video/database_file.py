"""The SQLite file of a video database: its tables, opening it, and saying what is wrong with it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cb_runtime.errors import InputError, StorageError
from cb_runtime.files import is_file
from cb_runtime.layout import CaptionLayout, layout_from_dict

APPLICATION_ID = 0x63625644
"""`cbVD`: written into the file's header, so that no other SQLite file is taken for a video database."""

SCHEMA_VERSION = 1
"""Number of this schema, kept in the file's `user_version`."""

BUSY_SECONDS = 30.0
"""How long to wait for another program that is writing."""

SPAN_COLUMNS = "start_pts, end_pts, start_frame, end_frame, text"

TABLES = """
CREATE TABLE video (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE frames (
    position INTEGER PRIMARY KEY, pts INTEGER NOT NULL UNIQUE, duration INTEGER NOT NULL, jpeg BLOB NOT NULL
);
CREATE TABLE captions (
    id INTEGER PRIMARY KEY, start_pts INTEGER NOT NULL, end_pts INTEGER NOT NULL,
    start_frame INTEGER NOT NULL, end_frame INTEGER NOT NULL, text TEXT
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, created TEXT NOT NULL, partial INTEGER NOT NULL,
    model TEXT NOT NULL, statistics TEXT NOT NULL, messages TEXT NOT NULL
);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs (id),
    start_pts INTEGER NOT NULL, end_pts INTEGER NOT NULL, start_frame INTEGER NOT NULL, end_frame INTEGER NOT NULL,
    text TEXT, score REAL NOT NULL, flags TEXT NOT NULL, boundaries TEXT NOT NULL DEFAULT '{}'
);
"""

BOUNDARY_FIELDS = ("start_score", "end_score", "fade_in", "fade_out", "fade_in_pts", "fade_out_pts")
"""Fields of a span that the column `boundaries` holds as JSON; databases from before it lack the column."""


def has_boundaries(connection: sqlite3.Connection) -> bool:
    """Tell whether results have the column `boundaries`."""
    return any(name == "boundaries" for _, name, *_ in connection.execute("PRAGMA table_info(results)"))


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing SQLite file; transactions are begun by hand."""
    # `rw`, also for reading: after a kill, the first reader rolls the unfinished transaction back.
    uri = path.absolute().as_uri() + "?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a video database. Raises InputError when the file is missing or is not one of this schema."""
    if not is_file(path):
        raise InputError(f"{path} does not exist or is no file, expected a video database. Check its name.")
    with explained(path), closing(connect(path)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise InputError(
                f"{path} is an SQLite file, but no video database. Dataset databases are read by `cb dataset` and "
                "`cb train`; for a video, give the video file."
            )
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema {version}, this cb reads schema {SCHEMA_VERSION}. Install the cb-toolkit release "
                "that wrote it, or write it again from the video."
            )
        yield connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into InputErrors that name `path` and say what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _error(path, error) from error


def _error(path: Path, error: sqlite3.DatabaseError) -> InputError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageError(f"The disk is full: {path} was not changed. Free some space and run the command again.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return InputError(
            f"{path} cannot be opened or written ({error}). Check its permissions, or choose another place."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return InputError(f"{path} is being written by another program. Wait for it and run the command again.")
    return InputError(f"{path} is not a video database, or is damaged ({error}). Write it again from the video.")


def read_values(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return what is stored of the video as plain JSON types."""
    return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM video")}


def layout_of(values: dict[str, Any]) -> CaptionLayout | None:
    """Return the stored layout; None when the video showed no text."""
    return None if values["layout"] is None else layout_from_dict(values["layout"])
