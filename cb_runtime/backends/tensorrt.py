"""The backend for `.engine` files: TensorRT and TensorRT for RTX, on NVIDIA GPUs, without PyTorch.

A plan is executable code, so it is opened only when its SHA-256 is the one in its sidecar, never with host code, and
only by the release and on a GPU that it was built for: everything else is an error that says what to do. An engine
that was built for later releases too brings host code, and only such a one may run it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from cb_runtime.backends import Availability, Device, Logits, OpenOptions, device_from_text
from cb_runtime.contract import (
    BATCH_AXIS,
    IMAGE_INPUTS,
    INPUT_NAMES,
    OUTPUT_SPECS,
    ModelMetadata,
    TensorSpec,
    metadata_from_json,
)
from cb_runtime.errors import EXTRA_OF_MODULE, CbError, ContractError, ModelError, UsageError
from cb_runtime.gpus import Gpu, list_gpus
from cb_runtime.stages import FEATURES, PICTURES, Stages
from cb_runtime.trt.cuda import Cuda, Memory, cuda_runtime
from cb_runtime.trt.flavours import FLAVOURS, Flavour, flavour_version, load_flavour
from cb_runtime.trt.graph import EngineGraph
from cb_runtime.trt.lanes import EngineFeeds, Lanes
from cb_runtime.trt.messages import Messages, logger_for
from cb_runtime.trt.sidecar import (
    BUILD_AGAIN,
    ENGINE_SUFFIX,
    EngineRecord,
    read_sidecar,
    same_contract,
    sidecar_path,
    this_platform,
)
from cb_runtime.trt.stages import open_engine_stages

SUFFIXES = (ENGINE_SUFFIX,)
"""File name endings this backend opens."""

_NO_CPU = "An engine runs on an NVIDIA GPU only. Export an .onnx for the CPU: cb export --checkpoint best.pt"


def available() -> Availability:
    """Tell whether either flavour can run engines here: its package, cuda-python and a GPU."""
    installed = [flavour for flavour in FLAVOURS.values() if flavour.is_installed]
    if not installed:
        fix = "with an NVIDIA GPU: pip install 'cb-toolkit[trt]', or [rtx] for GeForce RTX and RTX workstation GPUs"
        return Availability(False, "neither tensorrt nor tensorrt-rtx is installed", fix)
    releases, problems = _releases(installed)
    if not releases:
        return Availability(False, "; ".join(problems), "install it again, or the other flavour")
    found = "; ".join([", ".join(releases), *problems])
    if not _has_cuda_python():
        return Availability(False, f"{found}, but cuda-python is not installed", "pip install 'cuda-python>=12.6'")
    gpus = list_gpus()
    if not gpus:
        fix = "run engines where an NVIDIA GPU and its driver are; TensorRT for RTX builds them anywhere"
        return Availability(False, f"{found}, but no NVIDIA GPU that a driver shows", fix)
    return Availability(True, f"{found}, on {', '.join(map(str, gpus))}")


def _releases(installed: Sequence[Flavour]) -> tuple[list[str], list[str]]:
    """Return the flavours that can be imported, with their release, and why others cannot."""
    releases, problems = [], []
    for flavour in installed:
        try:
            releases.append(f"{flavour.title} {flavour_version(flavour)}")
        except CbError as error:
            problems.append(str(error).rstrip("."))
    return releases, problems


def _has_cuda_python() -> bool:
    try:
        return importlib.util.find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:  # of the parent package
        return False


def read_metadata(path: Path) -> ModelMetadata:
    """Return the full contract of an engine without TensorRT and without a GPU. Raises what `checked_plan` raises."""
    return checked_plan(path)[0].metadata


def checked_plan(path: Path) -> tuple[EngineRecord, bytes]:
    """Return sidecar and bytes of an engine that belong to each other.

    Raises ModelError when the sidecar is missing or another engine's, ContractError when it cannot be read.
    """
    record, plan = read_sidecar(path), path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != record.plan_sha256:
        raise ModelError(
            f"{sidecar_path(path)} belongs to another engine than {path.name}, or the engine was changed or damaged: "
            f"its SHA-256 differs. It was not opened. Copy both files together. {BUILD_AGAIN}"
        )
    return record, plan


def open_artifact(path: Path, options: OpenOptions) -> EngineExecutor:
    """Open an engine on a GPU.

    Raises:
        ModelError: The engine does not belong to its sidecar, this release of TensorRT, this platform or a GPU here.
        ContractError: The sidecar cannot be read, plan and contract differ, or the staged graph beside it is another
            engine's.
        UsageError: An unknown device, or threads.
        MissingPackageError: Its flavour of TensorRT, or cuda-python, is not installed.
    """
    record, plan = checked_plan(path)
    device = device_from_text(options.device)
    if device.kind == "cpu":
        raise ModelError(f"{path} cannot run on the CPU. {_NO_CPU}")
    if options.threads is not None:
        raise UsageError("--threads is for the CPU: no arithmetic of an engine runs there. Leave it out.")
    tensorrt = _release_of(record, path)
    api = cuda_runtime(EXTRA_OF_MODULE[record.family.module])
    gpu, reason = choose_gpu(record, device, list_gpus(), path)
    cuda = Cuda(api, gpu.index)
    cuda.use()
    opener = _Opener(record, tensorrt, cuda, Memory(cuda))
    engine, messages = opener.engine(plan, path)
    _check_engine(engine, tensorrt, record, path)
    graph = opener.graph(engine, messages, (record.metadata.inputs, record.metadata.outputs[0]))
    stages = open_engine_stages(path, record.metadata, opener.part, cuda, opener.memory) if options.reuse else None
    return EngineExecutor(record.metadata, record, gpu, reason, graph, stages)


@dataclass(frozen=True)
class _Opener:
    """Opens the engine of an artifact, and those of its staged graph, which were built with it."""

    record: EngineRecord
    tensorrt: ModuleType
    cuda: Cuda
    memory: Memory

    def engine(self, plan: bytes, path: Path) -> tuple[Any, Messages]:
        """Return an engine, and what is logged of it."""
        messages = Messages()
        host_code = self.record.version_compatible
        return _engine_from_plan(plan, self.tensorrt, messages, path, host_code=host_code), messages

    def graph(self, engine: Any, messages: Messages, specs: tuple[tuple[TensorSpec, ...], TensorSpec]) -> EngineGraph:  # noqa: ANN401
        """Return an engine ready to run."""
        lanes = Lanes(engine, self.tensorrt, self.cuda, specs, messages)
        return EngineGraph(*specs, self.record.profile, self.cuda, self.memory, lanes)

    def part(self, path: Path) -> EngineGraph:
        """Open an engine of the staged graph, whose digest was compared."""
        engine, messages = self.engine(path.read_bytes(), path)
        return self.graph(engine, messages, _specs_of_part(engine, self.tensorrt))


def _specs_of_part(engine: Any, tensorrt: ModuleType) -> tuple[tuple[TensorSpec, ...], TensorSpec]:  # noqa: ANN401
    """Return the inputs of a part, in the order of the contract, and its output, as the engine has them."""
    specs = [_part_spec(engine, engine.get_tensor_name(index), tensorrt) for index in range(engine.num_io_tensors)]
    answers = [spec for spec in specs if spec.name in (FEATURES, OUTPUT_SPECS[0].name)]
    inputs = [spec for spec in specs if spec not in answers]
    order = [PICTURES, *(f"{role}_{FEATURES}" for role in IMAGE_INPUTS), *INPUT_NAMES]
    return tuple(sorted(inputs, key=lambda spec: order.index(spec.name) if spec.name in order else -1)), answers[0]


def _part_spec(engine: Any, name: str, tensorrt: ModuleType) -> TensorSpec:  # noqa: ANN401
    _, dtype, row = _spec(engine, name, tensorrt)
    batch = engine.get_tensor_shape(name)[0]
    return TensorSpec(name, dtype, (BATCH_AXIS if batch < 0 else int(batch), *row))


def _release_of(record: EngineRecord, path: Path) -> ModuleType:
    """Return the module that runs an engine. Raises CbError when no release that does is installed."""
    if record.platform != this_platform():
        raise ModelError(f"{path} was built on {record.platform}; this machine is {this_platform()}. {BUILD_AGAIN}")
    tensorrt = load_flavour(record.family)
    if not record.runs_on_release(str(tensorrt.__version__)):
        which, sign = ("that release or a later one", ">=") if record.version_compatible else ("that release", "==")
        raise ModelError(
            f"{path} was built by {record.built_by}; this machine has {record.family.title} {tensorrt.__version__}, "
            f"and the engine runs only on {which}. {_again(record)} Or install it: "
            f"pip install '{record.family.module.replace('_', '-')}{sign}{record.tensorrt_version}'"
        )
    return tensorrt


def _again(record: EngineRecord) -> str:
    return f"{BUILD_AGAIN} --flavor {record.flavour}"


def choose_gpu(record: EngineRecord, device: Device, gpus: Sequence[Gpu], path: Path) -> tuple[Gpu, str]:
    """Return the GPU to run on, and why: the one asked for, or the first that the engine fits.

    Raises ModelError when there is none, or the one asked for does not fit.
    """
    if not gpus:
        raise ModelError(f"{path} needs an NVIDIA GPU, and no driver shows one here (see `cb doctor`). {_NO_CPU}")
    if device.kind == "cuda":
        if device.index >= len(gpus):
            raise ModelError(f"Device {device} was asked for; this machine has {len(gpus)} GPU(s), from cuda:0.")
        chosen, reason = [gpus[device.index]], "as asked"
    else:
        chosen, reason = list(gpus), "the first GPU that the engine was built for"
    fitting = [gpu for gpu in chosen if record.fits(gpu)]
    if not fitting:
        raise ModelError(
            f"{path} was built by {record.built_by}; this machine has {', '.join(map(str, chosen))}. {_remedy(record)}"
        )
    return fitting[0], reason


def _remedy(record: EngineRecord) -> str:
    other = "--hardware-compat ampere+" if record.flavour == "tensorrt" else "--compute-capability"
    return f"{_again(record)}, here, or for more GPUs with {other}"


def _engine_from_plan(plan: bytes, tensorrt: ModuleType, messages: Messages, path: Path, *, host_code: bool) -> Any:  # noqa: ANN401  (an ICudaEngine)
    runtime = tensorrt.Runtime(logger_for(tensorrt, messages))
    runtime.engine_host_code_allowed = host_code
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        memory = "The GPU's memory is full: free some. " if messages.is_out_of_memory else ""
        raise ModelError(f"{path} cannot be opened: {messages}\n{memory}{BUILD_AGAIN}")
    return engine


def _check_engine(engine: Any, tensorrt: ModuleType, record: EngineRecord, path: Path) -> None:  # noqa: ANN401
    """Compare what the plan itself says with its sidecar."""
    inside = metadata_from_json(engine.name)
    if not same_contract(inside, record.metadata):
        raise ContractError(f"The contract inside {path} is not the one in {sidecar_path(path).name}. {BUILD_AGAIN}")
    found = [_spec(engine, engine.get_tensor_name(index), tensorrt) for index in range(engine.num_io_tensors)]
    wanted = [_fixed(spec) for spec in (*record.metadata.inputs, *record.metadata.outputs)]
    if sorted(found) != sorted(wanted):
        raise ContractError(
            f"The engine in {path} does not fit its contract. Expected {sorted(wanted)}, found {sorted(found)}. "
            f"{BUILD_AGAIN}"
        )


def _fixed(spec: TensorSpec) -> tuple[str, str, tuple[int | str, ...]]:
    """Return what must agree between engine and contract: all but the name of the batch axis."""
    return (spec.name, spec.dtype, spec.shape[1:])


def _spec(engine: Any, name: str, tensorrt: ModuleType) -> tuple[str, str, tuple[int | str, ...]]:  # noqa: ANN401
    dtype = np.dtype(tensorrt.nptype(engine.get_tensor_dtype(name))).name
    return (name, dtype, tuple(engine.get_tensor_shape(name))[1:])


@dataclass(frozen=True)
class EngineExecutor:
    """An engine on a GPU. May be called from several threads at once."""

    metadata: ModelMetadata
    record: EngineRecord
    """What its sidecar says."""
    gpu: Gpu
    reason: str
    """Why this GPU."""
    graph: EngineGraph
    stages: Stages | None = None
    """The model in two steps, where it was exported so and reuse was asked for."""
    takes_device_arrays: ClassVar[bool] = True

    def run(self, feeds: EngineFeeds) -> Logits:
        """Return float32 logits `(batch, 5)`, for any batch size; see `EngineGraph.run`."""
        return self.graph.run(feeds)

    def describe(self) -> dict[str, Any]:
        """Return backend, device, why this device, GPU, flavour, version, profile and who captures CUDA graphs."""
        return {
            "backend": "tensorrt",
            "device": f"cuda:{self.gpu.index}",
            "reason": self.reason,
            "gpu": str(self.gpu),
            "precision": self.metadata.precision,
            "flavour": self.record.flavour,
            "tensorrt": self.record.tensorrt_version,
            "profile": str(self.record.profile),
            "cuda_graphs": self.graph.lanes.cuda_graphs,
            "contexts": self.graph.lanes.made,
        }
