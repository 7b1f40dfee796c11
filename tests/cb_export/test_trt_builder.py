"""ONNX to engine, built for real by TensorRT for RTX, which needs no GPU."""

from __future__ import annotations

import hashlib
import json
import types

import numpy as np
import onnx
import pytest
from tiny_graphs import tiny_graph
from tiny_pairs import random_inputs

from cb_export.trt import builder
from cb_export.trt.builder import build_failure, engine_from_onnx
from cb_export.trt.choice import choose
from cb_export.trt.options import EngineOptions
from cb_export.trt.precision import prove, types_of_layers
from cb_export.trt.progress import STEPS, BuildProgress
from cb_runtime.contract import ModelMetadata, metadata_from_json
from cb_runtime.errors import ContractError, ModelError
from cb_runtime.gpus import list_gpus
from cb_runtime.session import open_session
from cb_runtime.trt.messages import Messages, logger_for, reasons
from cb_runtime.trt.sidecar import BatchProfile, read_sidecar, record_from_dict, this_platform

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'cb-toolkit[rtx]'")

PRECISIONS = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16", "int8": "Int8"}
PROFILE = BatchProfile(1, 4, 8)


def built(folder, precision="fp32", metadata=None, progress=lambda *told: None, *, graph=None, **options):
    """Build an engine of a graph made by hand; returns its path and record."""
    source = graph or tiny_graph(folder / "source.onnx", precision)
    wanted = EngineOptions(**{"flavour": "rtx", "profile": PROFILE} | options)
    metadata = metadata or ModelMetadata("tiny", precision=precision)
    path = folder / "tiny.engine"
    record = engine_from_onnx(source, path, metadata, choose(wanted), wanted, progress)
    record.save(path)
    return path, record


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    return {name: built(tmp_path_factory.mktemp(name), name) for name in PRECISIONS}


@pytest.mark.parametrize("precision", PRECISIONS)
class TestEveryPrecision:
    def test_the_plan_is_as_tensorrt_wrote_it(self, engines, precision):
        path, record = engines[precision]
        content = path.read_bytes()
        assert content[1:4] == b"trt", "nothing stands before the plan's own mark, which trtexec looks for"
        assert hashlib.sha256(content).hexdigest() == record.plan_sha256

    def test_the_contract_is_inside_the_plan(self, engines, precision):
        path, record = engines[precision]
        text = record.metadata.to_compact_json()
        assert text.encode() in path.read_bytes()
        assert metadata_from_json(text).precision == precision

    def test_the_compiled_layers_prove_the_precision(self, engines, precision):
        proof = engines[precision][1].precision_proof
        assert proof["source"] == ("engine inspector" if list_gpus() else "builder")
        assert proof["shares"][PRECISIONS[precision]] >= 0.5
        assert set(proof["layers"]) <= {PRECISIONS[precision], "Float"}

    def test_the_sidecar_reads_back(self, engines, precision):
        path, record = engines[precision]
        assert read_sidecar(path) == record == record_from_dict(json.loads(json.dumps(record.to_dict())))
        assert (record.flavour, record.tensorrt_version) == ("rtx", trt.__version__)
        assert (record.platform, record.profile) == (this_platform(), PROFILE)
        assert "8.9" in record.compute_capabilities
        assert "7.5" not in record.compute_capabilities

    @pytest.mark.gpu
    def test_it_computes_what_onnx_runtime_computes(self, engines, precision):
        path, record = engines[precision]
        if not choose(EngineOptions(flavour="rtx")).runs_here().ok:
            pytest.skip("TensorRT for RTX does not run on this GPU")
        wanted = open_session(tiny_graph(path.with_name("fp32.onnx")), device="cpu")
        session = open_session(path)
        for count in (1, 4, 4, 4, 8, 21):
            inputs = random_inputs(count, seed=count)
            np.testing.assert_allclose(session.run(inputs), wanted.run(inputs), atol=0.1)
        assert record.metadata == session.metadata


@pytest.mark.gpu
def test_tensors_in_the_gpus_memory_are_answered_as_those_in_main_memory(engines):
    torch = pytest.importorskip("torch")
    if not (choose(EngineOptions(flavour="rtx")).runs_here().ok and torch.cuda.is_available()):
        pytest.skip("TensorRT for RTX or PyTorch does not run on this GPU")
    session = open_session(engines["fp32"][0])
    for count in (1, 4, 4, 4, 21):
        inputs = random_inputs(count, seed=count)
        expected = session.run(inputs)
        # The work that fills them may still be running when the engine is asked.
        there = {name: torch.from_numpy(values).to("cuda", non_blocking=True) + 0 for name, values in inputs.items()}
        np.testing.assert_allclose(session.run(there), expected, atol=1e-5)


def test_the_file_is_byte_for_byte_the_plan_that_tensorrt_gave(tmp_path, monkeypatch):
    plans, build = [], builder._built

    def kept(*arguments):
        plans.append(bytes(memoryview(build(*arguments))))
        return plans[0]

    monkeypatch.setattr(builder, "_built", kept)
    path, _ = built(tmp_path)
    assert path.read_bytes() == plans[0]


