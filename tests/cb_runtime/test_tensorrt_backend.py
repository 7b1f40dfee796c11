"""TensorRT engines: what is refused before it is opened, and how an opened one runs. What needs a GPU is marked."""

import dataclasses
import gc
import hashlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner
from fake_tensorrt import CudaError, FakeCuda, FakeEngine, expected_logits, fake_tensorrt, record_of

from cb_runtime.backends import OpenOptions
from cb_runtime.backends import tensorrt as backend
from cb_runtime.cli import main
from cb_runtime.contract import ModelMetadata, graph_input_specs
from cb_runtime.errors import ContractError, MissingPackageError, ModelError, UsageError
from cb_runtime.gpus import Gpu
from cb_runtime.session import open_session
from cb_runtime.trt import flavours
from cb_runtime.trt.sidecar import BatchProfile, read_sidecar, sidecar_path

PLAN = b"ftrt" + bytes(100)
METADATA = ModelMetadata("tiny", validation_metrics={"f1": 0.5}, parity={"ok": True})
SMALL = BatchProfile(1, 4, 8)
ADA = Gpu(0, "NVIDIA GeForce RTX 4090", "8.9")
HOPPER = Gpu(0, "NVIDIA H100", "9.0")


def feeds(count, seed=0):
    rng = np.random.default_rng(seed)
    made = {}
    for spec in graph_input_specs():
        shape = (count, *spec.shape[1:])
        picture = spec.dtype == "uint8"
        made[spec.name] = rng.integers(0, 256, shape, np.uint8) if picture else rng.random(shape, np.float32)
    return made


@pytest.fixture
def engine_file(tmp_path):
    path = tmp_path / "best.engine"
    path.write_bytes(PLAN)
    save(path)
    return path


def save(path, metadata=METADATA, **changes):
    record_of(metadata, hashlib.sha256(PLAN).hexdigest(), **changes).save(path)


class Machine:
    """A machine with a GPU and TensorRT, made of host memory."""

    def __init__(self, monkeypatch, gpus=(ADA,), memory=2**40, profile=SMALL, **options):
        self.cuda = FakeCuda(memory)
        self.engine = FakeEngine(METADATA, self.cuda, profile)
        self.module = fake_tensorrt(self.engine, **options)
        monkeypatch.setattr(backend, "load_flavour", lambda flavour: self.module)
        monkeypatch.setattr(backend, "cuda_runtime", lambda extra: self.cuda)
        monkeypatch.setattr(backend, "list_gpus", lambda: gpus)

    def count(self, what):
        return sum(entry[0] == what for entry in self.cuda.log)


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def opened(path, device="auto"):
    return backend.open_artifact(path, OpenOptions(device=device))


def check(executor, count, seed=0):
    given = feeds(count, seed)
    np.testing.assert_allclose(executor.run(given), expected_logits(given), rtol=1e-6)


