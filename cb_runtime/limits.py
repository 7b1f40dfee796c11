"""How long the work on one video may take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from cb_runtime.errors import UsageError
from cb_runtime.progress import Progress

T = TypeVar("T")


class OutOfTime(Exception):  # noqa: N818  (no error: what was done is kept)
    """The time is over, in a step whose half is of no use."""


class TimeLimit:
    """A number of seconds from now on; None: no limit.

    It is looked at between frames: a step that is under way is finished, and one that hangs is not ended by it.
    Raises UsageError unless the seconds are more than 0.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not seconds > 0:
            raise UsageError(f"--timeout must be more than 0 seconds, got {seconds}.")
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self.ended_something = False
        """True once work was ended by this limit."""

    def over(self) -> bool:
        """Tell whether work must end now."""
        if self._end is not None and time.monotonic() >= self._end:
            self.ended_something = True
        return self.ended_something

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """Give items until the time is over."""
        for item in items:
            if self.over():
                return
            yield item

    def through(self, progress: Progress) -> Progress:
        """Return a progress callback that raises `OutOfTime` when the time is over."""

        def told(phase: str, done: int, total: int | None = None) -> None:
            progress(phase, done, total)
            if self.over():
                raise OutOfTime

        return told

    def message(self, frames: int) -> str:
        """Say what was done when the time was over."""
        done = f"only the first {frames} frames were scored" if frames else "no frame was scored"
        return f"The time limit of {self._seconds:g} s (--timeout) was reached: {done}."

    def message_of_closer_looks(self, done: int, wanted: int) -> str:
        """Say what was left undone when all frames were scored and the time was over then."""
        return (
            f"The time limit of {self._seconds:g} s (--timeout) was reached after all frames were scored: of {wanted} "
            f"changes in doubt {done} were looked at more closely."
        )
