"""Stages that run ahead: an iterator, in a thread of its own, over a bounded queue.

A chain of iterators does one thing at a time. Where each of them runs ahead of the next by a few items, all work at
once and the slowest alone sets the rate. What an iterator raises reaches who reads it, after the items before it; when
reading ends early, every stage ends, closes its iterator in the thread that ran it, and its thread is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar

from cb_runtime.pipeline.clock import Clock, clock_for, counted, current_clock, running, working
from cb_runtime.pipeline.profile import BUSY, INPUT, OUTPUT, Profile
from cb_runtime.progress import Progress

T = TypeVar("T")

DEPTH = 2
"""Items by which a stage runs ahead unless told otherwise: one being read and one ready."""


class Halted(Exception):  # noqa: N818  (no error: somebody said stop)
    """Somebody said stop while a pipeline ran."""


class _End:
    """Last thing in a queue: the iterator ended, with an error or without."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Ahead(Generic[T]):
    """An iterator over what another thread reads from `items`, at most `depth` items ahead."""

    def __init__(
        self,
        items: Iterable[T],
        name: str,
        depth: int,
        count: Callable[[T], int],
        pipeline: Pipeline,
        new_clock: _NewClock,
    ) -> None:
        self._items: Iterable[T] | None = items
        self._count = count
        self._free = threading.Semaphore(depth)
        self._ready: SimpleQueue[T | _End] = SimpleQueue()
        self._pipeline, self._new_clock = pipeline, new_clock
        self._closing = self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"cb-{name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        reader = current_clock()
        reader.switch(INPUT)
        item = self._ready.get()
        reader.switch(BUSY)
        self._pipeline.check()
        if isinstance(item, _End):
            self._ended = True
            raise item.error or StopIteration
        self._free.release()
        return item

    def stop(self) -> None:
        """Let the thread end at its next item, without waiting for it."""
        self._closing = True
        self._free.release()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread.ident is not None:  # else an interrupt came before it was started
            self._thread.join()

    def _run(self) -> None:
        with running(self._new_clock()):
            end = _End()
            try:
                self._pass_on()
            except BaseException as error:  # whatever it is, it is raised where items are read
                end = _End(error)
            finally:
                self._ready.put(end)
                current_clock().switch(BUSY)

    def _pass_on(self) -> None:
        items, self._items = self._items, None
        clock = current_clock()
        try:
            for item in items or ():
                clock.count(self._count(item))
                clock.switch(OUTPUT)
                self._free.acquire()
                clock.switch(BUSY)
                self._pipeline.check()
                if self._closing:
                    break
                self._ready.put(item)
        finally:
            _close(items)


class _InTurn(Generic[T]):
    """An iterator over `items` in the thread that reads it, timed like a stage that runs ahead."""

    def __init__(self, items: Iterable[T], count: Callable[[T], int], pipeline: Pipeline, new_clock: _NewClock) -> None:
        self._items, self._count = items, count
        self._iterator = iter(items)
        self._pipeline = pipeline
        self._clock = new_clock(OUTPUT)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        self._pipeline.check()
        reader = current_clock()
        reader.switch(INPUT)
        self._clock.switch(BUSY)
        try:
            with running(self._clock):
                item = next(self._iterator)
            self._clock.count(self._count(item))
            return item
        finally:
            self._clock.switch(OUTPUT)
            reader.switch(BUSY)

    def start(self) -> None:
        """Do nothing: what is not asked for is not read."""

    def stop(self) -> None:
        """Do nothing: what is not asked for is not read."""

    def join(self) -> None:
        """Close the items."""
        _close(self._items)


_NewClock = Callable[..., Clock]


def _close(items: object) -> None:
    close = getattr(items, "close", None)
    if close is not None:
        close()


def _one(_item: object) -> int:
    return 1


class Pipeline:
    """Stages of one video's work; when the block of the pipeline ends, all of them have ended.

    Args:
        overlapped: Run each stage in a thread of its own; otherwise all take turns in the thread that reads.
        profile: Told what the stages do with their time; None: nobody is.
        halt: When set, whatever stage runs next raises `Halted`.
    """

    def __init__(
        self, *, overlapped: bool, profile: Profile | None = None, halt: threading.Event | None = None
    ) -> None:
        self.overlapped = overlapped
        self._profile, self._halt = profile, halt
        self._stages: list[_Ahead[Any] | _InTurn[Any]] = []

    def ahead(
        self,
        items: Iterable[T],
        name: str,
        *,
        unit: str = "frames",
        depth: int = DEPTH,
        count: Callable[[T], int] = _one,
        streaming: bool = True,
    ) -> Iterator[T]:
        """Return an iterator over `items` as a stage of its own.

        Args:
            items: Read in the stage's thread, and closed there where they can be. They must not be overwritten by the
                items that follow them.
            name: The stage's name in the profile and of its thread.
            unit: What the profile counts.
            depth: By how many items it may run ahead.
            count: How many of that an item is.
            streaming: False for what runs before or after the stages that a video's frames stream through.
        """

        def new_clock(state: int = BUSY) -> Clock:
            return clock_for(self._profile, name, unit, state, streaming=streaming)

        stage: _Ahead[T] | _InTurn[T] = (
            _Ahead(items, name, depth, count, self, new_clock)
            if self.overlapped
            else _InTurn(items, count, self, new_clock)
        )
        self._stages.append(stage)  # before it starts, so that no interrupt leaves it behind
        stage.start()
        return stage

    def inside(
        self, items: Iterable[T], name: str, *, unit: str = "frames", count: Callable[[T], int] = _one
    ) -> Iterator[T]:
        """Give `items`, booking the time that making them takes to a part of the stage that reads them, and to both."""
        iterator = iter(items)
        while True:
            with self.working(name, unit=unit, streaming=False):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                counted(count(item))
            yield item

    def working(self, name: str, *, unit: str = "frames", streaming: bool = True) -> AbstractContextManager[None]:
        """Book the time of a block, in this thread, to a stage; see `working`."""
        return working(self._profile, name, unit=unit, streaming=streaming)

    def counting(self, progress: Progress) -> Progress:
        """Return a callback that also counts for the profile what it is told, and ends when somebody said stop."""

        def told(phase: str, done: int, total: int | None = None) -> None:
            self.check()
            counted(1)
            progress(phase, done, total)

        return told

    def check(self) -> None:
        """Raise `Halted` when somebody said stop."""
        if self._halt is not None and self._halt.is_set():
            raise Halted

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # All are told before any is waited for: a stage may be waiting for another one's next item.
        for stage in self._stages:
            stage.stop()
        for stage in self._stages:
            stage.join()
        self._stages.clear()
