"""ONNX Runtime with CUDA, pretended: the real one on the CPU, which notes what is bound and where."""

import sys
import types

from cb_runtime import ort_running
from cb_runtime.backends import onnxruntime as ort_backend


class FakeBinding:
    """What is bound to one call; memory of a GPU is main memory in truth."""

    def __init__(self, real):
        assert ort_running._TURN.locked(), "another thread may compute on the GPU meanwhile"
        self.real, self.places, self.waited, self.answer = real, {}, set(), None
        self.rows = 0
        host, device, wait = real.bind_cpu_input, real.bind_input, real.synchronize_inputs
        bind_output = real.bind_output

        def bind_cpu_input(name, values):
            self.places[name], self.rows = "host", len(values)
            host(name, values)

        def bind_input(name, kind, index, dtype, shape, address):
            self.places[name], self.rows = f"{kind}:{index}", shape[0]
            device(name, "cpu", 0, dtype, shape, address)

        def synchronize_inputs():
            self.waited = set(self.places)
            wait()

        def bind_answer(name, kind, index=0, *memory):
            self.answer = kind if kind == "cpu" else f"{kind}:{index}"
            bind_output(name, "cpu", 0, *memory)

        real.bind_cpu_input, real.bind_input = bind_cpu_input, bind_input
        real.synchronize_inputs, real.bind_output = synchronize_inputs, bind_answer


class FakeRuntime(types.SimpleNamespace):
    """ONNX Runtime as a GPU machine has it; `opens_with` is the provider that a CUDA session ends up on."""

    def __init__(self, opens_with=ort_backend.CUDA, fails=False):
        import onnxruntime

        def inference_session(path, settings, providers, enable_fallback, disabled_optimizers):
            wanted = providers[0]
            if wanted == ort_backend.CPU:
                return onnxruntime.InferenceSession(path, settings, providers=providers)
            assert wanted[0] == ort_backend.CUDA
            assert enable_fallback == 0
            assert settings.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
            self.cuda_options = wanted[1]
            if fails:
                raise RuntimeError("CUDA failure 35: driver is too old\nmore lines")
            session = onnxruntime.InferenceSession(path, providers=[ort_backend.CPU])
            session.get_providers = lambda: [opens_with]
            bindings = session.io_binding
            session.io_binding = lambda: self.bound.append(FakeBinding(bindings())) or self.bound[-1].real
            return session

        self.bound = []

        super().__init__(
            __version__="9.9",
            SessionOptions=onnxruntime.SessionOptions,
            GraphOptimizationLevel=onnxruntime.GraphOptimizationLevel,
            get_available_providers=lambda: [ort_backend.CUDA, ort_backend.CPU],
            preload_dlls=lambda: sys.stdout.write("not found: libcublas"),
            InferenceSession=inference_session,
        )
