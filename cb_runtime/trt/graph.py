"""An engine's graph on a GPU: batches of any size, whose copies and arithmetic overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import DeviceArray
from cb_runtime.contract import TensorSpec
from cb_runtime.errors import ContractError
from cb_runtime.feeds import row_shape
from cb_runtime.trt.cuda import Cuda, Memory
from cb_runtime.trt.lanes import EngineFeeds, Lane, Lanes
from cb_runtime.trt.sidecar import BatchProfile


@dataclass(frozen=True)
class EngineGraph:
    """One engine, whole or a part of a staged model. May be called from several threads at once.

    More rows than its largest batch run in several, of which one is copied while another is computed; fewer than its
    smallest are filled up. Arrays in the GPU's memory are read there.
    """

    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    profile: BatchProfile
    """Batch sizes it was built for."""
    cuda: Cuda
    memory: Memory
    """Where answers are kept that stay on the GPU."""
    lanes: Lanes

    def run(self, feeds: EngineFeeds) -> NDArray[np.float32]:
        """Return the output, in main memory.

        Raises ContractError for arrays in the memory of another GPU, ModelError when CUDA or TensorRT fails, e.g. out
        of memory.
        """
        answers: list[NDArray[np.float32]] = []
        self._compute(feeds, lambda lane, rows: answers.append(lane.collect(rows)))
        return np.concatenate(answers)

    def kept(self, feeds: EngineFeeds, into: DeviceArray | None = None) -> DeviceArray:
        """Return the output in the GPU's memory, in `into` where that is given. Raises what `run` raises."""
        self.cuda.use()
        batch = len(next(iter(feeds.values())))
        answer = self.memory.array((batch, *row_shape(self.output)), np.float32) if into is None else into
        self._compute(feeds, lambda lane, rows: lane.wait(), answer)
        return answer

    def _compute(
        self, feeds: EngineFeeds, finish: Callable[[Lane, int], None], into: DeviceArray | None = None
    ) -> None:
        """Compute all rows; `finish` waits for each lane in order, and is told how many rows it has."""
        self._check_place(feeds)
        self.cuda.use()
        batch = len(next(iter(feeds.values())))
        largest, smallest = self.profile.maximum, self.profile.minimum
        starts = range(0, batch, largest)
        with self.lanes.borrow(min(2, len(starts)), max(smallest, min(batch, largest))) as free:
            busy: deque[tuple[Lane, int]] = deque()
            for start in starts:
                if not free:
                    finish(*busy[0])
                    free.append(busy.popleft()[0])
                rows = slice(start, min(start + largest, batch))
                count = rows.stop - rows.start
                lane = free.pop()
                busy.append((lane, count))
                part = {name: values[rows] for name, values in feeds.items()}
                lane.submit(part, max(count, smallest), None if into is None else into[rows])
            for one in busy:
                finish(*one)

    def _check_place(self, feeds: EngineFeeds) -> None:
        for name, values in feeds.items():
            if isinstance(values, DeviceArray) and values.device != self.cuda.index:
                raise ContractError(
                    f"Input '{name}' lies on cuda:{values.device}, and the engine runs on cuda:{self.cuda.index}. Copy "
                    f"it there, or open the engine with device='cuda:{values.device}'."
                )