class TestRefusedBeforeItIsOpened:
    def test_an_engine_without_sidecar(self, engine_file):
        sidecar_path(engine_file).unlink()
        with pytest.raises(ModelError, match=r"no sidecar best\.engine\.json.*Copy both files together.*cb export"):
            opened(engine_file)

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 1}'])
    def test_a_sidecar_that_is_none(self, engine_file, text):
        sidecar_path(engine_file).write_text(text)
        with pytest.raises(ContractError, match=r"best\.engine\.json cannot be used.*cb export"):
            opened(engine_file)

    @pytest.mark.parametrize(("field", "value", "told"), [("schema", 9, "schema 9"), ("flavour", "mint", "'mint'")])
    def test_a_sidecar_of_another_kind(self, engine_file, field, value, told):
        plain = json.loads(sidecar_path(engine_file).read_text())
        sidecar_path(engine_file).write_text(json.dumps({**plain, field: value}))
        with pytest.raises(ContractError, match=told):
            opened(engine_file)

    def test_an_engine_with_one_changed_byte_is_never_given_to_tensorrt(self, engine_file, machine):
        engine_file.write_bytes(PLAN[:-1] + b"\x01")
        machine.module.Runtime = None
        with pytest.raises(ModelError, match=r"SHA-256 differs\. It was not opened"):
            opened(engine_file)

    def test_an_engine_of_another_platform(self, engine_file):
        save(engine_file, platform="windows-amd64")
        with pytest.raises(ModelError, match="built on windows-amd64; this machine is"):
            opened(engine_file)

    def test_an_engine_of_another_release(self, engine_file, monkeypatch):
        Machine(monkeypatch, version="11.4.0")
        with pytest.raises(ModelError, match=r"TensorRT 10\.9\.0.*has TensorRT 11\.4\.0.*pip install 'tensorrt==10\.9"):
            opened(engine_file)

    def test_an_engine_for_later_releases_on_an_earlier_one(self, engine_file, monkeypatch):
        save(engine_file, tensorrt_version="10.13.2.6", version_compatible=True)
        Machine(monkeypatch, version="10.9.0.34", host_code=True)
        with pytest.raises(ModelError, match=r"runs only on that release or a later one.*'tensorrt>=10\.13\.2\.6'"):
            opened(engine_file)

    def test_an_engine_of_a_flavour_that_is_not_installed(self, engine_file, monkeypatch):
        monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingPackageError, match=r"cb-toolkit\[trt\]"):
            opened(engine_file)
        save(engine_file, flavour="rtx")
        with pytest.raises(MissingPackageError, match=r"cb-toolkit\[rtx\]"):
            opened(engine_file)

    def test_a_flavour_whose_libraries_are_missing(self, engine_file, monkeypatch):
        def broken(name):
            raise ImportError("libnvinfer.so.10: cannot open shared object file")

        monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(flavours.importlib, "import_module", broken)
        with pytest.raises(ModelError, match="tensorrt is installed but cannot be imported: libnvinfer"):
            opened(engine_file)

    def test_without_cuda_python_the_extra_of_the_flavour_is_named(self, engine_file, monkeypatch, machine):
        monkeypatch.undo()
        monkeypatch.setattr(backend, "load_flavour", lambda flavour: machine.module)
        monkeypatch.setitem(sys.modules, "cuda", None)
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
        with pytest.raises(MissingPackageError, match=r"cuda\.bindings\.runtime is not installed.*cb-toolkit\[trt\]"):
            opened(engine_file)

    def test_the_cpu_is_answered_with_the_format_for_it(self, engine_file):
        with pytest.raises(ModelError, match=r"cannot run on the CPU.*Export an \.onnx"):
            opened(engine_file, "cpu")

    def test_threads_have_no_effect_and_are_refused(self, engine_file):
        with pytest.raises(UsageError, match="--threads is for the CPU"):
            open_session(engine_file, threads=2)

    def test_a_machine_without_gpu(self, engine_file, monkeypatch):
        Machine(monkeypatch, gpus=())
        with pytest.raises(ModelError, match="needs an NVIDIA GPU, and no driver shows one"):
            opened(engine_file)

    def test_a_gpu_that_is_not_there(self, engine_file, machine):
        with pytest.raises(ModelError, match=r"Device cuda:3 was asked for; this machine has 1 GPU"):
            opened(engine_file, "cuda:3")

    def test_a_gpu_it_was_not_built_for(self, engine_file, monkeypatch):
        Machine(monkeypatch, gpus=(HOPPER,))
        with pytest.raises(ModelError, match=r"for compute capability 8\.9; this machine has NVIDIA H100.*ampere\+"):
            opened(engine_file)

    def test_a_plan_that_tensorrt_refuses(self, engine_file, monkeypatch):
        Machine(monkeypatch, refusal="Serialization assertion failed: magic tag")
        with pytest.raises(ModelError, match=r"(?s)cannot be opened: Serialization assertion.*cb export"):
            opened(engine_file)

    def test_a_plan_for_which_memory_is_short(self, engine_file, monkeypatch):
        Machine(monkeypatch, refusal="Requested amount of GPU memory: out of memory")
        with pytest.raises(ModelError, match="memory is full: free some"):
            opened(engine_file)

    def test_a_plan_whose_own_contract_is_another(self, engine_file, machine):
        machine.engine.name = ModelMetadata("other").to_compact_json()
        with pytest.raises(ContractError, match="The contract inside"):
            opened(engine_file)

    def test_a_plan_with_other_tensors(self, engine_file, machine):
        spec = machine.engine.tensors["spatial_features"]
        machine.engine.tensors["spatial_features"] = dataclasses.replace(spec, shape=("batch", 7))
        with pytest.raises(ContractError, match="does not fit its contract"):
            opened(engine_file)


