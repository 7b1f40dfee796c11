"""int8: QuantizeLinear and DequantizeLinear around convolutions and matrix products of an ONNX graph.

Ranges of activations come from ONNX Runtime's calibrator. The pairs are placed here, because one file has to serve
three engines: TensorRT refuses zero points and quantised biases, so all is symmetric int8 and biases stay float; ONNX
Runtime on x86 takes the integer kernel only where each QuantizeLinear has one reader and the result is quantised too,
and many a processor clips its sums unless weights keep to 7 bits; OpenVINO must find no concatenation before what is
quantised. The classifier's head, whose tensors are vectors, stays in float.
"""

from __future__ import annotations

import ast
import contextlib
import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cb_export.modules import is_inside
from cb_runtime.errors import UsageError, require

PERCENTILE = 99.999
"""Share of an activation's values, in percent, that its int8 range covers: the rest is clipped."""

BATCH = 8
"""Calibration samples that run together; a constant, because histograms cannot be merged over several sizes."""

LARGEST = 127
"""Largest integer of activations; -128 is not used, so that zero is in the middle."""

LARGEST_WEIGHT = 64
"""Largest integer of weights. x86 without VNNI adds two products of an activation, shifted to 0 .. 255, and a weight in
16 bits and clips the sum (VPMADDUBSW): with weights up to 127 ONNX Runtime and OpenVINO are off there by several times
what rounding to int8 costs. 2 * 255 * 64 fits."""

_RANGED = ("Conv", "MatMul", "Relu")
"""Operators whose tensors are looked at."""

_WEIGHT_AXIS = {"Conv": 0, "MatMul": 1}
"""Axis of the output channels in the weights of each quantised operator."""

_RESHAPING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice")
"""Operators whose result has its input's values."""

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Under which the exporter notes the modules that a node stands in, outermost first, then its operation."""

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Calibrated:
    """A float32 graph whose activations' ranges are known: ready to be quantised, whole or but for some modules."""

    model: onnx.ModelProto
    """BatchNorm folded, weights inside."""
    ranges: Mapping[str, float]
    """Largest absolute value of each activation that matters."""
    modules: Mapping[str, str]
    """Node that can be quantised to the module it belongs to; see `modules_of_nodes`."""

    def quantized(self, keep_float: Sequence[str] = ()) -> onnx.ModelProto:
        """Return a copy with int8 arithmetic, but for modules that are named and what is inside them."""
        chosen = {node for node, module in self.modules.items() if not is_inside(module, keep_float)}
        return _Insertion(self.model, self.ranges).apply(chosen)


def calibrate(model: onnx.ModelProto, samples: Feeds, modules: Mapping[str, str] | None = None) -> Calibrated | None:
    """Find the ranges of a graph's activations on some inputs.

    Args:
        model: A float32 graph, BatchNorm folded, weights inside.
        samples: The graph's inputs, first axis the sample; at least `BATCH` of them.
        modules: `modules_of_nodes` of it; nodes that it lacks belong to the module `""`.

    Returns:
        None for a graph with nothing to quantise, such as a head.

    Raises:
        UsageError: Too few samples.
        MissingPackageError: ONNX Runtime is not installed.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    known = modules or {}
    chosen = {node.name: known.get(node.name, "") for node in _quantizable(inferred.graph)}
    return Calibrated(inferred, _ranges(inferred, samples), chosen) if chosen else None


def modules_of_nodes(model: onnx.ModelProto) -> dict[str, str]:
    """Return which module of the architecture each node was traced from, before `strip_traces` removes that."""
    found = {}
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        path = "".join(ast.literal_eval(scopes)[-2:-1])  # the last is the operation
        found[node.name] = path.removeprefix("deployed.").removeprefix("architecture").removeprefix(".")
    return found


def _quantizable(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    weights = {tensor.name for tensor in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.input)}
    makers = {name: node for node in graph.node for name in node.output}
    return [
        node
        for node in graph.node
        if node.op_type in _WEIGHT_AXIS
        and node.input[1] in weights
        and ranks.get(node.input[0], 0) > 2  # vectors are the head's
        and not _is_concatenated(node.input[0], makers)
    ]


def _is_concatenated(name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Tell whether a tensor is a concatenation, perhaps in another shape.

    OpenVINO (2025.4 and 2026.4, on x86) computes wrongly what quantised operators make of those: decisions are lost
    that ONNX Runtime keeps with the same file.
    """
    while name in makers and makers[name].op_type in _RESHAPING:
        name = makers[name].input[0]
    return name in makers and makers[name].op_type == "Concat"


