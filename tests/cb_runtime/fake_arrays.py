"""Arrays of another library, for DLPack: host memory that says of itself that it lies elsewhere.

https://dmlc.github.io/dlpack/latest/c_api.html
"""

import ctypes

import numpy as np

CPU, CUDA, CUDA_HOST, ROCM, CUDA_MANAGED = 1, 2, 3, 10, 13

_CODES = {"u": 1, "f": 2}
"""NumPy's kind of a type to DLPack's."""


class _Device(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


_lent = {}
"""Address of what was lent to what it needs to live, until whoever has it gives it back."""

_give_back = _Deleter(lambda address: _lent.pop(address) and None)


class FakeArray:
    """A NumPy array as another library would lend it. It keeps the streams that were to wait for it."""

    def __init__(self, values, kind=CUDA, index=0):
        self.values, self.place, self.streams = values, (kind, index), []

    def __dlpack_device__(self):
        return self.place

    def __dlpack__(self, *, stream=None, **others):
        self.streams.append(stream)
        values, dims = self.values, ctypes.c_int64 * self.values.ndim
        shape = dims(*values.shape)
        strides = dims(*(step // values.itemsize for step in values.strides))
        dtype = _DataType(_CODES[values.dtype.kind], 8 * values.itemsize, 1)
        tensor = _Tensor(values.ctypes.data, _Device(*self.place), values.ndim, dtype, shape, strides, 0)
        managed = _Managed(tensor, None, _give_back)
        address = ctypes.addressof(managed)
        _lent[address] = (managed, shape, strides, values)
        return _capsule(address, b"dltensor", None)


def lent(feeds, *names, kind=CUDA, index=0):
    """Return feeds of which some, or all, are another library's."""
    return {
        name: FakeArray(np.array(values), kind, index) if name in (names or feeds) else values
        for name, values in feeds.items()
    }
