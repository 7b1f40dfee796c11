"""An ONNX file becomes an engine: parse, check, build, prove. One code path for both flavours, from TensorRT 10 on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cb_export.trt import timing_cache
from cb_export.trt.choice import Choice, known_compute_capabilities
from cb_export.trt.options import EngineOptions
from cb_export.trt.precision import check_network, prove, types_of_layers
from cb_export.trt.progress import BuildProgress, monitor_for
from cb_runtime.contract import ModelMetadata, TensorSpec
from cb_runtime.errors import ModelError
from cb_runtime.files import sha256_of_file
from cb_runtime.progress import Progress, no_progress
from cb_runtime.trt.flavours import RTX, load_flavour
from cb_runtime.trt.messages import Messages, logger_for, reasons
from cb_runtime.trt.sidecar import EngineRecord, this_platform

MIB = 2**20

_LEVELS = {"none": "NONE", "same-cc": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}
"""TensorRT's names of `HARDWARE_COMPATS`."""


def engine_from_onnx(
    onnx_file: Path,
    plan_file: Path,
    metadata: ModelMetadata,
    choice: Choice,
    options: EngineOptions,
    progress: Progress = no_progress,
) -> EngineRecord:
    """Build an engine, prove its arithmetic, and write it, byte for byte as TensorRT gives it.

    Args:
        onnx_file: Its precision is the engine's.
        plan_file: The engine. Its sidecar is left to the caller.
        metadata: The contract; its compact form goes into the engine's name.
        choice: Flavour and GPUs.
        options: Batch sizes, memory, cache.
        progress: Told how far the build is.

    Returns:
        What belongs into the sidecar.

    Raises:
        ModelError: TensorRT refuses the graph, fails, runs out of memory, or would compute in another precision.
        ContractError: The metadata is too long, whatever is left out.
        UsageError: An option of the other flavour.
    """
    build = _Build(choice, options, progress)

    def prepare(network: Any) -> None:  # noqa: ANN401
        check_network(network, metadata.precision, build.tensorrt)
        _set_name(network, metadata.to_compact_json())

    plan, record = build.plan(onnx_file, (*metadata.inputs, *metadata.outputs), prepare)
    plan_file.write_bytes(memoryview(plan))
    return EngineRecord(
        plan_sha256=sha256_of_file(plan_file),
        flavour=choice.flavour.name,
        tensorrt_version=str(build.tensorrt.__version__),
        platform=this_platform(),
        compute_capabilities=choice.compute_capabilities,
        hardware_compat=options.hardware_compat,
        version_compatible=options.version_compatible,
        profile=options.profile,
        metadata=metadata,
        gpu=None if choice.gpu is None else choice.gpu.name,
        precision_proof=build.proof(plan, metadata.precision),
        build=record,
    )


def part_from_onnx(
    onnx_file: Path,
    plan_file: Path,
    tensors: Sequence[TensorSpec],
    choice: Choice,
    options: EngineOptions,
    progress: Progress = no_progress,
) -> None:
    """Build the engine of a part of a model, whose precision is its ONNX's: the network is strongly typed.

    Args:
        onnx_file: The part.
        plan_file: The engine.
        tensors: Its inputs and outputs.
        choice: Flavour and GPUs, those of the whole.
        options: Batch sizes, memory, cache.
        progress: Told how far the build is.

    Raises ModelError and UsageError as `engine_from_onnx` does.
    """
    plan, _ = _Build(choice, options, progress).plan(onnx_file, tensors, lambda network: None)
    plan_file.write_bytes(memoryview(plan))


