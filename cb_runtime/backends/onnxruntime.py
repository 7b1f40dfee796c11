"""The backend for `.onnx` files: ONNX Runtime on CPU, or on an NVIDIA GPU when asked for.

ONNX Runtime, asked for CUDA where it cannot have it, gives a CPU session and a log line. So here a CUDA session is
opened without the CPU provider and with every fallback switched off, its provider is compared with the one wanted, and
one inference must succeed before the session is given out. Docs: https://onnxruntime.ai/docs/execution-providers/
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import DeviceArray
from cb_runtime.backends import METADATA_KEY, Availability, Device, Feeds, Logits, OpenOptions, device_from_text
from cb_runtime.contract import ModelMetadata, TensorSpec
from cb_runtime.errors import CbError, ContractError, ModelError, UsageError, require
from cb_runtime.feeds import row_shape
from cb_runtime.installed import installed_version
from cb_runtime.onnx_artifact import DAMAGED, SUFFIX, artifact_metadata
from cb_runtime.ort_running import first_line, run_graph, run_graph_there
from cb_runtime.resident import ResidentClassifier, ResidentEncoder, RowPicker
from cb_runtime.stages import Stages, check_resident, open_stages, stages_path
from cb_runtime.steady_size import SteadySize

SUFFIXES = (SUFFIX,)
"""File name endings this backend opens."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
"""Packages that bring the module `onnxruntime`. Installed together, the CPU one wins in silence."""

_LOG_ERRORS_ONLY = 3

_PICK_ROWS = Path(__file__).with_name("pick_rows.onnx")
"""Graph of a `RowPicker`: one Gather."""

_PLANNING = "HEURISTIC"
"""How cuDNN plans a convolution: by rules, where ONNX Runtime tries out all ways by default. On an H100 plans are as
good or better, and made in a fifth of the time (`benchmarks/results/gpu/planning.txt`)."""

_CRASHING = ["FuseFp16InitializerToFp32NodeTransformer"]
"""Optimisations left out: ONNX Runtime 1.32 dies of a segmentation fault when this one, of fp16 weights on a CPU, meets
its blocked layout for convolutions, as in a vision transformer."""

_NO_CUDA = "The GPU, its driver or the CUDA and cuDNN libraries do not serve it: see `cb doctor`, or use --device cpu."


@dataclass(frozen=True)
class CpuSettings:
    """How sessions on the CPU are opened."""

    threads: int | None = None
    """Threads asked for; None where ONNX Runtime chooses."""
    spinning: bool = True
    """Idle threads look for work for a while before they sleep. Not where a model has several graphs: each has threads
    of its own, and those of one would take the cores from those of the next."""


def available() -> Availability:
    """Tell whether ONNX Runtime is installed, once only, and which providers it has."""
    if importlib.util.find_spec("onnxruntime") is None:
        return Availability(False, "onnxruntime is not installed", "pip install 'cb-toolkit[onnx]' (GPU: [gpu])")
    try:
        _refuse_two_distributions()
    except UsageError as error:
        return Availability(False, "onnxruntime and onnxruntime-gpu are both installed", str(error))
    ort = require("onnxruntime")
    return Availability(True, f"onnxruntime {ort.__version__}, providers: {', '.join(ort.get_available_providers())}")


def ways(own: str, options: OpenOptions) -> tuple[OpenOptions, ...]:
    """Return the ways in which ONNX Runtime can run an artifact as asked: the artifact's own precision, no streams.

    Args:
        own: The artifact's own precision.
        options: What was asked for.
    """
    fits = options.streams is None and options.precision in ("auto", own)
    return (replace(options, precision=own),) if fits else ()


def open_artifact(path: Path, options: OpenOptions) -> OrtExecutor:
    """Open an ONNX file on a device.

    Raises:
        ModelError: The file cannot be run here as asked.
        ContractError: It was not exported by cb, or its graph does not fit its metadata.
        UsageError: An unknown device, threads for a GPU, or two ONNX Runtime packages installed.
        MissingPackageError: ONNX Runtime is not installed.
    """
    device = device_from_text(options.device)
    if device.kind == "cuda" and options.threads is not None:
        raise UsageError(
            f"--threads is for the CPU: nothing runs there on {device}. Leave it out, or use --device cpu."
        )
    ort = require("onnxruntime")
    if device.kind != "cpu":  # which either runs as well
        _refuse_two_distributions()
    cpu = CpuSettings(options.threads, spinning=not (options.reuse and stages_path(path).exists()))
    executor = _open(ort, path, device, cpu)
    return replace(executor, stages=_open_stages(ort, path, executor)) if options.reuse else executor


