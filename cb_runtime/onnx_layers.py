"""Metadata of an ONNX file, and in which arithmetic its layers compute, read without the `onnx` package.

An ONNX file is one protobuf message (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); the wire format is simple
enough to pick out nodes and the types and sizes of weights, and to skip all else. A layer's arithmetic is the type of
its weights, followed back through what only casts, scales or reshapes them. It is int8 where both its inputs were
quantised: weights that are merely stored as int8 are computed in float.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cb_runtime.errors import ModelError

TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    21: "uint4",
    22: "int4",
}
"""Numbers of `TensorProto.DataType`, by name."""

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators in which nearly all arithmetic is; without weights (attention) one is no layer here."""

_PASSING = ("Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Cast", "DequantizeLinear", "QuantizeLinear")
_QUANTISED = ("int8", "uint8", "int4", "uint4")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class LayerShare:
    """The layers with weights that compute in one type."""

    layers: int
    layer_share: float
    """Of all layers with weights, in [0, 1]."""
    weights: int
    """Numbers that are their weights, biases left out."""
    weight_share: float
    """Of the weights of all layers, in [0, 1]."""


@dataclass(frozen=True)
class _Tensor:
    type: str
    size: int
    """How many numbers it holds."""


@dataclass
class _Node:
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    to: str | None = None
    """Type that a Cast gives."""
    constant: _Tensor | None = None
    """What a Constant holds."""


@dataclass
class _Graph:
    makers: dict[str, _Node] = field(default_factory=dict)
    """The node that makes each tensor."""
    weights: dict[str, _Tensor] = field(default_factory=dict)
    nodes: list[_Node] = field(default_factory=list)


def layers_of_onnx(path: Path) -> dict[str, LayerShare]:
    """Return the layers with weights of an ONNX file by the type they compute in.

    Raises ModelError when the file is cut short, or is no ONNX.
    """
    try:
        with path.open("rb") as file:
            # Not closed by hand: pieces of it live until the last of them is looked at.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return layers_of_bytes(memoryview(content))
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path} cannot be read as ONNX ({error}). It is cut short, or another file.") from error


def properties_of_onnx(path: Path) -> dict[str, str]:
    """Return the `metadata_props` of an ONNX file. Raises ModelError when it is cut short, or is no ONNX."""
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return dict(_entry(value) for number, value in _fields(content) if number == 14)  # ModelProto.metadata_props
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path} cannot be read as ONNX ({error}). It is cut short, or another file.") from error


def layers_of_bytes(content: memoryview | bytes) -> dict[str, LayerShare]:
    """Return the layers of an ONNX file's content. Raises ValueError or IndexError when it is none."""
    graph = _graph(memoryview(content))
    found: dict[str, list[int]] = {}
    for node in graph.nodes:
        kind = _arithmetic(node, graph) if node.operator in WEIGHTED else None
        if kind is not None:
            found.setdefault(kind[0], []).append(kind[1])
    return _shares(found)


def _shares(found: Mapping[str, list[int]]) -> dict[str, LayerShare]:
    layers, weights = sum(map(len, found.values())), sum(map(sum, found.values()))
    return {
        name: LayerShare(len(sizes), len(sizes) / layers, sum(sizes), sum(sizes) / weights)
        for name, sizes in sorted(found.items(), key=lambda entry: -sum(entry[1]))
    }


def _arithmetic(node: _Node, graph: _Graph) -> tuple[str, int] | None:
    """Return the type a layer computes in and the number of its weights; None where it has none."""
    traced = [_trace(name, graph) for name in node.inputs[:2]]
    weights = next((tensor for tensor, _, _ in traced if tensor is not None), None)
    if weights is None:
        return None
    if all(dequantised for _, _, dequantised in traced):
        return (weights.type, weights.size)
    kind = next(kind or tensor.type for tensor, kind, _ in traced if tensor is not None)
    return ("float32" if kind in _QUANTISED else kind, weights.size)


def _trace(name: str, graph: _Graph) -> tuple[_Tensor | None, str | None, bool]:
    """Follow a tensor back: the weights it is made of, the type they are cast to, whether it is dequantised."""
    cast, dequantised = None, False
    while True:
        node = graph.makers.get(name)
        tensor = graph.weights.get(name) or (node.constant if node else None)
        if tensor is not None or node is None or node.operator not in _PASSING:
            return tensor, cast, dequantised
        dequantised |= node.operator == "DequantizeLinear"
        cast = cast or node.to
        name = node.inputs[0]


def _graph(model: memoryview) -> _Graph:
    graph = _Graph()
    for number, value in _fields(_only(model, 7)):  # ModelProto.graph
        if number == 1 and isinstance(value, memoryview):  # GraphProto.node
            node = _node(value)
            graph.nodes.append(node)
            graph.makers |= dict.fromkeys(node.outputs, node)
        elif number == 5 and isinstance(value, memoryview):  # GraphProto.initializer
            name, tensor = _tensor(value)
            graph.weights[name] = tensor
    return graph


def _only(message: memoryview, wanted: int) -> memoryview:
    # All fields are looked at, so that a file cut short anywhere is noticed.
    found = [value for number, value in _fields(message) if number == wanted]
    if len(found) != 1 or not isinstance(found[0], memoryview):
        raise ValueError("it has no graph")
    return found[0]


def _node(message: memoryview) -> _Node:
    node = _Node()
    for number, value in _fields(message):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 4:
            node.operator = _text(value)
        elif number == 5:
            _read_attribute(value, node)
    return node


def _read_attribute(message: memoryview, node: _Node) -> None:
    values = dict(_fields(message))
    name, number, tensor = values.get(1), values.get(3), values.get(5)  # AttributeProto: name, i, t
    words = _text(name) if isinstance(name, memoryview) else ""
    if words == "to" and isinstance(number, int):
        node.to = TYPES.get(number, f"type {number}")
    elif words == "value" and isinstance(tensor, memoryview):
        node.constant = _tensor(tensor)[1]


def _tensor(message: memoryview) -> tuple[str, _Tensor]:
    name, kind, axes = "", 0, []
    for number, value in _fields(message):
        if number == 1:  # TensorProto.dims, one by one or packed
            axes += [value] if isinstance(value, int) else _packed(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and isinstance(value, memoryview):
            name = _text(value)
    return name, _Tensor(TYPES.get(kind, f"type {kind}"), math.prod(axes))


def _packed(values: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(values):
        number, at = _varint(values, at)
        numbers.append(number)
    return numbers


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Give number and value of each field: whole numbers and pieces of bytes; raises ValueError for what is none."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"field of kind {kind} at byte {at}")
        if at + size > len(message):
            raise ValueError("a field is longer than what holds it")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _entry(value: int | memoryview) -> tuple[str, str]:
    """Read a StringStringEntryProto: key and value."""
    fields = dict(_fields(value)) if isinstance(value, memoryview) else {}
    texts = [_text(one) for one in (fields.get(1), fields.get(2)) if isinstance(one, memoryview)]
    if len(texts) != 2:
        raise ValueError("an entry of the metadata without a key or a value")
    return texts[0], texts[1]


def _text(value: memoryview) -> str:
    return bytes(value).decode()
