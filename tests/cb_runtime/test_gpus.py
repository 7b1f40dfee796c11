# ruff: noqa: N802  (the names are CUDA's)
"""Which GPUs the driver shows."""

import ctypes

from cb_runtime import gpus
from cb_runtime.gpus import Gpu


class Driver:
    """`libcuda` of a machine with these GPUs: name, major, minor."""

    def __init__(self, *found, init=0):
        self.found, self.init = found, init

    def cuInit(self, flags):
        return self.init

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.found)
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = self.found[device.value][0].encode()
        return 0

    def cuDeviceGetAttribute(self, number, attribute, device):
        number._obj.value = self.found[device.value][{75: 1, 76: 2}[attribute]]
        return 0


def test_gpus_have_a_name_and_a_compute_capability(monkeypatch):
    driver = Driver(("NVIDIA H100", 9, 0), ("NVIDIA GeForce RTX 4090", 8, 9))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert gpus.list_gpus() == (Gpu(0, "NVIDIA H100", "9.0"), Gpu(1, "NVIDIA GeForce RTX 4090", "8.9"))
    assert str(gpus.list_gpus()[0]) == "NVIDIA H100 (compute capability 9.0)"


def test_without_a_driver_there_are_none(monkeypatch):
    def missing(name):
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert gpus.list_gpus() == ()


def test_a_driver_that_does_not_start_shows_none(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(("NVIDIA H100", 9, 0), init=999))
    assert gpus.list_gpus() == ()
