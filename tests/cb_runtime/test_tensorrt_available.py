"""Whether TensorRT engines can run on this machine, and what to do where they cannot."""

from fake_tensorrt import fake_tensorrt

from cb_runtime.backends import tensorrt as backend
from cb_runtime.gpus import Gpu
from cb_runtime.trt import flavours

ADA = Gpu(0, "NVIDIA GeForce RTX 4090", "8.9")


def installed(monkeypatch, *modules):
    known = (*modules, "cuda", "cuda.bindings")
    monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: name if name in known else None)
    monkeypatch.setattr(flavours.importlib, "import_module", lambda name: fake_tensorrt(None, version="1.2"))


def test_without_either_package_both_extras_are_named(monkeypatch):
    installed(monkeypatch)
    found = backend.available()
    assert not found.ok
    assert "[trt]" in found.fix
    assert "[rtx]" in found.fix


def test_a_broken_package_is_told(monkeypatch):
    installed(monkeypatch, "tensorrt")

    def broken(name):
        raise OSError("wrong ELF class")

    monkeypatch.setattr(flavours.importlib, "import_module", broken)
    found = backend.available()
    assert not found.ok
    assert "wrong ELF class" in found.detail
    assert found.fix


def test_a_broken_package_beside_a_good_one_is_told_and_does_no_harm(monkeypatch):
    installed(monkeypatch, "tensorrt", "tensorrt_rtx")

    def half(name):
        if name == "tensorrt":
            raise OSError("wrong ELF class")
        return fake_tensorrt(None, version="1.2")

    monkeypatch.setattr(flavours.importlib, "import_module", half)
    monkeypatch.setattr(backend, "list_gpus", lambda: (ADA,))
    found = backend.available()
    assert found.ok
    assert found.detail.startswith("TensorRT for RTX 1.2; tensorrt is installed but cannot be imported: wrong ELF")


def test_without_cuda_python_it_is_named(monkeypatch):
    installed(monkeypatch, "tensorrt_rtx")

    def no_cuda(name):
        if name == "cuda.bindings":
            raise ModuleNotFoundError(name)
        return name if name == "tensorrt_rtx" else None

    monkeypatch.setattr(flavours.importlib.util, "find_spec", no_cuda)
    found = backend.available()
    assert (found.ok, "cuda-python" in found.fix) == (False, True)


def test_without_a_gpu_it_says_that_engines_can_be_built_all_the_same(monkeypatch):
    installed(monkeypatch, "tensorrt_rtx")
    monkeypatch.setattr(backend, "list_gpus", lambda: ())
    found = backend.available()
    assert not found.ok
    assert "TensorRT for RTX 1.2, but no NVIDIA GPU" in found.detail
    assert "builds them anywhere" in found.fix


def test_with_a_gpu_all_is_well(monkeypatch):
    installed(monkeypatch, "tensorrt_rtx", "tensorrt")
    monkeypatch.setattr(backend, "list_gpus", lambda: (ADA,))
    found = backend.available()
    assert found.ok
    assert "TensorRT 1.2, TensorRT for RTX 1.2, on NVIDIA GeForce RTX 4090 (compute capability 8.9)" in found.detail
