"""The backend for `.engine` files: TensorRT and TensorRT for RTX, on NVIDIA GPUs, without PyTorch.

A plan is executable code, so it is opened only when its SHA-256 is the one in its sidecar, never with host code, and
only by the release and on a GPU that it was built for: everything else is an error that says what to do. An engine
that was built for later releases too brings host code, and only such a one may run it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from cb_runtime.arrays import DeviceArray
from cb_runtime.backends import Availability, Device, Logits, OpenOptions, device_from_text
from cb_runtime.contract import ModelMetadata, TensorSpec, metadata_from_json
from cb_runtime.errors import EXTRA_OF_MODULE, CbError, ContractError, ModelError, UsageError
from cb_runtime.gpus import Gpu, list_gpus
from cb_runtime.trt.cuda import Cuda, cuda_runtime
from cb_runtime.trt.flavours import FLAVOURS, Flavour, flavour_version, load_flavour
from cb_runtime.trt.lanes import EngineFeeds, Lane, Lanes
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
        ContractError: The sidecar cannot be read, or plan and contract differ.
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
    cuda, messages = Cuda(api, gpu.index), Messages()
    cuda.use()
    engine = _engine_from_plan(plan, tensorrt, messages, path, host_code=record.version_compatible)
    _check_engine(engine, tensorrt, record, path)
    specs = (record.metadata.inputs, record.metadata.outputs[0])
    lanes = Lanes(engine, tensorrt, cuda, specs, messages)
    return EngineExecutor(record.metadata, record, gpu, reason, cuda, lanes)


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
    cuda: Cuda
    lanes: Lanes
    takes_device_arrays: ClassVar[bool] = True

    def run(self, feeds: EngineFeeds) -> Logits:
        """Return float32 logits `(batch, 5)`, for any batch size.

        More pairs than the engine's largest batch run in several, whose copies and arithmetic overlap; fewer than its
        smallest are filled up. Arrays in the GPU's memory are read there. Raises ContractError for those of another
        GPU, ModelError when CUDA or TensorRT fails, e.g. out of memory.
        """
        self._check_place(feeds)
        self.cuda.use()
        batch = len(next(iter(feeds.values())))
        largest, smallest = self.record.profile.maximum, self.record.profile.minimum
        starts = range(0, batch, largest)
        answers: list[Logits] = []
        with self.lanes.borrow(min(2, len(starts)), max(smallest, min(batch, largest))) as free:
            busy: deque[tuple[Lane, int]] = deque()
            for start in starts:
                if not free:
                    answers.append(_collect(busy, free))
                rows = min(largest, batch - start)
                lane = free.pop()
                busy.append((lane, rows))
                part = {name: values[start : start + rows] for name, values in feeds.items()}
                lane.submit(part, max(rows, smallest))
            while busy:
                answers.append(_collect(busy, free))
        return np.concatenate(answers)

    def _check_place(self, feeds: EngineFeeds) -> None:
        for name, values in feeds.items():
            if isinstance(values, DeviceArray) and values.device != self.gpu.index:
                raise ContractError(
                    f"Input '{name}' lies on cuda:{values.device}, and the engine runs on cuda:{self.gpu.index}. Copy "
                    f"it there, or open the engine with device='cuda:{values.device}'."
                )

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
            "cuda_graphs": self.lanes.cuda_graphs,
            "contexts": self.lanes.made,
        }


def _collect(busy: deque[tuple[Lane, int]], free: list[Lane]) -> Logits:
    lane, rows = busy.popleft()
    answer = lane.collect(rows)
    free.append(lane)
    return answer