def test_reports_known_only_after_the_build_may_differ_between_plan_and_sidecar(engine_file, machine):
    machine.engine.name = METADATA.replace(parity=None, validation_metrics={}).to_compact_json()
    assert opened(engine_file).metadata == METADATA


@pytest.mark.parametrize("version", ["10.9.0", "10.10.0.31", "11.4.0"])
def test_only_an_engine_for_later_releases_runs_there_and_brings_host_code(engine_file, monkeypatch, version):
    save(engine_file, version_compatible=True)
    Machine(monkeypatch, version=version, host_code=True)
    check(opened(engine_file), 2)


def test_the_first_gpu_that_fits_is_taken_and_the_reason_told(engine_file, monkeypatch):
    Machine(monkeypatch, gpus=(HOPPER, dataclasses.replace(ADA, index=1)))
    told = opened(engine_file).describe()
    assert (told["device"], told["reason"]) == ("cuda:1", "the first GPU that the engine was built for")
    assert (told["flavour"], told["tensorrt"], told["profile"]) == ("tensorrt", "10.9.0", "1:4:8")
    json.dumps(told)


def test_an_engine_for_ampere_and_later_runs_on_all_of_them(engine_file, monkeypatch):
    save(engine_file, hardware_compat="ampere+")
    Machine(monkeypatch, gpus=(HOPPER,))
    assert opened(engine_file, "cuda:0").describe()["reason"] == "as asked"
    Machine(monkeypatch, gpus=(Gpu(0, "NVIDIA T4", "7.5"),))
    with pytest.raises(ModelError, match=r"for compute capability 8\.0 or later"):
        opened(engine_file)


@pytest.mark.parametrize("rtx", [False, True])
class TestRunning:
    @pytest.fixture
    def executor(self, engine_file, monkeypatch, rtx):
        self.machine = Machine(monkeypatch, rtx=rtx)
        return opened(engine_file)

    @pytest.mark.parametrize("count", [1, 3, 8, 9, 31])
    def test_any_number_of_pairs_gets_its_own_answers(self, executor, count):
        check(executor, count)

    def test_a_session_checks_and_runs_it(self, executor, engine_file):
        session = open_session(engine_file)
        given = feeds(2)
        np.testing.assert_allclose(session.run(given), expected_logits(given), rtol=1e-6)
        assert session.device == "cuda:0"

    def test_batch_sizes_may_alternate(self, executor):
        for seed, count in enumerate([2, 2, 2, 5, 2, 8, 8, 8, 1, 20, 20]):
            check(executor, count, seed)

    def test_more_pairs_than_a_batch_run_on_two_contexts_in_turn(self, executor):
        check(executor, 31)
        assert self.machine.engine.contexts == executor.describe()["contexts"] == 2

    def test_calls_at_once_have_a_context_each_and_later_ones_use_them_again(self, executor):
        together = threading.Barrier(4)

        def call(seed):
            with executor.graph.lanes.borrow(1, 3):
                together.wait(timeout=60)
            check(executor, 3, seed)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, range(4)))
        assert self.machine.engine.contexts == 4
        check(executor, 3)
        assert self.machine.engine.contexts == 4

    def test_an_engine_that_fails_is_named_and_its_context_not_used_again(self, executor):
        check(executor, 2)
        free = self.machine.cuda.memory
        self.machine.engine.fails = "Cuda failure: out of memory"
        with pytest.raises(ModelError, match=r"cannot run on cuda:0: Cuda failure.*Memory ran out: try a smaller"):
            executor.run(feeds(2))
        assert self.machine.cuda.memory > free
        assert executor.describe()["contexts"] == 0
        self.machine.engine.fails = None
        check(executor, 2)

    def test_memory_that_runs_out_says_what_to_do_and_is_given_back(self, executor):
        self.machine.cuda.memory = before = 300_000
        with pytest.raises(ModelError, match=r"cuda:0: cudaErrorMemoryAllocation\. Its memory is full: try a smaller"):
            executor.run(feeds(8))
        assert self.machine.cuda.memory == before

    def test_memory_too_short_for_a_context_says_so(self, executor):
        self.machine.engine.context_fails = "insufficient memory"
        with pytest.raises(ModelError, match=r"cannot make an execution context.*fewer calls at once"):
            executor.run(feeds(1))

    def test_a_batch_size_or_address_that_tensorrt_refuses_is_named(self, executor):
        self.machine.engine.profile = BatchProfile(4, 4, 8)
        with pytest.raises(ModelError, match="cannot take batch 2"):
            executor.run(feeds(2))

    def test_closing_gives_all_memory_back(self, executor):
        before = self.machine.cuda.memory
        check(executor, 20)
        assert self.machine.cuda.memory < before
        executor.graph.lanes.close()
        assert self.machine.cuda.memory == before
        assert not self.machine.cuda.blocks