class _Build:
    """One build: a flavour, its messages, and how to build."""

    def __init__(self, choice: Choice, options: EngineOptions, progress: Progress) -> None:
        self.tensorrt, self._messages = load_flavour(choice.flavour), Messages()
        self._choice, self._options, self._progress = choice, options, progress

    def plan(
        self,
        onnx_file: Path,
        tensors: Sequence[TensorSpec],
        prepare: Callable[[Any], None],
    ) -> tuple[Any, dict[str, Any]]:
        """Return the plan of an ONNX file, and how it was built; `prepare` is given the network before."""
        tensorrt, messages = self.tensorrt, self._messages
        cache = timing_cache.cache_file(self._options.timing_cache, self._choice, str(tensorrt.__version__))
        builder = _builder(tensorrt, messages)
        network = _network(builder, tensorrt, onnx_file, messages)
        _check_tensors(network, tensors, tensorrt)
        prepare(network)
        config = _config(builder, network, tensorrt, self._choice, self._options)
        timing_cache.attach(config, cache)
        started = time.monotonic()
        plan = _built(builder, network, config, tensorrt, messages, self._progress)
        return plan, {
            "seconds": round(time.monotonic() - started, 1),
            "flavour_reason": self._choice.reason,
            "workspace_mib": self._options.workspace_mib,
            "timing_cache": None if cache is None else timing_cache.store(config, cache) or "kept",
        }

    def proof(self, plan: Any, precision: str) -> dict[str, Any]:  # noqa: ANN401  (an IHostMemory)
        """Return what proves the plan's precision. Raises ModelError when it is another."""
        host_code = self._options.version_compatible
        return _proof(plan, self.tensorrt, self._choice, self._messages, precision, host_code=host_code)


def _builder(tensorrt: ModuleType, messages: Messages) -> Any:  # noqa: ANN401
    try:
        return tensorrt.Builder(logger_for(tensorrt, messages))
    except Exception as error:  # pybind11 tells a null pointer as TypeError
        raise ModelError(
            f"TensorRT {tensorrt.__version__} cannot build here: {messages} Standard TensorRT needs an NVIDIA GPU with "
            "a working driver (see `cb doctor`); --flavor rtx builds without one."
        ) from error


