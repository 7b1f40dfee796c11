"""Which NVIDIA GPUs this machine has, asked of the driver itself: no package is needed."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from typing import Any

_MAJOR, _MINOR = 75, 76
"""`CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR` of the CUDA driver API."""

_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU."""

    index: int
    """As in `cuda:N`; `CUDA_VISIBLE_DEVICES` is obeyed."""
    name: str
    """E.g. `NVIDIA GeForce RTX 4090`."""
    compute_capability: str
    """Major and minor number, e.g. `8.9`."""

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


def cuda_driver() -> ctypes.CDLL:
    """Load the NVIDIA driver's library. Raises OSError without a driver."""
    return ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")


def list_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that the driver shows; none where there is no driver, or none that works."""
    try:
        driver = cuda_driver()
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_gpu(driver, index) for index in range(count.value))


def _gpu(driver: Any, index: int) -> Gpu:  # noqa: ANN401  (a foreign library)
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    numbers = []
    for attribute in (_MAJOR, _MINOR):
        number = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        numbers.append(number.value)
    return Gpu(index, name.value.decode(errors="replace"), ".".join(map(str, numbers)))