def test_an_executor_that_is_forgotten_gives_its_memory_back(engine_file, machine):
    before = machine.cuda.memory
    executor = opened(engine_file)
    check(executor, 20)
    del executor
    gc.collect()
    assert machine.cuda.memory == before


def test_one_failure_does_not_explain_the_next(engine_file, machine):
    executor = opened(engine_file)
    for told in ("out of memory", "misaligned address"):
        machine.engine.fails = told
        with pytest.raises(ModelError, match=told) as caught:
            executor.run(feeds(1))
    assert "memory" not in str(caught.value)


def test_fewer_pairs_than_the_smallest_batch_are_filled_up(engine_file, monkeypatch):
    profile = BatchProfile(4, 4, 8)
    save(engine_file, profile=profile)
    Machine(monkeypatch, profile=profile)
    executor = opened(engine_file)
    for count in (1, 3, 4, 9):
        check(executor, count)


def test_a_repeated_batch_size_is_replayed_as_a_graph_and_another_one_drops_it(engine_file, machine):
    executor = opened(engine_file)
    check(executor, 3, seed=1)
    assert machine.count("captured") == machine.count("launched") == 0, "the first run may allocate"
    check(executor, 3, seed=2)
    check(executor, 3, seed=3)
    assert (machine.count("captured"), machine.count("launched")) == (1, 2)
    check(executor, 4)
    assert machine.count("dropped") == 1
    assert executor.describe()["cuda_graphs"] == "cb"


def test_tensorrt_for_rtx_captures_graphs_itself(engine_file, monkeypatch):
    machine = Machine(monkeypatch, rtx=True)
    executor = opened(engine_file)
    for seed in range(3):
        check(executor, 3, seed)
    assert machine.engine.settings.cuda_graph_strategy == "WHOLE"
    assert machine.count("captured") == 0
    assert executor.describe()["cuda_graphs"] == "TensorRT for RTX"


def test_a_capture_that_fails_leaves_the_stream_usable(engine_file, machine):
    executor = opened(engine_file)
    check(executor, 3)
    machine.engine.fails = "not permitted when stream is capturing"
    with pytest.raises(ModelError, match="not permitted"):
        executor.run(feeds(3))
    assert not machine.cuda._capturing


def test_a_code_that_cuda_gives_is_told_in_words(machine, engine_file, monkeypatch):
    monkeypatch.setattr(machine.cuda, "cudaSetDevice", lambda index: (CudaError.cudaErrorUnknown,))
    with pytest.raises(ModelError, match=r"CUDA failed on cuda:0: cudaErrorUnknown\. See `cb doctor`"):
        opened(engine_file)


def test_an_address_that_tensorrt_refuses_is_named(engine_file, machine):
    executor = opened(engine_file)
    machine.engine.cuda = FakeCuda()  # which knows none of the addresses
    with pytest.raises(ModelError, match="cannot take the memory of 'ocr_viz'"):
        executor.run(feeds(1))


def test_inspect_reads_an_engine_where_it_cannot_run(engine_file):
    done = CliRunner().invoke(main, ["inspect", str(engine_file), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metadata"]["parity"] == {"ok": True}
    assert json.loads(done.stdout)["layers"] == {engine_file.name: {"float32": {"layer_share": 1}}}
    read_sidecar(engine_file).replace(precision_proof={"shares": {"Half": 0.75, "Float": 0.25}}).save(engine_file)
    shown = CliRunner().invoke(main, ["inspect", str(engine_file)]).stdout
    assert "layers in float16" in shown
    assert "75.0%" in shown
    engine_file.write_bytes(b"changed")
    assert CliRunner().invoke(main, ["inspect", str(engine_file)]).exit_code == 4