def _network(builder: Any, tensorrt: ModuleType, onnx_file: Path, messages: Messages) -> Any:  # noqa: ANN401
    """Return the parsed network, strongly typed: as 11 always is, and 10 where asked for."""
    kinds = tensorrt.NetworkDefinitionCreationFlag.__members__
    flags = 1 << int(kinds["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in kinds else 0
    network = builder.create_network(flags)
    parser = tensorrt.OnnxParser(network, logger_for(tensorrt, messages))
    if not parser.parse_from_file(str(onnx_file)):
        problems = [parser.get_error(index) for index in range(parser.num_errors)]
        told = reasons(f"{problem.node_operator()}: {problem.desc()}" for problem in problems) or str(messages)
        raise ModelError(
            f"TensorRT {tensorrt.__version__} refuses this graph:\n{told}\nReplace the operator that is named in the "
            "architecture, or export with --format onnx."
        )
    return network


def _check_tensors(network: Any, tensors: Sequence[TensorSpec], tensorrt: ModuleType) -> None:  # noqa: ANN401
    """Raise ModelError when inputs and outputs are others than these, each with a free batch axis."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    found = [_described(tensor, tensorrt) for tensor in (*inputs, *outputs)]
    wanted = [_wanted(spec) for spec in tensors]
    fixed = [name for name, _, shape in found if shape and shape[0] >= 0]
    if fixed:
        raise ModelError(
            f"The batch axis of {', '.join(fixed)} is fixed in this ONNX. Export it with a free batch axis."
        )
    if found != wanted:
        raise ModelError(f"The ONNX must have the tensors {wanted}, found {found}. Export it with this cb.")


def _described(tensor: Any, tensorrt: ModuleType) -> tuple[str, str, tuple[int, ...]]:  # noqa: ANN401
    return tensor.name, np.dtype(tensorrt.nptype(tensor.dtype)).name, tuple(tensor.shape)


def _wanted(spec: TensorSpec) -> tuple[str, str, tuple[int, ...]]:
    return spec.name, spec.dtype, tuple(-1 if isinstance(axis, str) else axis for axis in spec.shape)


def _set_name(network: Any, text: str) -> None:  # noqa: ANN401
    """Put the metadata where it becomes part of the plan. What is too long TensorRT refuses with a log line only."""
    network.name = text
    if network.name != text:
        raise ModelError(
            f"TensorRT did not take the metadata of {len(text)} bytes as the network's name, but kept "
            f"{network.name[:40]!r}. Shorten model_config."
        )


def _config(builder: Any, network: Any, tensorrt: ModuleType, choice: Choice, options: EngineOptions) -> Any:  # noqa: ANN401
    config = builder.create_builder_config()
    # On by default, and not what anybody means by fp32; float parts of narrower engines are no different.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    # Layer types are the proof of precision: the builder and the inspector tell them only then.
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.hardware_compat != "none":
        level = _LEVELS[options.hardware_compat]
        config.hardware_compatibility_level = tensorrt.HardwareCompatibilityLevel.__members__[level]
    if options.version_compatible:
        config.set_flag(tensorrt.BuilderFlag.VERSION_COMPATIBLE)
    if choice.flavour == RTX and options.compute_capabilities:
        _set_targets(config, known_compute_capabilities(tensorrt), options.compute_capabilities)
    _set_profile(builder, config, network, options)
    return config


def _set_targets(config: Any, known: dict[str, object], wanted: Sequence[str]) -> None:  # noqa: ANN401
    config.num_compute_capabilities = len(wanted)
    for index, target in enumerate(wanted):
        if not config.set_compute_capability(known[target], index):
            raise ModelError(
                f"TensorRT for RTX does not take compute capability {target} with {', '.join(wanted)}. Build one "
                "engine for each."
            )


def _set_profile(builder: Any, config: Any, network: Any, options: EngineOptions) -> None:  # noqa: ANN401
    profile, sizes = builder.create_optimization_profile(), options.profile
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        row = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, (sizes.minimum, *row), (sizes.optimum, *row), (sizes.maximum, *row))
    if config.add_optimization_profile(profile) < 0:
        raise ModelError(f"TensorRT does not take the batch sizes {sizes}. Try smaller ones with --batch MIN:OPT:MAX.")


def _built(
    builder: Any,  # noqa: ANN401
    network: Any,  # noqa: ANN401
    config: Any,  # noqa: ANN401
    tensorrt: ModuleType,
    messages: Messages,
    progress: Progress,
) -> Any:  # noqa: ANN401  (an IHostMemory)
    build = BuildProgress(progress)
    config.progress_monitor = monitor = monitor_for(tensorrt, build)
    plan = builder.build_serialized_network(network, config)
    del monitor  # it had to live until here: the configuration does not keep it
    if build.problem is not None:
        raise build.problem
    if plan is None:
        raise build_failure(messages)
    return plan


def build_failure(messages: Messages) -> ModelError:
    """Return the error of a build that gave no engine."""
    if messages.is_out_of_memory:
        return ModelError(
            f"TensorRT ran out of memory while it built the engine:\n{messages}\nFree memory on the GPU, or use a "
            "smaller maximum in --batch MIN:OPT:MAX, or a smaller --workspace."
        )
    return ModelError(
        f"TensorRT could not build the engine:\n{messages}\nTry --format onnx, or another release of TensorRT."
    )


def _proof(
    plan: Any,  # noqa: ANN401  (an IHostMemory)
    tensorrt: ModuleType,
    choice: Choice,
    messages: Messages,
    precision: str,
    *,
    host_code: bool,
) -> dict[str, Any]:
    """Prove the precision from the engine itself where it can be opened here, else from the builder's own list."""
    if choice.runs_here().ok:
        source, listing = "engine inspector", _inspected(plan, tensorrt, host_code=host_code)
        reason = None
    else:
        source, reason = "builder", "the engine cannot be opened on this machine, so no inspector can read it"
        listing = next((text for text in messages.details if text.startswith("Layers:")), "")
    types = types_of_layers(listing)
    if not types:
        reason = f"the {source} lists no layers with weights; the network that it was built from was checked"
        return {"source": None, "reason": reason, "layers": {}, "shares": {}}
    return {"source": source, "reason": reason, "layers": types, "shares": prove(types, precision)}


def _inspected(plan: Any, tensorrt: ModuleType, *, host_code: bool = False) -> str:  # noqa: ANN401
    messages = Messages()
    runtime = tensorrt.Runtime(logger_for(tensorrt, messages))
    runtime.engine_host_code_allowed = host_code  # it is what was just built
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ModelError(f"The engine that was just built cannot be opened: {messages} Nothing was published.")
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(tensorrt.LayerInformationFormat.ONELINE))
