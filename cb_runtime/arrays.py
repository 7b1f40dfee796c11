"""Arrays of other libraries as a model's inputs, through DLPack.

What lies in main memory becomes a NumPy array without a copy, what lies in a GPU's memory stays there:
https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from math import prod
from typing import Any

import numpy as np

from cb_runtime.errors import ContractError, require


class DeviceType(IntEnum):
    """Where an array lies, as DLPack numbers it: https://dmlc.github.io/dlpack/latest/c_api.html."""

    CPU = 1
    CUDA = 2
    CUDA_HOST = 3
    """Page-locked main memory."""
    CUDA_MANAGED = 13
    """Memory that CUDA moves between the host and a GPU."""


_HOST = (DeviceType.CPU, DeviceType.CUDA_HOST)
_GPU = (DeviceType.CUDA, DeviceType.CUDA_MANAGED)


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """An array in a GPU's memory, row after row without gaps, which stays its maker's."""

    source: Any
    """The maker's array; holding it keeps the memory."""
    address: int
    """Of the first byte, in the GPU's memory."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    device: int
    """Which GPU, as in `cuda:N`."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def bytes_per_row(self) -> int:
        """Bytes of one entry of the first axis."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def __getitem__(self, rows: slice) -> DeviceArray:
        """Return some rows that follow each other, without a copy."""
        start, stop, step = rows.indices(len(self))
        assert step == 1, "only rows that follow each other"
        shape = (max(0, stop - start), *self.shape[1:])
        return replace(self, address=self.address + start * self.bytes_per_row, shape=shape)

    def order_after(self, stream: int) -> None:
        """Let a CUDA stream, given by its handle, wait for the work that fills the array."""
        # The capsule is let go at once: its address and shape are known.
        self.source.__dlpack__(stream=stream)


class FilledArray(DeviceArray):
    """One that is filled already: nobody has to wait for it."""

    def order_after(self, stream: int) -> None:
        """Do nothing."""


def feeds_from_inputs(inputs: Any, *, on_gpu: bool) -> Any:  # noqa: ANN401  (checked afterwards)
    """Return inputs whose arrays of other libraries are NumPy arrays or `DeviceArray`s; all else is as it was.

    Args:
        inputs: Input name to array. What is no mapping, or no array, is returned for the check that follows.
        on_gpu: Whether arrays in a GPU's memory can be taken.

    Raises:
        ContractError: An array that cannot be read, is not contiguous, or lies where it cannot be taken from.
        MissingPackageError: `cuda-core` is not installed, and an array lies in a GPU's memory.
    """
    if not isinstance(inputs, Mapping) or all(isinstance(value, np.ndarray) for value in inputs.values()):
        return inputs
    return {name: _feed(name, value, on_gpu=on_gpu) for name, value in inputs.items()}


def _feed(name: str, value: Any, *, on_gpu: bool) -> Any:  # noqa: ANN401
    if isinstance(value, DeviceArray):
        return _allowed(name, value, value.device, on_gpu=on_gpu)
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return value
    kind, index = value.__dlpack_device__()
    if kind in _HOST:
        return _host_array(name, value)
    if kind not in _GPU:
        raise ContractError(
            f"Input '{name}' lies on a device of DLPack's kind {int(kind)}, and only main memory and CUDA are known. "
            "Copy it to main memory first."
        )
    return _device_array(name, _allowed(name, value, index, on_gpu=on_gpu))


def _allowed(name: str, value: Any, device: int, *, on_gpu: bool) -> Any:  # noqa: ANN401
    if not on_gpu:
        raise ContractError(
            f"Input '{name}' lies on cuda:{device}, and this model takes arrays from main memory only. Copy it there "
            "first (PyTorch: .cpu(), CuPy: .get()), or open a model on that GPU: an engine, or an ONNX file with "
            f"device='cuda:{device}'."
        )
    return value


def _host_array(name: str, value: Any) -> Any:  # noqa: ANN401
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ContractError(f"Input '{name}' cannot be read through DLPack: {error}") from error


def _device_array(name: str, value: Any) -> DeviceArray:  # noqa: ANN401
    views = require("cuda.core.utils", "dlpack").StridedMemoryView
    try:
        # -1: nothing waits yet; the stream that reads it will, see `order_after`.
        view = views.from_dlpack(value, stream_ptr=-1)
        array = DeviceArray(value, int(view.ptr), np.dtype(view.dtype), tuple(view.shape), int(view.device_id))
        strides = view.strides
    except (BufferError, RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise ContractError(f"Input '{name}' cannot be read through DLPack: {error}") from error
    if strides is not None and not _is_contiguous(array.shape, tuple(strides)):
        raise ContractError(
            f"Input '{name}' is not contiguous in the GPU's memory. Make it so first (PyTorch: .contiguous(), CuPy: "
            "cupy.ascontiguousarray)."
        )
    return array


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Tell whether entries stand one after the other. Strides are in entries; those of axes of length 1 say nothing."""
    wanted = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axes = zip(shape, strides, wanted, strict=True)
    return 0 in shape or all(length == 1 or stride == fits for length, stride, fits in axes)