def _ranges(model: onnx.ModelProto, samples: Feeds) -> dict[str, float]:
    """Return the largest absolute value of each activation that matters."""
    require("onnxruntime")
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    batches = list(_batches(samples))
    if not batches:
        raise UsageError(f"int8 needs at least {BATCH} calibration samples. Use golden samples of more pairs.")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator: Any = create_calibrator(
            path,
            list(_RANGED),
            str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE, "symmetric": True},
        )
        for batch in batches:  # one after another: the calibrator keeps all activations of what it is given at once
            calibrator.collect_data(_Once(batch))
        found = calibrator.compute_data()
        ranges = {name: data.range_value for name, data in found.items()}
    return {name: max(float(np.max(np.abs(value))) for value in pair) for name, pair in ranges.items()}


def _batches(samples: Feeds) -> Iterator[dict[str, NDArray[Any]]]:
    count = len(next(iter(samples.values())))
    for start in range(0, count - BATCH + 1, BATCH):
        yield {name: values[start : start + BATCH] for name, values in samples.items()}


class _Once:
    """One batch, as ONNX Runtime's calibrator takes data."""

    def __init__(self, batch: Feeds) -> None:
        self._batch: Feeds | None = batch

    def get_next(self) -> Feeds | None:
        """Return the batch, then None."""
        batch, self._batch = self._batch, None
        return batch


class _Insertion:
    """Writes the pairs into a copy of a graph."""

    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, float]) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self.ranges = ranges
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.quantised: Counter[str] = Counter()
        self.constants: set[str] = set()

    def apply(self, chosen: set[str]) -> onnx.ModelProto:
        """Return the graph with the named nodes in int8."""
        self._constant("int8_zero", np.int8(0))
        nodes: list[onnx.NodeProto] = []
        for node in list(self.graph.node):
            nodes += self._around(node) if node.name in chosen else [node]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        read = {name for node in self.graph.node for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        return self.model

    def _around(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        taken, given = node.input[0], node.output[0]
        inner = onnx.NodeProto()
        inner.CopyFrom(node)
        inner.input[0], inner.input[1], inner.output[0] = f"{node.name}_in", f"{node.name}_weight", f"{node.name}_float"
        return [
            *self._pair(taken, inner.input[0], self._input_scale(taken)),
            self._weight(node, inner.input[1]),
            inner,
            *self._pair(inner.output[0], given, self._scale(self._after(given))),
        ]

    def _input_scale(self, name: str) -> np.float32:
        scale = self._scale(name)
        # Readers of one tensor get scales that differ in the last bit. ONNX Runtime merges equal pairs, and where one
        # QuantizeLinear has two readers it computes in float.
        for _ in range(self.quantised[name]):
            scale = np.nextafter(scale, np.float32(np.inf))
        self.quantised[name] += 1
        return scale

    def _after(self, name: str) -> str:
        """Return the tensor behind a ReLU: with its range the pair before it changes nothing but negative values."""
        readers = self.readers.get(name, [])
        return readers[0].output[0] if len(readers) == 1 and readers[0].op_type == "Relu" else name

    def _scale(self, name: str) -> np.float32:
        return np.float32(self.ranges[name] / LARGEST or 1.0)

    def _pair(self, before: str, after: str, scale: np.float32) -> list[onnx.NodeProto]:
        constants = [self._constant(f"{after}_scale", scale), "int8_zero"]
        quantised = f"{after}_int8"
        return [
            helper.make_node("QuantizeLinear", [before, *constants], [quantised], name=f"{after}_quantize"),
            helper.make_node("DequantizeLinear", [quantised, *constants], [after], name=f"{after}_dequantize"),
        ]

    def _weight(self, node: onnx.NodeProto, name: str) -> onnx.NodeProto:
        given, axis = node.input[1], _WEIGHT_AXIS[node.op_type]
        # Under names of the weight, not the node: nodes that share a weight share its integers.
        inputs = [f"{given}_int8", f"{given}_scale", f"{given}_zero"]
        if inputs[0] not in self.constants:
            scales, integers = quantized_weight(numpy_helper.to_array(self.weights[given]), axis)
            for constant, value in zip(inputs, (integers, scales, np.zeros(len(scales), np.int8)), strict=True):
                self._constant(constant, value)
        return helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_dequantize", axis=axis)

    def _constant(self, name: str, value: Any) -> str:  # noqa: ANN401  (any NumPy array or number)
        self.constants.add(name)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def quantized_weight(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return a scale for each output channel, and the weights as integers, symmetric around zero."""
    others = tuple(index for index in range(values.ndim) if index != axis)
    scales = (np.abs(values).max(axis=others, keepdims=True) / LARGEST_WEIGHT).astype(np.float32)
    scales[scales == 0] = 1
    integers = np.clip(np.rint(values / scales), -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8)
    return scales.reshape(-1), integers
