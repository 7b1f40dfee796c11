"""A second backend for `.onnx` files: OpenVINO, on CPUs.

OpenVINO takes bf16 by itself where the CPU has it, and quietly stays with float32 where bf16 is asked of a CPU without.
So the precision is always set, only one that the CPU computes natively is asked for, and what the compiled model then
says is compared with it. Docs: https://docs.openvino.ai/

Each stream is a compiled model of its own. One that OpenVINO makes with several streams prepares its weights once for
all of them, while they are compiled side by side, and gets them wrong, not every time (2026.4, int8 of a
ResNet-50; https://github.com/openvinotoolkit/openvino/pull/25597 tells of the same in an earlier release).
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import METADATA_KEY, Availability, Feeds, Logits, OpenOptions, device_from_text
from cb_runtime.contract import BATCH_AXIS, ModelMetadata, TensorSpec
from cb_runtime.cores import usable_cores
from cb_runtime.errors import ModelError, UsageError, require
from cb_runtime.onnx_artifact import DAMAGED, EXPORT_AGAIN, SUFFIX, artifact_metadata
from cb_runtime.stages import Stages, open_stages

SUFFIXES = (SUFFIX,)
"""File name endings this backend opens."""

DISTRIBUTIONS = ("openvino",)
"""Packages that bring the module `openvino`."""

_CPU = "CPU"
_METADATA = ["framework", METADATA_KEY]
"""Where OpenVINO keeps an ONNX file's `metadata_props`."""

_HINTS = {"fp32": "f32", "tf32": "f32", "int8": "f32", "bf16": "bf16", "fp16": "f16"}
"""Arithmetic of floating-point numbers by the precision of an artifact; an int8 one says itself what is not (Q/DQ)."""
_CAPABILITIES = {"bf16": "BF16", "f16": "FP16"}
"""What `OPTIMIZATION_CAPABILITIES` of a CPU name where it computes such arithmetic natively."""

Settings = Mapping[str, Any]
"""Properties that a model is compiled with."""


def available() -> Availability:
    """Tell whether OpenVINO is installed, and what this CPU computes natively."""
    if importlib.util.find_spec("openvino") is None:
        return Availability(False, "openvino is not installed", "pip install 'cb-toolkit[openvino]'")
    core = _core()
    return Availability(True, f"openvino {_version()}, {_cpu_name(core)} computes {', '.join(capabilities(core))}")


def _core() -> Any:  # noqa: ANN401  (see `_model`)
    """Return the Core that everything in this process shares. Raises MissingPackageError without OpenVINO."""
    return _kept(require("openvino").Core)


@cache
def _kept(make: Callable[[], Any]) -> Any:  # noqa: ANN401  (see `_model`)
    """Return what a constructor makes, once, and keep it as long as the process lives.

    A Core's CPU plugin gives the thread that first compiles another stack for signals (`sigaltstack`), and unmaps it
    when the Core is destroyed, by whichever thread: that may be one that collects garbage. The first thread then dies
    of the next signal that has a handler, with the process and without a word (OpenVINO 2026.4,
    https://github.com/openvinotoolkit/openvino/pull/11894).
    """
    return make()


def capabilities(core: Any) -> tuple[str, ...]:  # noqa: ANN401  (see `_model`)
    """Return the arithmetic that this CPU computes natively, e.g. `FP32`, `BF16`, `INT8`."""
    return tuple(name for name in core.get_property(_CPU, "OPTIMIZATION_CAPABILITIES") if name != "EXPORT_IMPORT")


