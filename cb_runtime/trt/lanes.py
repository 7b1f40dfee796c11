"""Lanes: each is an execution context with a stream and memory of its own, so that calls run side by side.

A call borrows a lane, and two when its pairs do not fit into one batch: while one lane computes, the other copies. A
batch size that is met again is replayed as a CUDA graph. Standard TensorRT's are captured here, after one plain run,
and hold only as long as the context keeps its shapes. TensorRT for RTX captures its own, because it compiles kernels
for a shape in the background: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-cuda-graphs.html
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import DeviceArray
from cb_runtime.contract import TensorSpec
from cb_runtime.errors import ModelError
from cb_runtime.feeds import row_shape
from cb_runtime.trt.cuda import Buffer, Cuda
from cb_runtime.trt.messages import Messages

EngineFeeds = Mapping[str, NDArray[Any] | DeviceArray]
"""Input name to array, in main memory or in that of the engine's GPU."""


class Lane:
    """One execution context of an engine; used by one thread at a time."""

    def __init__(
        self,
        context: Any,  # noqa: ANN401  (an IExecutionContext)
        cuda: Cuda,
        specs: tuple[Sequence[TensorSpec], TensorSpec],
        messages: Messages,
        capture: bool,
    ) -> None:
        """Take an execution context.

        Args:
            context: Owned by the lane from now on.
            cuda: The GPU it is on.
            specs: The inputs, and the output.
            messages: What TensorRT logs.
            capture: Replay repeated batch sizes as CUDA graphs captured here.
        """
        self.batch = 0
        """Batch size that the context is set to; 0 before the first run."""
        self._context, self._cuda, self._messages, self._capture = context, cuda, messages, capture
        self._inputs, self._output = specs
        self._buffers: dict[str, Buffer] = {}
        self._capacity, self._runs = 0, 0
        self._graph: Any = None
        self._stream = cuda.stream()
        self._on_gpu: frozenset[str] = frozenset()
        """Inputs that lie in the GPU's memory: a graph holds the copies of all others."""

    def submit(self, feeds: EngineFeeds, batch: int, into: DeviceArray | None = None) -> None:
        """Begin to compute; `collect` gives the answer.

        Args:
            feeds: Checked inputs of at most `batch` rows. Missing rows are filled with the first one.
            batch: Batch size to run, within the engine's profile.
            into: Where in the GPU's memory the answer's first rows belong, as many as it has; None: on the host.
        """
        on_gpu = frozenset(name for name, values in feeds.items() if isinstance(values, DeviceArray))
        if batch != self.batch or on_gpu != self._on_gpu:
            self._prepare(batch)
            self._on_gpu = on_gpu
        for spec in self._inputs:
            self._take_in(self._buffers[spec.name], feeds[spec.name], batch)
        self._runs += 1
        if self._capture and self._runs == 2:
            # The first run of a shape may allocate, which no graph can hold.
            self._graph = self._cuda.captured(self._stream, self._enqueue)
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)
        answer = self._buffers[self._output.name]
        if into is None:
            answer.download(batch, self._stream)
        else:
            answer.copy_out(into.address, len(into), self._stream)

    def _take_in(self, buffer: Buffer, values: NDArray[Any] | DeviceArray, batch: int) -> None:
        """Bring an input to its buffer: to the host's side, from which it is uploaded, or on the GPU to the GPU's."""
        count = len(values)
        if not isinstance(values, DeviceArray):
            buffer.rows[:count] = values
            buffer.rows[count:batch] = values[:1]
            return
        values.order_after(int(self._stream))
        buffer.copy_in(values.address, count, self._stream)
        for row in range(count, batch):
            buffer.copy_in(values.address, 1, self._stream, at=row)

    def wait(self) -> None:
        """Wait until what was submitted is done."""
        self._cuda.wait(self._stream)

    def collect(self, rows: int) -> NDArray[np.float32]:
        """Wait for the answer to what was submitted, which belongs on the host; return its first rows."""
        self.wait()
        answer: NDArray[np.float32] = self._buffers[self._output.name].rows[:rows].copy()
        return answer

    def _enqueue(self) -> None:
        for spec in self._inputs:
            if spec.name not in self._on_gpu:
                self._buffers[spec.name].upload(self.batch, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise self._failure("run")

    def _prepare(self, batch: int) -> None:
        """Bring the context to another batch size, and the buffers with it when they are too small."""
        self._drop_graph()
        self._runs, self.batch = 0, 0
        if batch > self._capacity:
            self._allocate(batch)
        for spec in self._inputs:
            if not self._context.set_input_shape(spec.name, (batch, *row_shape(spec))):
                raise self._failure(f"take batch {batch}")
        self.batch = batch

    def _allocate(self, batch: int) -> None:
        self._free_buffers()
        for spec in (*self._inputs, self._output):
            buffer = Buffer(self._cuda, (batch, *row_shape(spec)), np.dtype(spec.dtype))
            self._buffers[spec.name] = buffer
            if not self._context.set_tensor_address(spec.name, buffer.address):
                raise self._failure(f"take the memory of '{spec.name}'")
        self._capacity = batch

    def _failure(self, what: str) -> ModelError:
        memory = " Memory ran out: try a smaller --batch." if self._messages.is_out_of_memory else ""
        error = ModelError(f"TensorRT cannot {what} on cuda:{self._cuda.index}: {self._messages}{memory}")
        self._messages.clear()
        return error

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.api.cudaGraphExecDestroy(self._graph)
            self._graph = None

    def _free_buffers(self) -> None:
        while self._buffers:
            self._buffers.popitem()[1].free()
        self._capacity = 0

    def close(self) -> None:
        """Give memory and stream back, when the GPU is done with them."""
        self._cuda.api.cudaStreamSynchronize(self._stream)  # after a failure its code tells nothing new
        self._drop_graph()
        self._free_buffers()
        self._context = None
        self._cuda.api.cudaStreamDestroy(self._stream)


class Lanes:
    """The lanes of one engine: as many as calls run at once, kept for later calls."""

    def __init__(
        self,
        engine: Any,  # noqa: ANN401  (an ICudaEngine)
        tensorrt: ModuleType,
        cuda: Cuda,
        specs: tuple[Sequence[TensorSpec], TensorSpec],
        messages: Messages,
    ) -> None:
        self._engine, self._tensorrt, self._cuda, self._specs, self._messages = engine, tensorrt, cuda, specs, messages
        self._own_graphs = hasattr(tensorrt, "CudaGraphStrategy")
        self._free: list[Lane] = []
        self._lock = threading.Lock()
        self.made = 0
        """How many there are."""
        # Python frees neither GPU memory nor page-locked memory by itself.
        weakref.finalize(self, _close_all, self._free, cuda)

    @property
    def cuda_graphs(self) -> str:
        """Who captures repeated batch sizes: `TensorRT for RTX` or `cb`."""
        return "TensorRT for RTX" if self._own_graphs else "cb"

    @contextmanager
    def borrow(self, count: int, batch: int) -> Iterator[list[Lane]]:
        """Lend lanes to one call, those that are set to `batch` first. A lane that fails is not used again."""
        lanes: list[Lane] = []
        try:
            for _ in range(count):
                lanes.append(self._taken(batch) or self._new())
            yield list(lanes)
        except BaseException:
            self._close(lanes)
            raise
        with self._lock:
            self._free.extend(lanes)

    def _taken(self, batch: int) -> Lane | None:
        with self._lock:
            if not self._free:
                return None
            chosen = next((lane for lane in self._free if lane.batch == batch), self._free[-1])
            self._free.remove(chosen)
            return chosen

    def _new(self) -> Lane:
        context = self._engine.create_execution_context(*self._settings())
        if context is None:
            memory = " Memory ran out: fewer calls at once take less." if self._messages.is_out_of_memory else ""
            raise ModelError(
                f"TensorRT cannot make an execution context on cuda:{self._cuda.index}: {self._messages}{memory}"
            )
        lane = Lane(context, self._cuda, self._specs, self._messages, capture=not self._own_graphs)
        with self._lock:
            self.made += 1
        return lane

    def _settings(self) -> tuple[Any, ...]:
        if not self._own_graphs:
            return ()
        settings = self._engine.create_runtime_config()
        settings.cuda_graph_strategy = self._tensorrt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return (settings,)

    def _close(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            lane.close()
        with self._lock:
            self.made -= len(lanes)

    def close(self) -> None:
        """Give back the memory of all lanes that are not lent."""
        with self._lock:
            self.made -= len(self._free)
            _close_all(self._free, self._cuda)


def _close_all(lanes: list[Lane], cuda: Cuda) -> None:
    cuda.api.cudaSetDevice(cuda.index)
    while lanes:
        lanes.pop().close()