def test_an_engine_may_be_built_for_named_gpus(tmp_path):
    path, record = built(tmp_path, compute_capabilities=("8.6", "12.0"))
    assert record.compute_capabilities == ("8.6", "12.0")
    assert path.stat().st_size > 0


def test_gpus_that_tensorrt_does_not_combine_are_refused(tmp_path, monkeypatch):
    config = types.SimpleNamespace(set_compute_capability=lambda target, index: False)
    with pytest.raises(ModelError, match=r"does not take compute capability 8\.6 with 8\.6, 8\.9"):
        builder._set_targets(config, {"8.6": 1, "8.9": 2}, ("8.6", "8.9"))


def test_workspace_and_tf32_reach_the_builder(tmp_path, monkeypatch):
    seen = []
    config = builder._config

    def spy(*arguments):
        seen.append(config(*arguments))
        return seen[-1]

    monkeypatch.setattr(builder, "_config", spy)
    _, record = built(tmp_path, workspace_mib=64)
    assert seen[0].get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 * 2**20
    assert not seen[0].get_flag(trt.BuilderFlag.TF32)
    assert record.build["workspace_mib"] == 64


@pytest.mark.parametrize("wanted", [False, True])
def test_an_engine_for_later_releases_is_asked_of_the_builder(monkeypatch, wanted):
    monkeypatch.setattr(builder, "_set_profile", lambda *given: None)
    made = trt.Builder(logger_for(trt, Messages()))
    options = EngineOptions(profile=PROFILE, version_compatible=wanted)
    config = builder._config(made, made.create_network(1), trt, choose(EngineOptions(flavour="rtx")), options)
    assert config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE) is wanted


@pytest.mark.parametrize("wanted", [False, True])
def test_only_an_engine_for_later_releases_may_run_its_own_code_when_it_is_inspected(monkeypatch, wanted):
    seen = []

    class Runtime:
        def __init__(self, logger):
            pass

        def deserialize_cuda_engine(self, plan):
            seen.append(self.engine_host_code_allowed)

    monkeypatch.setattr(trt, "Runtime", Runtime)
    with pytest.raises(ModelError, match="just built cannot be opened"):
        builder._inspected(b"plan", trt, host_code=wanted)
    assert seen == [wanted]


def test_a_graph_that_tensorrt_refuses_is_named_in_its_own_words(tmp_path):
    graph = tiny_graph(tmp_path / "source.onnx", first="Transpose")
    with pytest.raises(ModelError, match=r"(?s)refuses this graph:.*Transpose: .*UInt8") as caught:
        built(tmp_path, graph=graph)
    assert "catchCudaError" not in str(caught.value)
    assert not (tmp_path / "tiny.engine").exists()


def test_a_fixed_batch_axis_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"batch axis of ocr_viz, frame1, .* is fixed in this ONNX"):
        built(tmp_path, graph=tiny_graph(tmp_path / "source.onnx", batch=2))


