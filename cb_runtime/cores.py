"""How many cores this process may use, and what follows from it."""

from __future__ import annotations

import os

MOST_DECODE_THREADS = 8
"""More threads hardly speed up one video's decoder, and each holds a frame of its own."""


def usable_cores() -> int:
    """Return the number of cores this process may run on, which in a container is often less than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_decode_threads() -> int:
    """Return how many threads decode a video: half of the cores, as the model needs the others, and 1 at least.

    On two cores a second thread costs a tenth more CPU time a frame and gains nothing (`benchmarks/overlap.py`).
    """
    return min(MOST_DECODE_THREADS, max(1, usable_cores() // 2))
