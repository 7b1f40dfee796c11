"""The work that counts, as a video gives it: what ways of running an artifact are timed by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Executor, Feeds
from cb_runtime.contract import IMAGE_INPUTS, INPUT_NAMES
from cb_runtime.measuring.timing import interleaved_seconds, median_ratio
from cb_runtime.stages import FEATURES, Stages

CPU_BATCH, GPU_BATCH = 16, 128
"""Frames, or pairs, that run together by default: on a CPU more gain nothing, a GPU needs more to be busy."""

BUDGET_SECONDS = 1.0
"""About how long two ways are timed against each other, within the limits of `ROUNDS`."""
ROUNDS = (5, 15)
"""Least and most rounds that count."""
_LONG_SECONDS = 0.3

Clock = Callable[[list[Callable[[], object]], int, int], NDArray[np.float64]]
"""Runs, rounds and warm-up to seconds `(runs, rounds)`."""


@dataclass(frozen=True)
class Part:
    """A call of the model, and how often a video needs it."""

    run: Callable[[], object]
    calls_per_frame: float


def workload(executor: Executor, inputs: Feeds, batch: int | None = None) -> tuple[Part, ...]:
    """Return what one frame costs: encoding it and classifying its pairs in stages, else one pair of the whole graph.

    Args:
        executor: What is timed.
        inputs: The five inputs of any number of pairs, in graph form.
        batch: Frames, or pairs, that run together; None takes what is usual on the executor's device.
    """
    batch = batch or (CPU_BATCH if executor.describe()["device"] == "cpu" else GPU_BATCH)
    rows = np.resize(np.arange(len(inputs["frame1"])), batch)
    feeds = {name: np.ascontiguousarray(inputs[name][rows]) for name in INPUT_NAMES}
    stages = stages_of(executor)
    if stages is None:
        return (Part(partial(executor.run, feeds), 1 / batch),)
    return tuple(_in_stages(stages.resident or stages, feeds, batch))


def stages_of(executor: Executor) -> Stages | None:
    """Return a model in two steps, where it has them."""
    stages: Stages | None = getattr(executor, "stages", None)
    return stages


def _in_stages(stages: Stages, feeds: Feeds, batch: int) -> Iterator[Part]:
    for role in {stages.roles[role]: role for role in ("frame2", "frame1")}.values():
        yield Part(partial(stages.encode, role, feeds[role]), 1 / batch)
    features = {f"{role}_{FEATURES}": stages.encode(role, feeds[role]) for role in IMAGE_INPUTS}
    pairs = features | {name: feeds[name] for name in INPUT_NAMES if name not in IMAGE_INPUTS}
    both_directions = 2 * len(stages.metadata.decoding.distances)
    yield Part(partial(stages.classify, pairs), both_directions / batch)


def seconds_per_batch(parts: tuple[Part, ...], clock: Clock = interleaved_seconds) -> float:
    """Return what `CPU_BATCH` frames take at least: of a few runs, or of the first alone where that takes long."""
    first = _per_frame(parts, clock([part.run for part in parts], 1, 0)).min() * CPU_BATCH
    if first > _LONG_SECONDS:
        return float(first)
    return float(_per_frame(parts, clock([part.run for part in parts], 3, 0)).min() * CPU_BATCH)


def frame_seconds(parts: tuple[Part, ...], clock: Clock = interleaved_seconds) -> float:
    """Return what one frame takes at least, of a few runs after one that does not count."""
    return float(_per_frame(parts, clock([part.run for part in parts], 3, 1)).min())


def speed_ratio(base: tuple[Part, ...], other: tuple[Part, ...], clock: Clock = interleaved_seconds) -> float:
    """Return how many times as fast `other` is, of two that run by turns: the median over rounds."""
    runs = [part.run for part in (*base, *other)]
    seconds = clock(runs, 1, 1)
    least, most = ROUNDS
    rounds = min(most, max(least, int(BUDGET_SECONDS / seconds.sum())))
    seconds = np.hstack([seconds, clock(runs, rounds - 1, 0)])
    return median_ratio(_per_frame(other, seconds[len(base) :]), _per_frame(base, seconds[: len(base)]))


def _per_frame(parts: tuple[Part, ...], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return seconds per frame `(rounds,)` from seconds per call `(parts, rounds)`."""
    result: NDArray[np.float64] = np.array([part.calls_per_frame for part in parts]) @ seconds
    return result
