"""How a thread tells a profile what it does with its time: one clock for each stage and thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cb_runtime.pipeline.profile import BUSY, INPUT, Profile, StageProfile


class Clock:
    """Tells a profile what one thread does with its time in one stage.

    Args:
        profile: None tells nobody.
        stage: Of the profile.
        state: The first one.
        whole: The clock of the stage that this one is a part of, which waits when its part does.
    """

    def __init__(
        self, profile: Profile | None, stage: StageProfile | None, state: int = BUSY, whole: Clock | None = None
    ) -> None:
        self._profile, self._stage, self._state, self._whole = profile, stage, state, whole
        self._since = profile.clock() if profile else 0.0

    def switch(self, state: int) -> None:
        """Book the time since the last switch, and go over to another state."""
        if self._whole is not None:
            self._whole.switch(state)
        if self._profile is None or self._stage is None:
            return
        now = self._profile.clock()
        self._profile.add(self._stage, self._state, self._since, now)
        self._state, self._since = state, now

    def count(self, items: int) -> None:
        """Book finished items."""
        if self._profile is not None and self._stage is not None:
            self._profile.count(self._stage, items)


NO_CLOCK = Clock(None, None)
_thread = threading.local()


def current_clock() -> Clock:
    """Return the clock of the stage that runs in this thread; one that tells nobody where none does."""
    clock: Clock = getattr(_thread, "clock", NO_CLOCK)
    return clock


@contextmanager
def running(clock: Clock) -> Iterator[None]:
    """Make a clock this thread's while the block runs."""
    before = current_clock()
    _thread.clock = clock
    try:
        yield
    finally:
        _thread.clock = before


def clock_for(profile: Profile | None, name: str, unit: str, state: int = BUSY, *, streaming: bool = True) -> Clock:
    """Return a clock for a stage of a profile, or one that tells nobody."""
    if profile is None:
        return NO_CLOCK
    whole = None if streaming else current_clock()
    return Clock(profile, profile.stage(name, unit, streaming=streaming), state, whole)


@contextmanager
def working(profile: Profile | None, name: str, *, unit: str = "frames", streaming: bool = True) -> Iterator[None]:
    """Book the time of a block, in this thread, to a stage of a profile; None: to nobody.

    `streaming` is False for what is done before or after the stages that run beside each other, or is part of one.
    """
    clock = clock_for(profile, name, unit, streaming=streaming)
    with running(clock):
        try:
            yield
        finally:
            clock.switch(BUSY)


@contextmanager
def waiting() -> Iterator[None]:
    """Book the time of a block to the waiting for input of the stage that runs in this thread."""
    clock = current_clock()
    clock.switch(INPUT)
    try:
        yield
    finally:
        clock.switch(BUSY)


def counted(items: int) -> None:
    """Book finished items to the stage that runs in this thread."""
    current_clock().count(items)
