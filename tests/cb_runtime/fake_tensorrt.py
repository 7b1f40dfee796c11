# ruff: noqa: N802, N815  (the names are CUDA's)
"""A GPU made of host memory: CUDA's runtime API and TensorRT, as far as cb uses them, so that lanes run anywhere.

Copies and engines work on real addresses, so a wrong address, size or order gives wrong logits or a crash. Work that is
captured runs only when its graph is launched, as on a GPU.
"""

import ctypes
import enum
import threading
import types
from collections import Counter

import numpy as np

from cb_runtime.backends import METADATA_KEY
from cb_runtime.contract import TensorSpec, metadata_from_json
from cb_runtime.trt.sidecar import BatchProfile, EngineRecord, this_platform


class CudaError(enum.Enum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorUnknown = 999


class CopyKind(enum.Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class FakeCuda:
    """`cuda.bindings.runtime`."""

    cudaError_t, cudaMemcpyKind = CudaError, CopyKind
    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, memory=2**40):
        self.memory, self.blocks, self.log = memory, {}, []
        self._capturing, self._lock = {}, threading.Lock()
        self._next_stream, self._on_host = 0, {}
        self.copied = Counter()
        """Bytes by kind, of copies that were asked for; those of a graph count once."""

    def cudaSetDevice(self, index):
        self.log.append(("device", index))
        return (CudaError.cudaSuccess,)

    def cudaGetErrorString(self, code):
        return CudaError.cudaSuccess, code.name.encode()

    def _allocate(self, size):
        with self._lock:
            if size > self.memory:
                return CudaError.cudaErrorMemoryAllocation, None
            self.memory -= size
            block = ctypes.create_string_buffer(size)
            self.blocks[ctypes.addressof(block)] = block
            return CudaError.cudaSuccess, ctypes.addressof(block)

    def cudaMalloc(self, size):
        return self._allocate(size)

    def cudaHostAlloc(self, size, flags):
        code, address = self._allocate(size)
        self._on_host[address] = size
        return code, address

    def cudaFree(self, address):
        with self._lock:
            self.memory += len(self.blocks.pop(address))
        return (CudaError.cudaSuccess,)

    def cudaFreeHost(self, address):
        del self._on_host[address]
        return self.cudaFree(address)

    @property
    def page_locked(self):
        """Bytes of the host that are in use."""
        return sum(self._on_host.values())

    def cudaStreamCreateWithFlags(self, flags):
        with self._lock:
            self._next_stream += 1
            return CudaError.cudaSuccess, self._next_stream

    def cudaStreamSynchronize(self, stream):
        return (CudaError.cudaSuccess,)

    def cudaStreamDestroy(self, stream):
        self.log.append(("destroyed", stream))
        return (CudaError.cudaSuccess,)

    def put(self, stream, work):
        """Do what is put on a stream, or record it."""
        if stream in self._capturing:
            self._capturing[stream].append(work)
        else:
            work()

    def cudaMemcpyAsync(self, to, origin, size, kind, stream):
        self.copied[kind.name.removeprefix("cudaMemcpy")] += size
        self.put(stream, lambda: ctypes.memmove(to, origin, size))
        return (CudaError.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream, mode):
        self._capturing[stream] = []
        return (CudaError.cudaSuccess,)

    def cudaStreamEndCapture(self, stream):
        return CudaError.cudaSuccess, self._capturing.pop(stream)

    def cudaGraphInstantiate(self, graph, flags):
        self.log.append(("captured", len(graph)))
        return CudaError.cudaSuccess, graph

    def cudaGraphDestroy(self, graph):
        return (CudaError.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph):
        self.log.append(("dropped", len(graph)))
        return (CudaError.cudaSuccess,)

    def cudaGraphLaunch(self, graph, stream):
        self.log.append(("launched", len(graph)))
        for work in graph:
            work()
        return (CudaError.cudaSuccess,)


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class ILogger:
    Severity = Severity


def expected_logits(feeds):
    """Return what the fake engine computes: five numbers in which every input and row counts."""
    sums = [np.asarray(values, np.float64).reshape(len(values), -1).mean(axis=1) for values in feeds.values()]
    return np.stack(sums, axis=1).astype(np.float32)


class FakeContext:
    def __init__(self, engine):
        self.engine, self.addresses, self.batches = engine, {}, {}

    def set_input_shape(self, name, shape):
        self.batches[name] = shape[0]
        profile = self.engine.profile
        return profile.minimum <= shape[0] <= profile.maximum

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return address in self.engine.cuda.blocks

    def execute_async_v3(self, stream):
        if self.engine.fails:
            self.engine.logger.log(Severity.ERROR, self.engine.fails)
            return False
        self.engine.cuda.put(stream, self._compute)
        return True

    def _compute(self):
        (batch,) = set(self.batches.values())
        feeds = {spec.name: self._tensor(spec, batch) for spec in self.engine.inputs}
        self._tensor(self.engine.output, batch)[:] = self.engine.compute(feeds)

    def _tensor(self, spec, batch):
        shape, dtype = (batch, *spec.shape[1:]), np.dtype(spec.dtype)
        raw = (ctypes.c_uint8 * int(np.prod(shape) * dtype.itemsize)).from_address(self.addresses[spec.name])
        return np.frombuffer(raw, dtype).reshape(shape)


class FakeEngine:
    """An engine that computes `expected_logits`."""

    def __init__(self, metadata, cuda, profile):
        self.inputs, self.output, self.compute = metadata.inputs, metadata.outputs[0], expected_logits
        self.cuda, self.profile, self.name = cuda, profile, metadata.to_compact_json()
        self._started()

    def _started(self):
        self.fails, self.contexts, self.settings, self.logger, self.context_fails = None, 0, None, None, None
        self.tensors = {spec.name: spec for spec in (*self.inputs, self.output)}

    @property
    def num_io_tensors(self):
        return len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name):
        return self.tensors[name].dtype

    def get_tensor_shape(self, name):
        return [-1, *self.tensors[name].shape[1:]]

    def create_runtime_config(self):
        return types.SimpleNamespace(cuda_graph_strategy="DISABLED")

    def create_execution_context(self, settings=None):
        if self.context_fails:
            self.logger.log(Severity.ERROR, self.context_fails)
            return None
        self.contexts += 1
        self.settings = settings
        return FakeContext(self)


