"""OpenVINO as an engine for ONNX files: precision, streams, and what it is told."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from needed_cores import needs_two_cores
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tiny_models import tiny_model

from cb_runtime.backends import openvino as backend
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ContractError, MissingPackageError, ModelError, UsageError
from cb_runtime.golden import golden_path, load_golden_samples
from cb_runtime.models import default_model_path
from cb_runtime.parity import verify_session
from cb_runtime.session import open_session

openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install 'cb-toolkit[openvino]'")


@pytest.fixture
def artifact(tmp_path):
    return tiny_model(tmp_path / "best.onnx")


class CpuWith:
    """OpenVINO as a CPU with some arithmetic has it; `takes` is what a compiled model then computes in."""

    def __init__(self, *capabilities, takes=None):
        self.capabilities, self.takes, self.settings = capabilities, takes, []
        self.__version__ = "9.9.1-1-abc"
        self.Core = self.core

    def core(self):
        real = openvino.Core()

        def compile_model(model, device, settings):
            self.settings.append(settings)
            hint = self.takes or settings["INFERENCE_PRECISION_HINT"]
            answers = {**settings, "INFERENCE_PRECISION_HINT": SimpleNamespace(to_string=lambda: hint)}
            compiled = real.compile_model(model, device, {**settings, "INFERENCE_PRECISION_HINT": "f32"})
            return SimpleNamespace(
                get_property=lambda name: answers.get(name, 1), create_infer_request=compiled.create_infer_request
            )

        answers = {"OPTIMIZATION_CAPABILITIES": self.capabilities, "FULL_DEVICE_NAME": "Abacus 1"}
        return SimpleNamespace(
            read_model=real.read_model, compile_model=compile_model, get_property=lambda device, name: answers[name]
        )


def use(monkeypatch, machine):
    monkeypatch.setattr(backend, "require", lambda module: machine)
    return machine


def test_the_model_in_the_box_decides_as_pytorch_did_whole_and_in_stages():
    session = open_session(default_model_path(), backend="openvino", precision="fp32", measure=False)
    golden = load_golden_samples(golden_path(default_model_path()))
    for graph in (session, session.stages):
        report = verify_session(graph, golden, [1, 16])
        assert report, str(report)


@needs_two_cores
@pytest.mark.parametrize("streams", [1, 2])
def test_batches_that_are_cut_among_streams_have_the_same_answers(streams):
    threads = None if streams == 1 else streams
    session = open_session(default_model_path(), backend="openvino", threads=threads, streams=streams)
    assert session.describe()["streams"] == streams
    golden = load_golden_samples(golden_path(default_model_path()))
    for size in (1, 2, 5):
        few = golden.sample(size)
        np.testing.assert_allclose(session.run(few.inputs), few.logits, atol=1e-3)


@needs_two_cores
def test_each_stream_is_a_model_of_its_own_whose_weights_no_other_prepares():
    # OpenVINO's own streams share weights that they prepare at the same time: int8 then came out wrong, not always.
    session = open_session(default_model_path(), backend="openvino", threads=2, streams=2)
    compiled = [lane.compiled for lane in session._executor.opened.lanes]
    assert len({id(one) for one in compiled}) == 2
    assert [one.get_property("NUM_STREAMS") for one in compiled] == [1, 1]
    assert [one.get_property("INFERENCE_NUM_THREADS") for one in compiled] == [1, 1]
    assert session.describe()["threads"] == 2


@needs_two_cores
def test_one_stream_has_the_threads_that_openvino_chooses(monkeypatch):
    monkeypatch.setattr(backend, "usable_cores", lambda: 1)
    plain, one = (open_session(default_model_path(), backend="openvino", measure=False, streams=n) for n in (None, 1))
    assert one.describe()["threads"] == plain.describe()["threads"] > 1


@needs_two_cores
def test_calls_that_take_one_stream_take_turns():
    session = open_session(default_model_path(), backend="openvino", threads=2, streams=2)
    few = load_golden_samples(golden_path(default_model_path())).sample(1)
    for _ in range(2):
        session.run(few.inputs)
    assert [len(lane._idle) for lane in session._executor.graph.lanes] == [1, 1]


def test_the_whole_graph_of_a_staged_model_is_compiled_when_it_is_first_run():
    session = open_session(default_model_path(), backend="openvino", measure=False, threads=1)
    graph = session._executor.graph
    assert session.describe()["threads"] == 1
    session.stages.encode("frame1", np.zeros((1, 48, 480, 3), np.uint8))
    assert "lanes" not in vars(graph)
    few = load_golden_samples(golden_path(default_model_path())).sample(2)
    np.testing.assert_allclose(session.run(few.inputs), few.logits, atol=1e-3)
    assert "lanes" in vars(graph)
    whole = open_session(default_model_path(), backend="openvino", measure=False, reuse=False)
    assert "lanes" in vars(whole._executor.graph)


def test_what_a_stage_does_not_take_is_told_in_the_words_of_the_contract():
    stages = open_session(default_model_path(), backend="openvino", measure=False).stages
    with pytest.raises(ContractError, match=r"'pictures' must be uint8 \(batch, 48, 480, 3\), got uint8 \(1, 3, 48"):
        stages.encode("frame1", np.zeros((1, 3, 48, 480), np.uint8))


def test_more_streams_than_threads_are_refused(artifact):
    with pytest.raises(UsageError, match=r"--streams 3 cannot be had of 1 threads"):
        open_session(artifact, backend="openvino", threads=1, streams=3)


def test_streams_are_refused_where_there_are_none(artifact):
    with pytest.raises(UsageError, match="--streams is for OpenVINO: onnxruntime has none"):
        open_session(artifact, backend="onnxruntime", streams=2)


@pytest.mark.parametrize("name", ["threads", "streams"])
def test_less_than_one_is_refused(artifact, name):
    with pytest.raises(UsageError, match=f"{name.title()} must be 1 or more, got 0"):
        open_session(artifact, backend="openvino", **{name: 0})


def test_float32_is_float32_on_a_cpu_that_would_take_bf16_by_itself(artifact, monkeypatch):
    machine = use(monkeypatch, CpuWith("FP32", "BF16", "INT8"))
    described = open_session(artifact, backend="openvino", measure=False).describe()
    assert [settings["INFERENCE_PRECISION_HINT"] for settings in machine.settings] == ["f32"]
    assert (described["precision"], described["float_arithmetic"]) == ("fp32", "f32")


def test_a_float32_artifact_runs_in_bf16_where_the_cpu_has_it(artifact, monkeypatch):
    machine = use(monkeypatch, CpuWith("FP32", "BF16", "INT8"))
    described = open_session(artifact, backend="openvino", precision="bf16", measure=False).describe()
    assert machine.settings[0]["INFERENCE_PRECISION_HINT"] == "bf16"
    assert (described["precision"], described["float_arithmetic"]) == ("bf16", "bf16")
    assert backend.precisions("fp32") == ("fp32", "bf16")
    assert backend.precisions("int8") == ("int8",)


def test_bf16_where_the_cpu_has_none_is_an_error_and_not_float32(artifact, monkeypatch):
    use(monkeypatch, CpuWith("FP32", "INT8"))
    with pytest.raises(ModelError, match=r"Abacus 1\) does not compute it natively, only FP32, INT8\. Use --precision"):
        open_session(artifact, backend="openvino", precision="bf16", measure=False)
    assert backend.precisions("fp32") == ("fp32",)


def test_another_precision_than_was_set_is_an_error(artifact, monkeypatch):
    use(monkeypatch, CpuWith("FP32", "BF16", takes="bf16"))
    with pytest.raises(ModelError, match=r"told to compute .* in f32 and took bf16"):
        open_session(artifact, backend="openvino", measure=False)


@pytest.mark.parametrize(("capabilities", "hint"), [(("FP32", "BF16"), "bf16"), (("FP32",), "f32")])
def test_an_artifact_in_half_precision_is_computed_in_it_or_in_float32(tmp_path, monkeypatch, capabilities, hint):
    path = tiny_model(tmp_path / "half.onnx", ModelMetadata("tiny", precision="bf16"))
    use(monkeypatch, CpuWith(*capabilities))
    described = open_session(path, backend="openvino", measure=False).describe()
    assert (described["precision"], described["float_arithmetic"]) == ("bf16", hint)


def test_a_precision_that_the_artifact_does_not_have_is_refused_with_what_to_do(artifact):
    with pytest.raises(UsageError, match=r"--precision int8 cannot be had of .* fp32.*cb export .*--precision int8"):
        open_session(artifact, backend="openvino", precision="int8")
    with pytest.raises(UsageError, match=r"--precision bf16 cannot be had of best\.onnx by onnxruntime"):
        open_session(artifact, backend="onnxruntime", precision="bf16")
    with pytest.raises(UsageError, match=r"Unknown precision 'fp31'\. Choose auto, fp32"):
        open_session(artifact, precision="fp31")


def test_a_gpu_is_refused_with_what_to_do(artifact):
    with pytest.raises(ModelError, match=r"OpenVINO runs on the CPU\. Use --backend onnxruntime"):
        open_session(artifact, backend="openvino", device="cuda")


def test_threads_are_not_pinned_to_cores(artifact):
    session = open_session(artifact, backend="openvino", measure=False)
    assert session._executor.graph.lanes[0].compiled.get_property("ENABLE_CPU_PINNING") is False


def test_without_openvino_the_extra_is_named(artifact, monkeypatch):
    def missing(module):
        raise MissingPackageError(module)

    monkeypatch.setattr(backend, "require", missing)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    assert "cb-toolkit[openvino]" in backend.available().fix
    with pytest.raises(MissingPackageError, match=r"cb-toolkit\[openvino\]"):
        open_session(artifact, backend="openvino", measure=False)


def test_what_the_cpu_computes_natively_is_told(monkeypatch):
    use(monkeypatch, CpuWith("FP32", "BF16", "INT8", "EXPORT_IMPORT"))
    assert backend.available().detail == "openvino 9.9.1, Abacus 1 computes FP32, BF16, INT8"


def quantised_convolution(path, read):
    """Write a convolution with a bias for each channel between int8 pairs, and the batch size as a number."""
    random = np.random.default_rng(0)
    constants = {
        "weight": random.integers(-64, 65, (4, 3, 3, 3), np.int8),
        "scale": np.full(4, 0.01, np.float32),
        "zeros": np.zeros(4, np.int8),
        "bias": np.array([1, -2, 3, 0.5], np.float32),
        "step": np.float32(0.15),
        "zero": np.int8(0),
        "none": np.int64(0),
        "one": np.int64(1),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["weight", "scale", "zeros"], ["kernel"], axis=0),
        helper.make_node("Conv", ["pictures", "kernel", "bias"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "step", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "step", "zero"], ["features"]),
        helper.make_node("Shape", [read], ["batch"], start=0, end=1),
        helper.make_node("Squeeze", ["batch"], ["count"]),
        helper.make_node("Range", ["none", "count", "one"], ["rows"]),
    ]
    inputs = [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, 8, 8])]
    outputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4, 6, 6]),
        helper.make_tensor_value_info("rows", TensorProto.INT64, ["rows"]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "quantised", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.mark.parametrize("read", ["pictures", "features"])
def test_each_channel_of_a_quantised_convolution_gets_its_own_bias(tmp_path, read):
    """OpenVINO alone adds the first channel's bias to all of them, where a graph reads its batch size."""
    quantised_convolution(tmp_path / "part.onnx", read)
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    compiled = backend._compiled(core, backend._model(core, tmp_path / "part.onnx"), settings, tmp_path / "part.onnx")
    given = np.random.default_rng(1).random((2, 3, 8, 8), np.float32) * 2 - 1
    wanted = ReferenceEvaluator(str(tmp_path / "part.onnx")).run(None, {"pictures": given})
    one_step = 0.16  # halves may be rounded up or down
    np.testing.assert_allclose(compiled([given])["features"], wanted[0], atol=one_step)
    np.testing.assert_array_equal(compiled([given])["rows"], [0, 1])


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no such signals")
def test_a_session_that_another_thread_lets_go_takes_no_signal_stack_with_it():
    script = """
import signal, sys, threading
from cb_runtime.session import open_session

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
held = [open_session(sys.argv[1], backend="openvino", precision="fp32", measure=False, threads=1)]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
signal.raise_signal(signal.SIGUSR1)
"""
    line = [sys.executable, "-c", script, str(default_model_path())]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
