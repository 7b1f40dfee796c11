"""The few CUDA calls that running an engine takes, through cuda-python; every error code becomes an exception.

https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.errors import ModelError, require


def cuda_runtime(extra: str) -> ModuleType:
    """Import cuda-python's runtime API. Raises MissingPackageError naming `extra`, the flavour's."""
    return require("cuda.bindings.runtime", extra)


class Cuda:
    """CUDA on one GPU. Its streams and memory belong to whoever asked for them."""

    def __init__(self, api: ModuleType, index: int) -> None:
        self.api, self.index = api, index

    def call(self, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:  # noqa: ANN401  (any handle)
        """Call a function of the API; return what it gives beside the error code. Raises ModelError on failure."""
        code, *results = function(*arguments)
        if code != self.api.cudaError_t.cudaSuccess:
            raise ModelError(f"CUDA failed on cuda:{self.index}: {self._text(code)}. {_hint(code)}")
        return results[0] if results else None

    def _text(self, code: Any) -> str:  # noqa: ANN401  (a cudaError_t)
        _, text = self.api.cudaGetErrorString(code)
        return str(text.decode() if isinstance(text, bytes) else text)

    def use(self) -> None:
        """Make this GPU the one of the calling thread."""
        self.call(self.api.cudaSetDevice, self.index)

    def stream(self) -> Any:  # noqa: ANN401  (a cudaStream_t)
        """Return a new stream that waits for no other."""
        return self.call(self.api.cudaStreamCreateWithFlags, self.api.cudaStreamNonBlocking)

    def wait(self, stream: Any) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Wait until all work of a stream is done."""
        self.call(self.api.cudaStreamSynchronize, stream)

    def captured(self, stream: Any, work: Callable[[], None]) -> Any:  # noqa: ANN401  (stream and graph)
        """Return an executable graph of the work that `work` puts on the stream, which is recorded and not run."""
        mode = self.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call(self.api.cudaStreamBeginCapture, stream, mode)
        try:
            work()
        except BaseException:
            self.api.cudaStreamEndCapture(stream)  # its error code says only that the capture was broken off
            raise
        graph = self.call(self.api.cudaStreamEndCapture, stream)
        try:
            return self.call(self.api.cudaGraphInstantiate, graph, 0)
        finally:
            self.api.cudaGraphDestroy(graph)

    def launch(self, graph: Any, stream: Any) -> None:  # noqa: ANN401  (a graph and a stream)
        """Run a captured graph."""
        self.call(self.api.cudaGraphLaunch, graph, stream)


def _hint(code: Any) -> str:  # noqa: ANN401  (a cudaError_t)
    if getattr(code, "name", "") == "cudaErrorMemoryAllocation":
        return "Its memory is full: try a smaller --batch, or free memory on it."
    return "See `cb doctor`; the driver may be too old for this CUDA."


class Buffer:
    """One tensor's memory: page-locked on the host, and its twin on the GPU.

    Copies from and to page-locked memory run beside the GPU's work; from other memory they wait for it.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._cuda, self._bytes_per_row = cuda, prod(shape[1:]) * dtype.itemsize
        size = shape[0] * self._bytes_per_row
        self._host = cuda.call(cuda.api.cudaHostAlloc, size, cuda.api.cudaHostAllocDefault)
        try:
            self.address: int = int(cuda.call(cuda.api.cudaMalloc, size))
        except BaseException:
            cuda.api.cudaFreeHost(self._host)
            raise
        raw = (ctypes.c_uint8 * size).from_address(int(self._host))
        self.rows: NDArray[Any] = np.frombuffer(memoryview(raw), dtype).reshape(shape)
        """The host's side, `(capacity, ...)`."""

    def upload(self, rows: int, stream: Any) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Copy the first rows to the GPU, in the stream's order."""
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.address, int(self._host), rows, kind, stream)

    def download(self, rows: int, stream: Any) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Copy the first rows back to the host, in the stream's order."""
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(int(self._host), self.address, rows, kind, stream)

    def copy_in(self, address: int, rows: int, stream: Any, at: int = 0) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Copy rows that lie elsewhere in the GPU's memory to the row `at` of its side, in the stream's order."""
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._copy(self.address + at * self._bytes_per_row, address, rows, kind, stream)

    def _copy(self, to: int, origin: int, rows: int, kind: Any, stream: Any) -> None:  # noqa: ANN401  (handles)
        self._cuda.call(self._cuda.api.cudaMemcpyAsync, to, origin, rows * self._bytes_per_row, kind, stream)

    def free(self) -> None:
        """Give both sides back; `rows` must not be used any more."""
        self._cuda.api.cudaFree(self.address)
        self._cuda.api.cudaFreeHost(self._host)
