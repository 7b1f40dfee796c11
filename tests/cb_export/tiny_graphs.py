"""Five-input ONNX graphs made by hand, in every precision: what an exporter would write, in a few milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cb_runtime.backends import METADATA_KEY
from cb_runtime.contract import IMAGE_INPUTS, OUTPUT_SPECS, ModelMetadata, graph_input_specs

TYPES = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "int8": TensorProto.FLOAT,
}
CHANNELS = 16


def tiny_graph(path: Path, precision: str = "fp32", *, batch: int | str = "batch", first: str = "Cast") -> Path:
    """Write a graph whose pictures go through a convolution in `precision`; returns its path.

    With `first="Transpose"` the pictures stay uint8 up to a transposition, which TensorRT refuses.
    """
    kind = TYPES[precision]
    weights: list = []
    nodes = [node for name in IMAGE_INPUTS for node in _branch(name, kind, precision == "int8", first, weights)]
    vectors = ["spatial_features", "font_embedding"]
    nodes += [helper.make_node("Cast", [name], [f"{name}_cast"], to=kind) for name in vectors]
    parts = [*(f"{name}_flat" for name in IMAGE_INPUTS), *(f"{name}_cast" for name in vectors)]
    nodes.append(helper.make_node("Concat", parts, ["all"], axis=1))
    nodes.append(helper.make_node("MatMul", ["all", "head"], ["low"]))
    nodes.append(helper.make_node("Cast", ["low"], ["logits"], to=TensorProto.FLOAT))
    weights.append(_weights("head", (3 * CHANNELS + 6 + 512, 5), kind))
    graph = helper.make_graph(nodes, "tiny", _inputs(batch), [_value(OUTPUT_SPECS[0], batch)], weights)
    opset = 22 if precision == "bf16" else 20
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: ModelMetadata("tiny", precision=precision, opset=opset).to_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def _branch(name, kind, quantised, first, weights):
    steps = {
        "Cast": lambda given, made: helper.make_node("Cast", [given], [made], to=kind),
        "Transpose": lambda given, made: helper.make_node("Transpose", [given], [made], perm=[0, 3, 1, 2]),
    }
    order = [first, *(step for step in steps if step != first)]
    yield steps[order[0]](name, f"{name}_a")
    yield steps[order[1]](f"{name}_a", f"{name}_b")
    weights.append(_weights(f"{name}_w", (CHANNELS, 3, 3, 3), kind))
    pictures, kernel = f"{name}_b", f"{name}_w"
    if quantised:
        weights += [
            numpy_helper.from_array(np.float32(2.0), f"{name}_s"),
            numpy_helper.from_array(np.int8(0), f"{name}_z"),
        ]
        for tensor in (pictures, kernel):
            yield helper.make_node("QuantizeLinear", [tensor, f"{name}_s", f"{name}_z"], [f"{tensor}_q"])
            yield helper.make_node("DequantizeLinear", [f"{tensor}_q", f"{name}_s", f"{name}_z"], [f"{tensor}_d"])
        pictures, kernel = f"{pictures}_d", f"{kernel}_d"
    yield helper.make_node("Conv", [pictures, kernel], [f"{name}_c"], strides=[4, 4])
    yield helper.make_node("Relu", [f"{name}_c"], [f"{name}_r"])
    yield helper.make_node("GlobalAveragePool", [f"{name}_r"], [f"{name}_p"])
    yield helper.make_node("Flatten", [f"{name}_p"], [f"{name}_flat"])


def _weights(name, shape, kind):
    values = np.random.default_rng(0).standard_normal(shape, np.float32) / 100
    return helper.make_tensor(name, kind, shape, values.ravel())


def _inputs(batch):
    return [_value(spec, batch) for spec in graph_input_specs()]


def _value(spec, batch):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, kind, [batch, *spec.shape[1:]])