class OnnxEngine(FakeEngine):
    """An engine whose plan is an ONNX file, computed by ONNX Runtime: what a staged graph gives can be compared."""

    def __init__(self, plan, cuda, profile):
        import onnxruntime

        session = onnxruntime.InferenceSession(bytes(plan), providers=["CPUExecutionProvider"])
        self.inputs, (self.output,) = [_spec(node) for node in session.get_inputs()], map(_spec, session.get_outputs())
        self.compute = lambda feeds: session.run(None, feeds)[0]
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.cuda, self.profile = cuda, profile
        self.name = "" if text is None else metadata_from_json(text).to_compact_json()
        self._started()
        # In any order but the network's, as nothing is promised of it.
        self.tensors = dict(reversed(self.tensors.items()))


def _spec(node):
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(node.name, {"float": "float32"}.get(dtype, dtype), tuple(node.shape))


def fake_tensorrt(engine, version="10.9.0", refusal=None, rtx=False, host_code=False):
    """Return a module of which `Runtime` opens any plan as `engine`, which may be made of it, or refuses it."""

    class Runtime:
        engine_host_code_allowed = True

        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, plan):
            assert self.engine_host_code_allowed is host_code
            if refusal:
                self.logger.log(Severity.ERROR, refusal)
                return None
            opened = engine(plan) if callable(engine) else engine
            opened.logger = self.logger
            return opened

    module = types.SimpleNamespace(__version__=version, ILogger=ILogger, Runtime=Runtime, nptype=np.dtype)
    if rtx:
        module.CudaGraphStrategy = types.SimpleNamespace(WHOLE_GRAPH_CAPTURE="WHOLE")
    return module


def record_of(metadata, plan_sha256, **changes):
    """Return a record as a build on an RTX 4090 would write it."""
    values = {
        "plan_sha256": plan_sha256,
        "flavour": "tensorrt",
        "tensorrt_version": "10.9.0",
        "platform": this_platform(),
        "compute_capabilities": ("8.9",),
        "hardware_compat": "none",
        "profile": BatchProfile(1, 4, 8),
        "metadata": metadata,
        "gpu": "NVIDIA GeForce RTX 4090",
        "precision_proof": {
            "source": "engine inspector",
            "reason": None,
            "layers": {"Float": 4},
            "shares": {"Float": 1.0},
        },
        "build": {"seconds": 1.5, "flavour_reason": "as asked", "workspace_mib": None, "timing_cache": None},
    }
    return EngineRecord(**(values | changes))
