"""The few CUDA calls that running an engine takes, through cuda-python; every error code becomes an exception.

https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cached_property
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import FilledArray
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

    def copy(self, way: str, to: int, origin: int, size: int, stream: Any) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Copy bytes from one address to another, in the stream's order.

        Args:
            way: Between which memories: `HostToDevice`, `DeviceToHost` or `DeviceToDevice`.
            to: First byte to write.
            origin: First byte to read.
            size: Bytes.
            stream: Whose order it keeps.
        """
        kind = getattr(self.api.cudaMemcpyKind, f"cudaMemcpy{way}")
        self.call(self.api.cudaMemcpyAsync, to, origin, size, kind, stream)

    def launch(self, graph: Any, stream: Any) -> None:  # noqa: ANN401  (a graph and a stream)
        """Run a captured graph."""
        self.call(self.api.cudaGraphLaunch, graph, stream)


def _hint(code: Any) -> str:  # noqa: ANN401  (a cudaError_t)
    if getattr(code, "name", "") == "cudaErrorMemoryAllocation":
        return "Its memory is full: try a smaller --batch, or free memory on it."
    return "See `cb doctor`; the driver may be too old for this CUDA."


class Buffer:
    """One tensor's memory on the GPU, and its twin on the host, page-locked, made when it is first used.

    Copies from and to page-locked memory run beside the GPU's work; from other memory they wait for it. What stays on
    the GPU has no use for the twin.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._cuda, self._shape, self._dtype = cuda, shape, dtype
        self._bytes_per_row = prod(shape[1:]) * dtype.itemsize
        self._host: Any = None
        self.address: int = int(cuda.call(cuda.api.cudaMalloc, shape[0] * self._bytes_per_row))

    @cached_property
    def rows(self) -> NDArray[Any]:
        """The host's side, `(capacity, ...)`. Raises ModelError when there is no memory for it."""
        size = self._shape[0] * self._bytes_per_row
        self._host = self._cuda.call(self._cuda.api.cudaHostAlloc, size, self._cuda.api.cudaHostAllocDefault)
        raw = (ctypes.c_uint8 * size).from_address(int(self._host))
        return np.frombuffer(memoryview(raw), self._dtype).reshape(self._shape)

    def upload(self, rows: int, stream: Any) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Copy the first rows to the GPU, in the stream's order."""
        size = rows * self._bytes_per_row
        self._cuda.copy("HostToDevice", self.address, self.rows.ctypes.data, size, stream)

    def download(self, rows: int, stream: Any) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Copy the first rows back to the host, in the stream's order."""
        size = rows * self._bytes_per_row
        self._cuda.copy("DeviceToHost", self.rows.ctypes.data, self.address, size, stream)

    def copy_in(self, address: int, rows: int, stream: Any, at: int = 0) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Copy rows that lie elsewhere in the GPU's memory to the row `at` of its side, in the stream's order."""
        to = self.address + at * self._bytes_per_row
        self._cuda.copy("DeviceToDevice", to, address, rows * self._bytes_per_row, stream)

    def copy_out(self, address: int, rows: int, stream: Any) -> None:  # noqa: ANN401  (a cudaStream_t)
        """Copy the first rows elsewhere in the GPU's memory, in the stream's order."""
        self._cuda.copy("DeviceToDevice", address, self.address, rows * self._bytes_per_row, stream)

    def free(self) -> None:
        """Give both sides back; `rows` must not be used any more."""
        self._cuda.api.cudaFree(self.address)
        if self._host is not None:
            self._cuda.api.cudaFreeHost(self._host)


class Memory:
    """Arrays in a GPU's memory. What nobody holds any more is given again to who asks for as much.

    CUDA takes longer to give memory than to fill it, and waits for all that the GPU does before it takes any back.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._free: dict[int, list[int]] = {}
        """Addresses by size in bytes. Garbage collection adds to it, in any thread and at any time: no lock is held."""
        weakref.finalize(self, _free_all, self._free, cuda)

    def array(self, shape: tuple[int, ...], dtype: type[np.generic]) -> FilledArray:
        """Return an array that its maker fills before anybody else reads it. Raises ModelError out of memory."""
        size = prod(shape) * np.dtype(dtype).itemsize
        address = self._given_again(size) or self._new(size)
        block = _Block()
        weakref.finalize(block, self._take_back, size, address)
        return FilledArray(block, address, np.dtype(dtype), shape, self._cuda.index)

    def _given_again(self, size: int) -> int | None:
        try:
            return self._free[size].pop()
        except (KeyError, IndexError):
            return None

    def _take_back(self, size: int, address: int) -> None:
        self._free.setdefault(size, []).append(address)

    def _new(self, size: int) -> int:
        try:
            return int(self._cuda.call(self._cuda.api.cudaMalloc, size))
        except ModelError:
            if not _free_all(self._free, self._cuda):
                raise
            return int(self._cuda.call(self._cuda.api.cudaMalloc, size))


class _Block:
    """Stands for memory that is in use."""


def _free_all(free: dict[int, list[int]], cuda: Cuda) -> int:
    """Give memory back to CUDA; return how many blocks."""
    count = 0
    cuda.api.cudaSetDevice(cuda.index)
    for addresses in list(free.values()):
        while addresses:
            cuda.api.cudaFree(addresses.pop())
            count += 1
    return count
