"""What the stages of a run do with their time: busy, waiting for input, or waiting for a place for their output.

A stage that waits for a core, because others have them all, counts as busy.

Totals are exact. When which time was spent is kept in bins, `BINS` for the whole run however long it is: when a run
outgrows them, two and two are joined, so that memory is bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUSY, INPUT, OUTPUT = range(3)
"""Columns of a stage's time: working, waiting for input, waiting for a place for its output."""

BINS = 512
"""Most bins of a timeline."""

FIRST_BIN_SECONDS = 0.001


class StageProfile:
    """The time of one stage, in all threads that run it; made by `Profile.stage`."""

    def __init__(self, name: str, unit: str, streaming: bool) -> None:
        self.name = name
        self.unit = unit
        """What its items are, e.g. `frames`."""
        self.streaming = streaming
        """True when it runs beside other stages; False for what is done before or after them, or is part of one."""
        self.items = 0
        self.seconds = np.zeros(3)
        """Seconds busy, waiting for input and waiting for output, float64 `(3,)`."""
        self.bins = np.zeros((3, BINS))
        """The same by time, float64 `(3, BINS)`; `Profile.bin_seconds` is the width of a bin."""

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of its own time that the stage was busy, waited for input and waited for output; they sum to 1."""
        busy, for_input, for_output = (self.seconds / max(self.seconds.sum(), 1e-9)).tolist()
        return busy, for_input, for_output


class Profile:
    """Gathers the time of all stages of a run, of one video or of several at once.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.bin_seconds = FIRST_BIN_SECONDS
        """Width of a bin of every stage's timeline."""
        self._began = clock()
        self._end = self._began
        self._stages: dict[str, StageProfile] = {}
        self._lock = threading.Lock()

    @property
    def stages(self) -> tuple[StageProfile, ...]:
        """All stages, in the order in which they first ran."""
        return tuple(self._stages.values())

    @property
    def elapsed_seconds(self) -> float:
        """From the beginning to the latest moment that any stage told of."""
        return self._end - self._began

    def stage(self, name: str, unit: str, *, streaming: bool = True) -> StageProfile:
        """Return the stage of this name; it is made when it is new."""
        with self._lock:
            return self._stages.setdefault(name, StageProfile(name, unit, streaming))

    def add(self, stage: StageProfile, state: int, start: float, stop: float) -> None:
        """Note that a stage was in a state from `start` to `stop`, in the clock's seconds."""
        with self._lock:
            self._end = max(self._end, stop)
            stage.seconds[state] += stop - start
            while stop - self._began > self.bin_seconds * BINS:
                self._widen()
            first, last = ((moment - self._began) / self.bin_seconds for moment in (start, stop))
            _spread(stage.bins[state], first, last, self.bin_seconds)

    def count(self, stage: StageProfile, items: int) -> None:
        """Note that a stage finished so many items."""
        with self._lock:
            stage.items += items

    def slowest(self) -> StageProfile | None:
        """Return the stage that sets the rate: of those that run beside each other, the one that was busy longest."""
        return _longest_busy(stage for stage in self.stages if stage.streaming)

    def longest(self) -> StageProfile | None:
        """Return the stage that was busy longest of all, which may be one before the others, as finding the layout."""
        return _longest_busy(self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: per stage seconds, shares, items and items per second; and which sets the rate."""
        slowest, longest = self.slowest(), self.longest()
        return {
            "elapsed_seconds": round(self.elapsed_seconds, 3),
            "rate_set_by": None if slowest is None else slowest.name,
            "longest_busy": None if longest is None else longest.name,
            "stages": [self._row(stage) for stage in self.stages],
        }

    def items_per_second(self, stage: StageProfile) -> float:
        """Return a stage's items per second of its own time, waiting included."""
        return stage.items / max(float(stage.seconds.sum()), 1e-9)

    def _row(self, stage: StageProfile) -> dict[str, Any]:
        busy, for_input, for_output = stage.shares
        return {
            "name": stage.name,
            "seconds": round(float(stage.seconds.sum()), 3),
            "busy": round(busy, 4),
            "waiting_for_input": round(for_input, 4),
            "waiting_for_output": round(for_output, 4),
            "items": stage.items,
            "unit": stage.unit,
            "items_per_second": round(self.items_per_second(stage), 1),
        }

    def _widen(self) -> None:
        self.bin_seconds *= 2
        for stage in self._stages.values():
            joined = stage.bins.reshape(3, BINS // 2, 2).sum(axis=2)
            stage.bins = np.concatenate([joined, np.zeros_like(joined)], axis=1)


def _longest_busy(stages: Iterable[StageProfile]) -> StageProfile | None:
    return max(stages, key=lambda stage: stage.seconds[BUSY], default=None)


def _spread(bins: NDArray[np.float64], start: float, stop: float, seconds: float) -> None:
    """Add to each bin, so many seconds wide, the time of the part of `[start, stop)` that lies in it."""
    first, last = int(start), min(int(stop), len(bins) - 1)
    if first >= last:
        bins[last] += (stop - start) * seconds
        return
    bins[first] += (first + 1 - start) * seconds
    bins[first + 1 : last] += seconds
    bins[last] += (stop - last) * seconds