def _open(ort: ModuleType, path: Path, device: Device, cpu: CpuSettings) -> OrtExecutor:
    if device.kind == "auto":
        return _open_auto(ort, path, cpu)
    if device.kind == "cuda":
        return _open_cuda(ort, path, device, "as asked")
    return _open_cpu(ort, path, cpu, "as asked")


def _refuse_two_distributions() -> None:
    if all(installed_version(name) for name in DISTRIBUTIONS):
        raise UsageError(
            "onnxruntime and onnxruntime-gpu are both installed, and the CPU one wins in silence. Keep one: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'cb-toolkit[onnx]' for the CPU or "
            "'cb-toolkit[gpu]'."
        )


def _open_auto(ort: ModuleType, path: Path, cpu: CpuSettings) -> OrtExecutor:
    if CUDA not in ort.get_available_providers():
        return _open_cpu(ort, path, cpu, "this onnxruntime has no CUDA provider")
    try:
        unused = "" if cpu.threads is None else "; --threads is for the CPU and has no effect there"
        return _open_cuda(ort, path, Device("cuda"), f"onnxruntime can use the GPU{unused}")
    except ContractError:
        raise
    except CbError as error:
        return _open_cpu(ort, path, cpu, f"the GPU was tried first: {error}")


def _open_cpu(ort: ModuleType, path: Path, cpu: CpuSettings, reason: str) -> OrtExecutor:
    session = _cpu_session(ort, path, cpu)
    return OrtExecutor(_metadata(session, path), session, "cpu", reason, cpu)


def _cpu_session(ort: ModuleType, path: Path, cpu: CpuSettings) -> Any:  # noqa: ANN401  (no types)
    settings = ort.SessionOptions()
    settings.log_severity_level = _LOG_ERRORS_ONLY
    if cpu.threads is not None:
        settings.intra_op_num_threads = cpu.threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(cpu.spinning)))
    return _session(ort, path, settings, [CPU], "cpu", DAMAGED)


def _open_cuda(ort: ModuleType, path: Path, device: Device, reason: str) -> OrtExecutor:
    if CUDA not in ort.get_available_providers():
        raise ModelError(
            f"Device {device} was asked for, but this onnxruntime {ort.__version__} has only "
            f"{', '.join(ort.get_available_providers())}. Use --device cpu, or: pip uninstall -y onnxruntime, then "
            "pip install 'cb-toolkit[gpu]'."
        )
    metadata = _metadata_before_opening(ort, path)
    if hasattr(ort, "preload_dlls"):
        # Finds the CUDA and cuDNN libraries that Python packages such as torch brought; prints what it does not find.
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()
    session = _cuda_session(ort, path, str(device), metadata.precision)
    executor = OrtExecutor(metadata, session, str(device), reason)
    executor.run({spec.name: np.zeros((1, *row_shape(spec)), spec.dtype) for spec in metadata.inputs})
    return executor


def _cuda_session(ort: ModuleType, path: Path, device: str, precision: str) -> Any:  # noqa: ANN401  (no types)
    settings = ort.SessionOptions()
    settings.log_severity_level = _LOG_ERRORS_ONLY
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # TF32 is on by default and would quietly turn fp32 into it.
    index = device_from_text(device).index
    options = {"device_id": str(index), "use_tf32": str(int(precision == "tf32")), "cudnn_conv_algo_search": _PLANNING}
    provider = (CUDA, options)
    session = _session(ort, path, settings, [provider], device, _NO_CUDA)
    if session.get_providers()[0] != CUDA:
        raise ModelError(
            f"Device {device} was asked for, but onnxruntime gave {session.get_providers()[0]}. {_NO_CUDA}"
        )
    return session


def _open_stages(ort: ModuleType, path: Path, executor: OrtExecutor) -> Stages | None:
    """Open the parts of a staged graph where, and as, the whole graph was opened."""

    def part(file: Path) -> OrtPart:
        if executor.device == "cpu":
            return OrtPart(_cpu_session(ort, file, executor.cpu), executor.device)
        return OrtPart(_cuda_session(ort, file, executor.device, executor.metadata.precision), executor.device)

    stages = open_stages(path, executor.metadata, part)
    if stages is None or executor.device == "cpu":
        return stages
    picker = RowPicker(part(_PICK_ROWS))
    stages = stages.with_resident(ResidentEncoder, lambda classifier: ResidentClassifier(classifier, picker))
    check_resident(stages, picker, path, executor.device)
    return stages