def ways(own: str, options: OpenOptions) -> tuple[OpenOptions, ...]:
    """Return the ways in which OpenVINO can run an artifact as asked, the plainest first.

    Args:
        own: The artifact's own precision.
        options: What was asked for.
    """
    if device_from_text(options.device).kind == "cuda":
        return ()
    arithmetic = [name for name in precisions(own) if options.precision in ("auto", name)]
    cores = options.threads or usable_cores()
    counts = [count for count in sorted({1, 2, cores // 2}) if 1 <= count <= cores]
    streams = counts if options.streams is None else [options.streams]
    return tuple(replace(options, precision=name, streams=count) for name in arithmetic for count in streams)


def precisions(own: str) -> tuple[str, ...]:
    """Return the precisions in which OpenVINO runs an artifact on this CPU, the artifact's own first.

    A float32 artifact also runs in bf16 where the CPU computes that natively.
    """
    lower = own == "fp32" and _CAPABILITIES["bf16"] in capabilities(_core())
    return (own, "bf16") if lower else (own,)


def open_artifact(path: Path, options: OpenOptions) -> OpenVinoExecutor:
    """Open an ONNX file on the CPU.

    Raises:
        ModelError: The file cannot be run here as asked.
        ContractError: It was not exported by cb, or its graph does not fit its metadata.
        UsageError: A precision that the artifact does not have, or more streams than threads.
        MissingPackageError: OpenVINO is not installed.
    """
    device = device_from_text(options.device)
    if device.kind == "cuda":
        raise ModelError(
            f"Device {device} was asked for, and OpenVINO runs on the CPU. Use --backend onnxruntime, or --device cpu."
        )
    core = _core()
    model = _model(core, path)
    metadata = _metadata(model, path)
    settings, streams = _settings(core, metadata.precision, options), options.streams or 1
    reason = "as asked" if device.kind == "cpu" else "OpenVINO runs on the CPU"

    def part(file: Path, read: Any = None) -> OpenVinoPart:  # noqa: ANN401  (see `_model`)
        graph = read or _model(core, file)
        return OpenVinoPart(graph, streams, partial(_compiled, core, graph, settings, file))

    compiled: list[OpenVinoPart] = []

    def compiled_part(file: Path) -> OpenVinoPart:
        compiled.append(part(file))
        _ = compiled[-1].lanes
        return compiled[-1]

    # Of a staged model the whole graph is compiled when it is first run: videos never need it.
    graph, stages = part(path, model), open_stages(path, metadata, compiled_part) if options.reuse else None
    precision = _precision(metadata.precision, options)
    return OpenVinoExecutor(metadata, graph, (compiled or [graph])[0], precision, reason, stages)


def _precision(own: str, options: OpenOptions) -> str:
    return own if options.precision == "auto" else options.precision


def _settings(core: Any, own: str, options: OpenOptions) -> Settings:  # noqa: ANN401  (see `_model`)
    wanted = _precision(own, options)
    if wanted not in (own, "bf16" if own == "fp32" else own):
        raise UsageError(
            f"--precision {wanted} cannot be had of an artifact in {own} by OpenVINO: it runs one as it is, and a "
            f"float32 one in bf16 too. {EXPORT_AGAIN} --precision {wanted}"
        )
    hint, native = _HINTS[wanted], capabilities(core)
    if _CAPABILITIES.get(hint, "FP32") not in native:
        if wanted != own:
            raise ModelError(
                f"--precision {wanted} was asked for, but this CPU ({_cpu_name(core)}) does not compute it natively, "
                f"only {', '.join(native)}. Use --precision {own}, or export the model in int8."
            )
        hint = "f32"  # half-precision numbers, computed in float32: exact, as ONNX Runtime does it too
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": 1,
        # Other threads decode and prepare at the same time, other processes may run models: the system places them.
        "ENABLE_CPU_PINNING": False,
    }
    threads = _threads_of_a_stream(options)
    return settings if threads is None else {**settings, "INFERENCE_NUM_THREADS": threads}


def _threads_of_a_stream(options: OpenOptions) -> int | None:
    """Return how many threads a stream computes with; None where OpenVINO chooses."""
    if options.streams in (None, 1):
        return options.threads
    threads = options.threads or usable_cores()
    if options.streams > threads:
        raise UsageError(
            f"--streams {options.streams} cannot be had of {threads} threads: each stream takes one or more. Ask for "
            "fewer streams, or more --threads."
        )
    return threads // options.streams


def _cpu_name(core: Any) -> str:  # noqa: ANN401  (see `_model`)
    return str(core.get_property(_CPU, "FULL_DEVICE_NAME")).strip()


def _version() -> str:
    # The release alone, e.g. 2026.4.1: after it stand build number, commit and branch.
    return str(require("openvino").__version__).partition("-")[0]


def _model(core: Any, path: Path) -> Any:  # noqa: ANN401  (openvino is imported when it is first used)
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise ModelError(f"{path} cannot be read by OpenVINO {_version()}: {_cause(error)} {DAMAGED}") from error
    _shape_biases(model)
    return model


def _shape_biases(model: Any) -> None:  # noqa: ANN401  (see `_model`)
    """Give the biases of convolutions their shape at once, in place, so that int8 is computed rightly.

    OpenVINO (2026.4) reads from a convolution's result, by a ShapeOf, to how many axes its bias has to be brought.
    Where the graph uses the batch size as a number, as pooling to 1 x 1 and `expand` make it, that ShapeOf stays and
    becomes where the batch size is read. With two readers the convolution is not joined with its bias; the CPU plugin
    joins that with the FakeQuantize behind it, and adds the first channel's bias to all channels.
    """
    for node in model.get_ops():
        if node.get_type_name() != "Reshape" or not node.get_output_partial_shape(0).is_static:
            continue
        bias, shape = (node.input_value(at).get_node() for at in range(2))
        given = (bias.get_type_name(), shape.get_type_name(), node.get_output_element_type(0).get_type_name())
        if given[0] == "Constant" and given[1] != "Constant" and given[2] == "f32":
            values = bias.data.reshape(tuple(node.get_output_shape(0)))
            node.output(0).replace(require("openvino.opset13").constant(values).output(0))


def _compiled(core: Any, model: Any, settings: Settings, path: Path) -> Any:  # noqa: ANN401  (see `_model`)
    """Compile a model. Raises ModelError when it cannot be, or is not computed in the precision that was set."""
    try:
        compiled = core.compile_model(model, _CPU, dict(settings))
    except RuntimeError as error:
        raise ModelError(f"{path} cannot be compiled by OpenVINO {_version()}: {_cause(error)} {DAMAGED}") from error
    hint, wanted = compiled.get_property("INFERENCE_PRECISION_HINT").to_string(), settings["INFERENCE_PRECISION_HINT"]
    if hint != wanted:
        raise ModelError(f"OpenVINO was told to compute {path} in {wanted} and took {hint}. Use --backend onnxruntime.")
    return compiled


def _cause(error: RuntimeError) -> str:
    """Return what OpenVINO complains about, without the places of its source that stand before it."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = next((line for line in lines if line and not line.startswith("Exception from")), type(error).__name__)
    return said if said.endswith(".") else f"{said}."


def _metadata(model: Any, path: Path) -> ModelMetadata:  # noqa: ANN401  (see `_model`)
    text = str(model.get_rt_info(_METADATA).value) if model.has_rt_info(_METADATA) else None
    return artifact_metadata(text, tuple(map(_spec, model.inputs)), tuple(map(_spec, model.outputs)), path)


def _spec(port: Any) -> TensorSpec:  # noqa: ANN401  (see `_model`)
    # OpenVINO forgets the names of axes: the first one that is free is the batch.
    sizes = [axis.get_length() if axis.is_static else "?" for axis in port.partial_shape]
    axes = tuple(BATCH_AXIS if at == 0 and size == "?" else size for at, size in enumerate(sizes))
    return TensorSpec(port.get_any_name(), port.get_element_type().to_dtype().name, axes)


@dataclass(frozen=True)
class Lane:
    """A graph as one stream computes it."""

    compiled: Any
    """`openvino.CompiledModel`, of one stream."""
    _idle: deque[Any] = field(default_factory=deque)
    """Infer requests that no call uses; popping and appending is safe among threads."""

    @contextmanager
    def request(self) -> Iterator[Any]:
        """Lend an infer request; a new one is made where none is idle. One that fails is not lent again."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        yield request
        self._idle.append(request)


@dataclass(frozen=True)
class OpenVinoPart:
    """One graph, compiled when it is first used. Calls may overlap: each has infer requests of its own."""

    model: Any
    """`openvino.Model`."""
    streams: int
    """How many requests are computed at once."""
    compile: Callable[[], Any]
    """Returns its `openvino.CompiledModel`, a new one each time."""
    _calls: Iterator[int] = field(default_factory=count, repr=False, compare=False)
    """Numbers calls, so that those that take fewer lanes than there are take turns."""

    @cached_property
    def lanes(self) -> tuple[Lane, ...]:
        """One for each stream. Raises what `open_artifact` raises of a graph that cannot be had as asked."""
        return tuple(Lane(self.compile()) for _ in range(self.streams))

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of its inputs."""
        return tuple(map(_spec, self.model.inputs))

    @cached_property
    def output(self) -> TensorSpec:
        """Spec of its only output."""
        (port,) = self.model.outputs
        return _spec(port)

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Return the output, in memory of its own; a batch is cut into one piece per stream.

        Raises ModelError when the engine fails, e.g. out of memory.
        """
        batch = len(next(iter(feeds.values())))
        try:
            with ExitStack() as lent:
                requests = [lent.enter_context(lane.request()) for lane in self._turn(min(self.streams, batch))]
                return self._answer(requests, feeds, batch)
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO failed on cpu at batch {batch}: {_cause(error)} When memory is short, try a smaller --batch."
            ) from error

    def _turn(self, wanted: int) -> list[Lane]:
        first = next(self._calls)
        return [self.lanes[(first + number) % self.streams] for number in range(wanted)]

    def _answer(self, requests: list[Any], feeds: Feeds, batch: int) -> NDArray[np.float32]:
        edges = [batch * piece // len(requests) for piece in range(len(requests) + 1)]
        for request, (start, stop) in zip(requests, pairwise(edges), strict=True):
            request.start_async({name: array[start:stop] for name, array in feeds.items()}, share_inputs=True)
        for request in requests:
            request.wait()
        return np.concatenate([request.get_output_tensor(0).data for request in requests])


@dataclass(frozen=True)
class OpenVinoExecutor:
    """An ONNX model on the CPU."""

    metadata: ModelMetadata
    graph: OpenVinoPart
    opened: OpenVinoPart
    """One of its graphs, or of its stages', that was compiled: it tells how all are."""
    precision: str
    """The artifact's own, or bf16."""
    reason: str
    """Why the CPU."""
    stages: Stages | None = None
    """The model in two steps, where it was exported so and reuse was asked for."""

    def run(self, feeds: Feeds) -> Logits:
        """Return float32 logits `(batch, 5)`. Raises ModelError when the engine fails, e.g. out of memory."""
        return self.graph.run(feeds)

    def describe(self) -> dict[str, Any]:
        """Return backend, device, why this device, precision, OpenVINO's version, threads and streams."""
        compiled = [lane.compiled for lane in self.opened.lanes]
        return {
            "backend": "openvino",
            "device": "cpu",
            "reason": self.reason,
            "precision": self.precision,
            "float_arithmetic": compiled[0].get_property("INFERENCE_PRECISION_HINT").to_string(),
            "openvino": _version(),
            "threads": sum(one.get_property("INFERENCE_NUM_THREADS") for one in compiled),
            "streams": self.opened.streams,
        }
