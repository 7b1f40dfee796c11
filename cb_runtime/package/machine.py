"""Which GPUs are here, asked of the driver itself: no engine needs to be installed for it."""

from __future__ import annotations

import ctypes
import platform

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of the CUDA driver API."""


def compute_capabilities() -> tuple[str, ...]:
    """Return the compute capability of every GPU, e.g. `("8.9",)`; empty without a GPU or without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(f"{_attribute(driver, _MAJOR, gpu)}.{_attribute(driver, _MINOR, gpu)}" for gpu in range(count.value))


def _attribute(driver: ctypes.CDLL, attribute: int, gpu: int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, gpu)
    return value.value
