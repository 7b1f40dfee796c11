"""Open, create and upgrade dataset databases.

A dataset is an SQLite file, or any database SQLAlchemy reaches by URL. SQLite runs in WAL mode with a busy timeout, so
that training can write its experiment while others read.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from cb_runtime.errors import InputError

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another one before it gives up."""

_TRY_AGAIN = 0.05
"""Seconds after which WAL mode is asked for again."""


class StorageError(InputError):
    """The database or its disk cannot take more; no other video would fare better."""


_VERSION_TABLE = "alembic_version"


def get_dataset_db(path_or_url: str | Path, *, create: bool = False) -> Generator[Session, None, None]:
    """Give one session on a dataset: `with next(get_dataset_db(path)) as db: db.query(...)`.

    Args:
        path_or_url: An SQLite file or an SQLAlchemy URL.
        create: Make the database when it does not exist.

    Raises:
        InputError: No dataset there, not one of ours, or written by a newer cb.
    """
    session = open_session_on(path_or_url, create=create)
    yield session
    # No `finally`: `next(...)` drops the generator at once, and closing then would end the caller's session. This line
    # runs only where the generator is finished properly, as dependency injection does.
    session.close()


def open_session_on(path_or_url: str | Path, *, create: bool = False) -> Session:
    """Return a new session on a dataset, upgraded to this cb's schema; see `get_dataset_db`."""
    engine = dataset_engine(path_or_url, create=create)
    with database_errors(path_or_url), engine.connect() as connection:
        _bring_to_head(connection, path_or_url, create=create)
    return Session(engine, expire_on_commit=False)


def dataset_engine(path_or_url: str | Path, *, create: bool = False) -> Engine:
    """Return an engine on a dataset without looking at its schema. Raises InputError when an SQLite file is missing."""
    url = dataset_url(path_or_url)
    if url.get_backend_name() == "sqlite":
        _check_sqlite_file(url, create=create)
    try:
        engine = create_engine(url, poolclass=NullPool)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise InputError(f"{url.render_as_string()} needs a database driver: {error}. Install it with pip.") from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
    return engine


def dataset_url(path_or_url: str | Path) -> URL:
    """Return the SQLAlchemy URL of a file or URL. Raises InputError when it is neither."""
    if "://" not in str(path_or_url):
        return URL.create("sqlite", database=str(Path(path_or_url).resolve()))
    try:
        return make_url(str(path_or_url))
    except (ArgumentError, ValueError) as error:
        shown = re.sub("//.*@", "//***@", str(path_or_url))  # a password may stand there
        raise InputError(f"A dataset is an SQLite file or an SQLAlchemy URL, got '{shown}'.") from error


def public_name(path_or_url: str | Path) -> str:
    """Return a dataset's path or URL as it may be shown: without its password."""
    return dataset_url(path_or_url).render_as_string() if "://" in str(path_or_url) else str(path_or_url)


@contextmanager
def database_errors(path_or_url: str | Path) -> Iterator[None]:
    """Turn what a user can mend (disk full, no permission, a server away, a foreign file) into InputError."""
    try:
        yield
    except DatabaseError as error:
        raise _input_error(path_or_url, error) from error


def head_revision() -> str:
    """Return the schema revision this cb writes."""
    head = _scripts().get_current_head()
    assert head is not None, "cb_core.data.migrations holds at least one revision"
    return head


def _input_error(path_or_url: str | Path, error: DatabaseError) -> StorageError | DatabaseError:
    name = public_name(path_or_url)
    reason = str(error.orig)
    if "disk is full" in reason or "No space left" in reason:
        return StorageError(
            f"The disk is full: {name} keeps what it had. Free some space and run the same command again; it continues "
            "where it stopped."
        )
    if type(error.orig) is sqlite3.DatabaseError:
        return StorageError(f"{name} is not a dataset, or is damaged ({reason}). Restore it or build a new one.")
    if type(error).__name__ == "OperationalError":
        return StorageError(f"{name} cannot be used: {reason}. Check its place, permissions and who else is writing.")
    return error


def _check_sqlite_file(url: URL, *, create: bool) -> None:
    path = Path(url.database or "")
    if not path.exists():
        if not create:
            raise InputError(f"There is no dataset {path}. Build one with: cb dataset create {path.name} --videos DIR")
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; a dataset is a file such as captions.db.")
    # The file itself is left to SQLite: opening and closing it here would drop this process's locks on it (POSIX locks
    # belong to a process, not to a descriptor), and another process could delete the write-ahead log under a run.


def _set_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401  (a DB-API connection)
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "foreign_keys = ON", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _bring_to_head(connection: Connection, path_or_url: str | Path, *, create: bool) -> None:
    # Before the revision: another process may create the dataset in between, and its tables must not look foreign.
    tables = inspect(connection).get_table_names()
    current = _current_revision(connection)
    if current == head_revision():
        return
    if current is None:
        _check_may_create(connection, tables, path_or_url, create=create)
    elif current not in {script.revision for script in _scripts().walk_revisions()}:
        raise InputError(
            f"{public_name(path_or_url)} has schema {current}, which this cb does not know (it knows up to "
            f"{head_revision()}): a newer cb wrote it. Upgrade cb-toolkit."
        )
    _upgrade(connection)


def _check_may_create(connection: Connection, tables: Sequence[str], path_or_url: str | Path, *, create: bool) -> None:
    if not create:
        raise InputError(f"{public_name(path_or_url)} is not a dataset of cb. Build one with: cb dataset create")
    if tables and connection.dialect.name == "sqlite":
        raise InputError(
            f"{public_name(path_or_url)} holds other tables ({', '.join(tables[:3])}). Choose another file name."
        )


def _current_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608  (a constant)
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    connection.rollback()
    if connection.dialect.name == "sqlite":
        _write_ahead(connection)
        # The driver opens no transaction for DDL by itself; this one also keeps others from upgrading meanwhile.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    if _current_revision(connection) != head_revision():
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    connection.commit()


def _write_ahead(connection: Connection) -> None:
    """Set WAL mode. Where two do so at once SQLite refuses one without waiting: it tries again."""
    last = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            connection.rollback()
            if "locked" not in str(error.orig) or time.monotonic() > last:
                raise
            time.sleep(_TRY_AGAIN)
        else:
            connection.rollback()
            return


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    return config