def test_other_tensors_than_the_contracts_are_refused(tmp_path):
    model = onnx.load(tiny_graph(tmp_path / "source.onnx"))
    model.graph.node.append(onnx.helper.make_node("Identity", ["low"], ["more"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["batch", 5]))
    onnx.save(model, tmp_path / "source.onnx")
    with pytest.raises(ModelError, match="The ONNX must have the tensors"):
        built(tmp_path, graph=tmp_path / "source.onnx")


@pytest.mark.parametrize(("wanted", "given"), [("fp16", "fp32"), ("bf16", "fp16"), ("int8", "fp32"), ("fp32", "int8")])
def test_an_onnx_in_another_precision_is_refused_before_the_build(tmp_path, wanted, given):
    graph = tiny_graph(tmp_path / "source.onnx", given)
    with pytest.raises(ModelError, match=f"engine in {wanted} was asked for, but the ONNX .* computes otherwise"):
        built(tmp_path, wanted, graph=graph)


def test_metadata_too_long_for_an_engine_gives_up_reports_first_and_then_says_so(tmp_path):
    long = ModelMetadata("tiny", validation_metrics={"text": "x" * 5000})
    path, record = built(tmp_path, metadata=long)
    assert record.metadata == read_sidecar(path).metadata == long
    assert b"xxxxx" not in path.read_bytes()
    with pytest.raises(ContractError, match=r"the limit is 4095\. Shorten model_config"):
        built(tmp_path, metadata=ModelMetadata("tiny", model_config={"text": "x" * 5000}))


def test_a_name_that_tensorrt_does_not_keep_is_an_error():
    network = trt.Builder(logger_for(trt, Messages())).create_network(1)
    with pytest.raises(ModelError, match="did not take the metadata of 4096 bytes"):
        builder._set_name(network, "x" * 4096)


def test_progress_grows_to_the_end(tmp_path):
    told = []
    built(tmp_path, progress=lambda phase, done, total=None: told.append((done, total)))
    shares = [done for done, _ in told]
    assert shares == sorted(shares)
    assert told[-1] == (STEPS, STEPS)
    assert len(set(shares)) > 20


def test_an_interrupted_build_ends_and_leaves_nothing(tmp_path):
    def interrupt(phase, done, total=None):
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built(tmp_path, progress=interrupt)
    assert not (tmp_path / "tiny.engine").exists()


def test_a_phase_nobody_began_changes_nothing():
    told = []
    build = BuildProgress(lambda *entry: told.append(entry))
    build.step("unknown", 3)
    build.finish("unknown")
    assert [done for _, done, _ in told] == [0, STEPS]


def fails(monkeypatch, message):
    """Let the builder fail as on a machine whose memory, or patience, is short."""

    make = builder._builder

    def failing(tensorrt, messages):
        def build(network, config):
            logger_for(tensorrt, messages).log(tensorrt.ILogger.Severity.ERROR, message)

        real = make(tensorrt, messages)
        parts = ("create_network", "create_builder_config", "create_optimization_profile")
        return types.SimpleNamespace(**{name: getattr(real, name) for name in parts}, build_serialized_network=build)

    monkeypatch.setattr(builder, "_builder", failing)


@pytest.mark.parametrize("message", ["Cuda Runtime (out of memory)", "Skipping tactic: insufficient memory"])
def test_memory_that_runs_out_is_named_as_such(tmp_path, monkeypatch, message):
    fails(monkeypatch, message)
    with pytest.raises(ModelError, match=r"(?s)ran out of memory while it built.*smaller maximum in --batch"):
        built(tmp_path)


def test_another_failure_is_told_in_tensorrts_words(tmp_path, monkeypatch):
    fails(monkeypatch, "Could not find any implementation for node conv1")
    with pytest.raises(ModelError, match=r"(?s)could not build the engine:.*implementation for node conv1"):
        built(tmp_path)


def test_a_failure_without_a_word_is_told_too():
    assert "gave no reason" in str(build_failure(Messages()))


def test_a_builder_that_cannot_even_be_made_names_the_other_flavour(monkeypatch, tmp_path):
    def none(logger):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, "Builder", none)
    with pytest.raises(ModelError, match=r"cannot build here.*--flavor rtx builds without one"):
        built(tmp_path)


def test_batch_sizes_that_tensorrt_does_not_take_are_named(tmp_path, monkeypatch):
    config = types.SimpleNamespace(add_optimization_profile=lambda profile: -1)
    profile = types.SimpleNamespace(set_shape=lambda *shapes: None)
    made = types.SimpleNamespace(create_optimization_profile=lambda: profile)
    with pytest.raises(ModelError, match="does not take the batch sizes 1:4:8"):
        builder._set_profile(made, config, types.SimpleNamespace(num_inputs=0), EngineOptions(profile=PROFILE))


def test_an_engine_that_cannot_be_opened_where_it_was_built_is_an_error():
    with pytest.raises(ModelError, match="just built cannot be opened"):
        builder._inspected(b"no plan at all", trt)


def test_a_listing_without_layers_proves_nothing_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "types_of_layers", lambda listing: {})
    _, record = built(tmp_path)
    assert record.precision_proof["source"] is None
    assert "lists no layers" in record.precision_proof["reason"]


STANDARD_LISTING = """Layers:
Name: reformat, LayerType: Reformat, Inputs: [ { Name: a, Format/Datatype: Half }], Outputs: []
Name: conv1, LayerType: CaskConvolution, Inputs: [ { Name: a }], Outputs: [], Weights: {"Type": "Half", "Count": 9}
Name: conv2, LayerType: CaskConvolution, Inputs: [ { Name: a }], Outputs: [], Weights: {"Type": "FP32", "Count": 9}

Bindings:
a
"""


def test_the_inspector_of_standard_tensorrt_is_read_too():
    assert types_of_layers(STANDARD_LISTING.replace('"', "")) == {"Half": 1, "Float": 1}
    assert types_of_layers("something else") == {}


@pytest.mark.parametrize(
    ("types", "precision"),
    [({"Float": 50, "Half": 1}, "fp32"), ({"Float": 50, "Half": 3}, "fp16"), ({"Float": 5}, "int8")],
)
def test_layers_in_another_precision_than_asked_for_are_an_error(types, precision):
    with pytest.raises(ModelError, match=f"engine in {precision} was asked for, but TensorRT compiled"):
        prove(types, precision)


def test_lines_that_every_failure_has_do_not_hide_the_cause():
    noise = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime"
    assert reasons([f"the cause\n{noise}", "the cause", noise]) == "the cause"
    assert reasons([noise]) == noise


def test_what_tensorrt_logs_is_kept_by_its_gravity():
    messages = Messages()
    logger = logger_for(trt, messages)
    for level in trt.ILogger.Severity.__members__.values():
        logger.log(level, level.name)
    assert (list(messages.errors), list(messages.warnings)) == (["INTERNAL_ERROR", "ERROR"], ["WARNING"])
    assert list(messages.details) == ["INFO", "VERBOSE"]