def _metadata_before_opening(ort: ModuleType, path: Path) -> ModelMetadata:
    # The precision decides how the CUDA session is opened, and only an open session tells it.
    settings = ort.SessionOptions()
    settings.log_severity_level = _LOG_ERRORS_ONLY
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _metadata(_session(ort, path, settings, [CPU], "cpu", DAMAGED), path)


def _session(ort: ModuleType, path: Path, settings: Any, providers: list[Any], device: str, hint: str) -> Any:  # noqa: ANN401  (no types)
    try:
        session = ort.InferenceSession(
            path, settings, providers=providers, disabled_optimizers=_CRASHING, enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's own errors have no common base below Exception
        raise ModelError(
            f"{path} cannot be opened by ONNX Runtime {ort.__version__} on {device}: {first_line(error)} {hint}"
        ) from error
    session.disable_fallback()
    return session


def _metadata(session: Any, path: Path) -> ModelMetadata:  # noqa: ANN401  (ONNX Runtime has no types)
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    inputs, outputs = map(_spec, session.get_inputs()), map(_spec, session.get_outputs())
    return artifact_metadata(text, tuple(inputs), tuple(outputs), path)


def _spec(node: Any) -> TensorSpec:  # noqa: ANN401  (ONNX Runtime has no types)
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return TensorSpec(node.name, dtype, tuple("?" if axis is None else axis for axis in node.shape))


def _answer(session: Any, output: str, feeds: Feeds, device: str, size: SteadySize) -> NDArray[np.float32]:  # noqa: ANN401  (no types)
    """Run a graph; on a GPU at a steady size, unless inputs lie there already, where they cannot be filled up."""

    def run(filled: Feeds) -> NDArray[np.float32]:
        return run_graph(session, output, filled, device)

    if device == "cpu" or any(isinstance(values, DeviceArray) for values in feeds.values()):
        return run(feeds)
    return size.run(feeds, run)


@dataclass(frozen=True)
class OrtPart:
    """One graph of a staged model on a device."""

    session: Any
    """`onnxruntime.InferenceSession`."""
    device: str
    """`cpu` or `cuda:N`."""
    size: SteadySize = field(default_factory=SteadySize)

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of its inputs."""
        return tuple(map(_spec, self.session.get_inputs()))

    @cached_property
    def output(self) -> TensorSpec:
        """Spec of its only output."""
        (node,) = self.session.get_outputs()
        return _spec(node)

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Return the output. Raises ModelError when the engine fails, e.g. out of memory."""
        return _answer(self.session, self.output.name, feeds, self.device, self.size)

    def kept(self, feeds: Feeds, into: DeviceArray | None = None) -> DeviceArray:
        """Return the output in the GPU's memory, in `into` where that is given. Raises what `run` raises."""
        return run_graph_there(self.session, self.output.name, feeds, self.device, into)


@dataclass(frozen=True)
class OrtExecutor:
    """An ONNX model on a device."""

    metadata: ModelMetadata
    session: Any
    """`onnxruntime.InferenceSession`."""
    device: str
    """`cpu` or `cuda:N`."""
    reason: str
    """Why this device."""
    cpu: CpuSettings = CpuSettings()
    """How it was opened on the CPU."""
    stages: Stages | None = None
    """The model in two steps, where it was exported so and reuse was asked for."""
    size: SteadySize = field(default_factory=SteadySize)

    @property
    def takes_device_arrays(self) -> bool:
        """Whether `run` takes arrays in the GPU's memory."""
        return self.device != "cpu"

    def run(self, feeds: Feeds) -> Logits:
        """Return float32 logits `(batch, 5)`. Raises ModelError when the engine fails, e.g. out of memory."""
        return _answer(self.session, self.metadata.outputs[0].name, feeds, self.device, self.size)

    def describe(self) -> dict[str, Any]:
        """Return backend, device, why this device, provider, ONNX Runtime's version and threads."""
        return {
            "backend": "onnxruntime",
            "device": self.device,
            "reason": self.reason,
            "provider": self.session.get_providers()[0],
            "precision": self.metadata.precision,
            "onnxruntime": require("onnxruntime").__version__,
            "threads": self.cpu.threads,
        }
