"""Staged graphs as engines: features stay on the GPU, and are put together there by copies of rows."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import DeviceArray
from cb_runtime.contract import ModelMetadata
from cb_runtime.resident import ResidentClassifier, ResidentEncoder, Rows
from cb_runtime.stages import Stages, check_resident, open_stages
from cb_runtime.trt.cuda import Cuda, Memory
from cb_runtime.trt.graph import EngineGraph


def open_engine_stages(
    path: Path, metadata: ModelMetadata, open_part: Callable[[Path], EngineGraph], cuda: Cuda, memory: Memory
) -> Stages | None:
    """Open the staged graph beside an engine, with features that stay on the GPU; None when it has none.

    Args:
        path: The engine.
        metadata: Its contract.
        open_part: Opens one engine of the staged graph.
        cuda: The GPU that all are on.
        memory: That GPU's.

    Raises what `open_part`, `open_stages` and `check_resident` raise.
    """
    stages = open_stages(path, metadata, open_part)
    if stages is None:
        return None
    copier = RowCopier(cuda, memory)
    stages = stages.with_resident(ResidentEncoder, lambda classifier: ResidentClassifier(classifier, copier))
    check_resident(stages, copier, path, f"cuda:{cuda.index}")
    return stages


class RowCopier:
    """Copies rows together, from wherever they lie in the GPU's memory, by CUDA's own copies: a `Gatherer`."""

    def __init__(self, cuda: Cuda, memory: Memory) -> None:
        self._cuda, self._memory = cuda, memory
        self._stream = cuda.stream()
        self._lock = threading.Lock()
        weakref.finalize(self, cuda.api.cudaStreamDestroy, self._stream)

    def together(self, rows: Rows) -> DeviceArray:
        """Return the features of rows; see `Gatherer`."""
        self._cuda.use()
        features = self._memory.array((len(rows), *rows[0].batch.shape[1:]), np.float32)
        with self._lock:
            for at, piece in _pieces(rows, features):
                self._copy(features, at, piece)
            self._cuda.wait(self._stream)
        return features

    def on_host(self, features: DeviceArray) -> NDArray[np.float32]:
        """Return features in main memory."""
        values = np.empty(features.shape, np.float32)
        self._cuda.use()
        with self._lock:
            self._cuda.copy("DeviceToHost", values.ctypes.data, features.address, values.nbytes, self._stream)
            self._cuda.wait(self._stream)
        return values

    def _copy(self, features: DeviceArray, at: int, piece: DeviceArray) -> None:
        to, size = features.address + at * features.bytes_per_row, len(piece) * piece.bytes_per_row
        self._cuda.copy("DeviceToDevice", to, piece.address, size, self._stream)


def _pieces(rows: Rows, features: DeviceArray) -> Iterator[tuple[int, DeviceArray]]:
    """Give what has to be copied, in order, and to which row: as few pieces as they are.

    Rows that follow each other in their batch go together. One row again and again, as the video's picture is, goes
    once, and then all that is there already is copied behind itself.
    """
    if all(row is rows[0] for row in rows):
        yield 0, rows[0].batch[rows[0].place : rows[0].place + 1]
        done = 1
        while done < len(rows):
            yield done, features[: min(done, len(rows) - done)]
            done *= 2
        return
    start = 0
    for end in range(1, len(rows) + 1):
        first = rows[start]
        if end == len(rows) or rows[end].batch is not first.batch or rows[end].place != first.place + end - start:
            yield start, first.batch[first.place : first.place + end - start]
            start = end
