"""How many cores this process may use, and what follows from it."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux says, inside a container, how much CPU time it gets: microseconds (or `max`) in a period of so many."""

MOST_DECODE_THREADS = 8
"""More threads hardly speed up one video's decoder, and each holds a frame of its own."""


def usable_cores() -> int:
    """Return the number of cores this process may use: in a container often less than the machine has, 1 at least."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(_quota())))


def _quota() -> float:
    """Return the cores' worth of time that a container gets; those of the machine when nothing limits it."""
    with suppress(OSError, ValueError):  # no container, or one of another kind
        granted, period = QUOTA.read_text().split()
        return int(granted) / int(period)  # `max` is no number
    return float(os.cpu_count() or 1)


def default_decode_threads() -> int:
    """Return how many threads decode a video: half of the cores, as the model needs the others, and 1 at least.

    On two cores a second thread gains a tenth where every pair is looked at (`benchmarks/overlap.py`), which by default
    most are not.
    """
    return min(MOST_DECODE_THREADS, max(1, usable_cores() // 2))
