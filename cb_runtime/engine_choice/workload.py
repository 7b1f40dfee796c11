"""The work that counts, as a video gives it: what ways of running an artifact are timed by."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Executor, Feeds
from cb_runtime.contract import IMAGE_INPUTS, INPUT_NAMES
from cb_runtime.measuring.timing import interleaved_seconds, median_ratio
from cb_runtime.stages import FEATURES, Stages

CPU_BATCH, GPU_BATCH = 16, 128
"""Frames, or pairs, that run together, as in `BoundaryPredictor`."""

BUDGET_SECONDS = 1.0
"""About how long two ways are timed against each other, within the limits of `ROUNDS`."""
ROUNDS = (3, 9)
"""Least and most rounds that count."""
_LONG_SECONDS = 0.3


class Workload:
    """A batch of a video's frames: encoded and all their pairs classified in stages, else a batch of pairs.

    Args:
        executor: What is timed.
        inputs: The five inputs of any number of pairs, in graph form.
    """

    def __init__(self, executor: Executor, inputs: Feeds) -> None:
        self.batch = CPU_BATCH if executor.describe()["device"] == "cpu" else GPU_BATCH
        rows = np.resize(np.arange(len(inputs["frame1"])), self.batch)
        feeds = {name: np.ascontiguousarray(inputs[name][rows]) for name in INPUT_NAMES}
        stages = stages_of(executor)
        self._run = partial(executor.run, feeds) if stages is None else _in_stages(stages, feeds)

    def __call__(self) -> None:
        """Do the work once."""
        self._run()

    def seconds(self) -> float:
        """Return how long the fastest of a few runs takes; of the first one alone where that takes long."""
        first = float(interleaved_seconds([self], 1, warm_up=0).min())
        return first if first > _LONG_SECONDS else float(interleaved_seconds([self], 3).min())


def stages_of(executor: Executor) -> Stages | None:
    """Return a model in two steps, where it has them."""
    stages: Stages | None = getattr(executor, "stages", None)
    return stages


def _in_stages(stages: Stages, feeds: Feeds) -> Any:  # noqa: ANN401  (a function)
    features = {f"{role}_{FEATURES}": stages.encode(role, feeds[role]) for role in IMAGE_INPUTS}
    pairs = features | {name: feeds[name] for name in INPUT_NAMES if name not in IMAGE_INPUTS}
    roles = [role for role in ("frame1", "frame2") if role == "frame1" or stages.roles[role] != stages.roles["frame1"]]
    both_ways = 2 * len(stages.metadata.decoding.distances)

    def run() -> None:
        for role in roles:
            stages.encode(role, feeds[role])
        for _ in range(both_ways):
            stages.classify(pairs)

    return run


def speed_ratio(base: Workload, other: Workload) -> float:
    """Return how many times as fast `other` is, of two that run by turns: the median over rounds."""
    first = interleaved_seconds([base, other], 1)
    least, most = ROUNDS
    rounds = min(most, max(least, int(BUDGET_SECONDS / first.sum())))
    seconds: NDArray[np.float64] = np.hstack([first, interleaved_seconds([base, other], rounds - 1, warm_up=0)])
    return median_ratio(seconds[1] / other.batch, seconds[0] / base.batch)
