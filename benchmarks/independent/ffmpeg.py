"""Running the Debian `ffmpeg`: one thread a command, errors that carry its own last words."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from cb_runtime.errors import UsageError

Gray = NDArray[np.uint8]
INSTALL = "Install it with: apt-get install -y ffmpeg"


def ffmpeg_missing() -> str | None:
    """Return why ffmpeg with libass cannot be used here, or None when it can."""
    if shutil.which("ffmpeg") is None:
        return f"ffmpeg is not installed. {INSTALL}"
    filters = subprocess.run(["ffmpeg", "-hide_banner", "-filters"], capture_output=True, text=True, check=False).stdout
    lacking = [name for name in ("ass", "drawtext", "zoompan") if f" {name} " not in filters]
    return f"This ffmpeg lacks the filters {', '.join(lacking)}. {INSTALL}" if lacking else None


def require_ffmpeg() -> None:
    """Raise UsageError when ffmpeg with libass cannot be used here."""
    reason = ffmpeg_missing()
    if reason is not None:
        raise UsageError(reason)


def run_ffmpeg(arguments: Sequence[str]) -> str:
    """Run ffmpeg to its end and return its log. Raises RuntimeError with the log's end when it fails."""
    done = subprocess.run(_command(arguments), capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise RuntimeError(_failure(arguments, done.stderr))
    return done.stderr


def gray_frames(arguments: Sequence[str], size: tuple[int, int], log: Path) -> Iterator[Gray]:
    """Give the frames, uint8 `(height, width)`, of a command that ends in one gray raw video; its log goes to `log`.

    Raises RuntimeError with the log's end when it fails.
    """
    width, height = size
    with log.open("wb") as errors:
        process = subprocess.Popen(_command([*arguments, "-f", "rawvideo", "-"]), stdout=subprocess.PIPE, stderr=errors)
        pipe = cast(IO[bytes], process.stdout)
        while len(data := pipe.read(width * height)) == width * height:
            yield np.frombuffer(data, np.uint8).reshape(height, width)
        if process.wait() != 0 or data:
            raise RuntimeError(_failure(arguments, log.read_text(errors="replace")))


def _command(arguments: Sequence[str]) -> list[str]:
    # `verbose` makes libass say which font it took.
    return ["ffmpeg", "-hide_banner", "-nostdin", "-y", "-nostats", "-loglevel", "verbose", *arguments]


def _failure(arguments: Sequence[str], log: str) -> str:
    return f"ffmpeg failed: {' '.join(arguments)}\n{log[-2000:]}"
