"""Files that are published only when they are whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG

from cb_runtime.errors import InputError, StorageError

_MARK = ".cb-tmp-"
"""Stands in every temporary name, so that no file of the user's is taken for one."""

LONGEST_NAME = 255
"""Bytes that a file name may have on the file systems in use."""

_ROOM = 64
"""Bytes that are left for what is put before and behind the stem of a temporary name, or of one that is made of it."""

_STALE_SECONDS = 3600
"""A temporary file untouched for longer was left by a killed process; a younger one may still be written."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EPERM, errno.EISDIR)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends without an error, it replaces `path` in one step.

    The parent folder is created. The temporary name ends like `path`, so that writers which look at the suffix work.
    After an error nothing is left behind and an older file stays as it was. What a killed process left behind of the
    same `path` is removed when it is old enough that nobody writes it any more. Raises StorageError when the disk is
    full or the folder cannot be written.
    """
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(final)
        prefix = f".{short_stem(final)}{_MARK}"
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=final.suffix, dir=final.parent)
        os.close(descriptor)
        temporary = Path(name)
        temporary.chmod(0o666 & ~_umask())
    except OSError as error:
        raise write_error(final, error) from error
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(final)
    except OSError as error:
        raise write_error(final, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path, temporary: Path | None = None) -> Iterator[Path]:
    """Give an empty folder `temporary` beside `path`; when the block ends without an error, it takes the name `path`.

    A folder that stands there already is removed with all that is in it, also when `temporary` was left empty: then
    there is none afterwards. After an error an older folder stays as it was. Without `temporary` one is made up, and
    the parent folder with it. Raises StorageError when the folder cannot be made; what goes wrong later, in the block
    or in the exchange, is raised as it is.
    """
    final = Path(path)
    try:
        _remove_stale(final)
        if temporary is None:
            temporary = _temporary_folder(final)
        else:
            temporary.mkdir()
    except OSError as error:
        raise write_error(final, error) from error
    try:
        yield temporary
        _replace_folder(final, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_folder(final: Path) -> Path:
    final.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{short_stem(final)}{_MARK}"
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=final.suffix, dir=final.parent))
    folder.chmod(0o777 & ~_umask())
    return folder


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path`, on its disk, to prepare it in; removed when the block ends.

    What a killed process left behind goes when `path` is written again, as of `atomic_path`. Raises StorageError when
    the folder cannot be made.
    """
    try:
        folder = _temporary_folder(path)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def atomic_companion(path: str | Path, temporary: Path) -> Iterator[Path]:
    """Let the block write `temporary` beside `path`; when it ends without an error, that takes the name `path`.

    For a file that stands beside another, whose temporary name is its own's beginning. After an error nothing is left
    behind and an older file stays as it was. Raises FileNotFoundError when the block wrote nothing.
    """
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace_folder(final: Path, temporary: Path) -> None:
    for member in (*temporary.rglob("*"), temporary):
        _flush(member)
    if final.exists():
        # Renamed first: half a folder must never stand under the final name.
        older = _temporary_folder(final)
        final.replace(older)
        shutil.rmtree(older)
    if any(temporary.iterdir()):
        temporary.replace(final)


def short_stem(path: Path) -> str:
    """Return a file's stem as names that are made of it have it: one that leaves too little room is cut.

    What is cut off is told apart by a digest.
    """
    stem = path.stem
    room = LONGEST_NAME - _ROOM - len(os.fsencode(path.suffix))
    if len(os.fsencode(stem)) <= room:
        return stem
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    while len(os.fsencode(stem)) > room - len(digest) - 1:
        stem = stem[:-1]
    return f"{stem}-{digest}"


def status_of(path: Path) -> os.stat_result | None:
    """Return what the system tells of a file or folder; None where there is none.

    Raises InputError where it may not be looked at, or the name is none that a file can have.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Check the name, and your permissions for its folder."
        ) from error


def is_file(path: Path) -> bool:
    """Tell whether a path is a file. Raises InputError where that may not be looked at (`Path.is_file`: OSError)."""
    status = status_of(path)
    return status is not None and S_ISREG(status.st_mode)


def check_writable(folder: str | Path) -> None:
    """Make `folder` when it is missing, and a file in it for a moment. Raises StorageError when either fails."""
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise write_error(place, error) from error


def _remove_stale(final: Path) -> None:
    # A temporary file may be another's (`..a.cb-tmp-1.cb-tmp-2.srt`), what stands beside it, or SQLite's journal.
    stem, suffix = re.escape(short_stem(final)), re.escape(final.suffix)
    left_over = re.compile(rf"\.+{stem}({re.escape(_MARK)}[a-z0-9_]{{8}})+{suffix}(-journal|\.json|\.staged)?")
    latest = time.time() - _STALE_SECONDS
    with contextlib.suppress(OSError):  # another process may remove it at the same moment; what stays does no harm
        for path in final.parent.iterdir():
            if left_over.fullmatch(path.name) and path.stat().st_mtime < latest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _flush(path: Path) -> None:
    """Bring a file to the disk, or the names in a folder where the system can do that for folders."""
    if path.is_dir():
        if not hasattr(os, "O_DIRECTORY"):
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_error(path: Path, error: OSError) -> OSError | StorageError:
    """Return what to raise when `path` could not be written: the user's to mend, or the error as it was."""
    # What is written into a temporary file of ours is told by the name it was meant to get.
    path = path.with_name(re.sub(rf"^\.(.+){re.escape(_MARK)}[a-z0-9_]{{8}}", r"\1", path.name))
    if error.errno in _FULL:
        return StorageError(f"The disk is full: {path} was not written. Free some space and run the command again.")
    if error.errno in _UNWRITABLE:
        return StorageError(f"{path} cannot be written ({error.strerror}). Choose another place for it.")
    return error


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
