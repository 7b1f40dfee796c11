"""Files that are published only when they are whole."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cb_runtime.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends without an error, it replaces `path` in one step.

    The parent folder is created. The temporary name ends like `path`, so that writers which look at the suffix work.
    After an error nothing is left behind and an older file stays as it was. Raises InputError when the disk is full
    or the folder cannot be written.
    """
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{final.stem}.", suffix=final.suffix, dir=final.parent)
        os.close(descriptor)
        temporary = Path(name)
        temporary.chmod(0o666 & ~_umask())
    except OSError as error:
        raise _write_error(final, error) from error
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(final)
    except OSError as error:
        raise _write_error(final, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _write_error(path: Path, error: OSError) -> OSError | InputError:
    if error.errno == errno.ENOSPC:
        return InputError(f"The disk is full: {path} was not written. Free some space and run the command again.")
    if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EPERM):
        return InputError(f"{path} cannot be written ({error.strerror}). Choose another place for it.")
    return error


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
