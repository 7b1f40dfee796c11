"""Timing by turns, so that a machine whose speed drifts slows all contenders alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def interleaved_seconds(
    contenders: Sequence[Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    settle_seconds: float = 0.0,
) -> NDArray[np.float64]:
    """Run all contenders by turns and return their times.

    Args:
        contenders: What is timed. Every second round runs them in reverse, so that none always follows the same one.
        rounds: Rounds that count.
        warm_up: Rounds before them that do not.
        clock: Returns seconds.
        settle_seconds: How long a contender runs untimed at the beginning of each turn, above 0 at least once: threads
            of the one before may wait busily for more work for a while, and caches are full of its data.

    Returns:
        Seconds `(contenders, rounds)`; figures of one column were taken right after each other.
    """
    seconds = np.zeros((len(contenders), rounds))
    for number in range(-warm_up, rounds):
        turns = range(len(contenders))
        for turn in turns if number % 2 == 0 else reversed(turns):
            _settle(contenders[turn], settle_seconds, clock)
            started = clock()
            contenders[turn]()
            if number >= 0:
                seconds[turn, number] = clock() - started
    return seconds


def _settle(contender: Callable[[], object], seconds: float, clock: Callable[[], float]) -> None:
    end = clock() + seconds if seconds else -np.inf
    while clock() < end:
        contender()


def median_ratio(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the median over rounds of how many times as long `other` took as `one`."""
    return float(np.median(other / one))
