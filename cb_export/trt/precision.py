"""Is the arithmetic of an engine what was asked for? Read from the network, and from the layers that were compiled.

A strongly typed network computes in the types its ONNX has. The network is checked before the build, which may take
minutes; the compiled layers, listed by the builder or by the engine inspector, are the proof.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from cb_runtime.errors import ModelError

_TYPES = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16", "int8": "Int8"}
"""TensorRT's name of each precision's type."""

_NARROW_FIRST = ("Int8", "Half", "BFloat16", "Float")
_SYNONYMS = {"FP32": "Float", "FP16": "Half", "BF16": "BFloat16", "INT8": "Int8"}

_WEIGHTED = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
"""Kinds of network layers in which nearly all arithmetic is."""

_POINTWISE = ("kgen", "shape_call", "signal", "wait")
"""Kinds of compiled layers whose constants are scales and limits, not weights."""

_LEAST_SHARE = 0.5
"""Share of the layers with weights that must be in a half type where one was asked for; a head may stay in float."""

_LISTING = re.compile(r"^Layers:\n(.*?)(?:\n\n|\Z)", re.DOTALL)
_KIND = re.compile(r"LayerType: (\w+)")
_CONSTANTS = re.compile(r"Constants: \[(.*?)\], Outputs:|Weights: \{(.*?)\}")
_TYPE = re.compile(r"(?:Data)?[Tt]ype: ([^,}]+)")


def check_network(network: Any, precision: str, tensorrt: ModuleType) -> None:  # noqa: ANN401
    """Raise ModelError when a parsed network does not compute in `precision`."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    weighted = [layer for layer in layers if layer.type.name in _WEIGHTED]
    types = Counter(layer.get_output(0).dtype.name for layer in weighted)
    quantised = sum(layer.type == tensorrt.LayerType.DEQUANTIZE for layer in layers)
    narrow = types["HALF"] + types["BF16"]
    right = {
        "fp32": not narrow and not quantised,
        "fp16": types["HALF"] > 0 and not quantised,
        "bf16": types["BF16"] > 0 and not quantised,
        "int8": quantised > 0,
    }
    if not right[precision]:
        found = ", ".join(f"{count} in {name}" for name, count in types.items()) or "none"
        raise ModelError(
            f"An engine in {precision} was asked for, but the ONNX it is built from computes otherwise: layers with "
            f"weights: {found}; {quantised} dequantised tensors. Nothing was built."
        )


def types_of_layers(listing: str) -> dict[str, int]:
    """Return how many compiled layers have weights of which type, from TensorRT's own list of them.

    Args:
        listing: Starts with `Layers:`, one line per layer: what the builder logs, and what the engine inspector gives
            in its one-line format. Anything else gives an empty answer.
    """
    match = _LISTING.search(listing)
    lines = match.group(1).splitlines() if match else []
    return dict(Counter(found for line in lines if (found := _type_of_layer(line))))


def _type_of_layer(line: str) -> str | None:
    kind = _KIND.search(line)
    if kind is None or kind.group(1) in _POINTWISE:
        return None
    constants = " ".join(first or second for first, second in _CONSTANTS.findall(line))
    words = {_SYNONYMS.get(word, word) for name in _TYPE.findall(constants) for word in name.split()}
    return next((name for name in _NARROW_FIRST if name in words), None)


def prove(types: Mapping[str, int], precision: str) -> dict[str, float]:
    """Return the share of layers with weights by type. Raises ModelError when it is not what was asked for.

    Args:
        types: Layers by type, not empty; see `types_of_layers`.
        precision: What was asked for.
    """
    total = sum(types.values())
    shares = {name: count / total for name, count in types.items()}
    share = shares.get(_TYPES[precision], 0.0)
    if share < {"fp32": 1.0, "int8": 1e-9}.get(precision, _LEAST_SHARE):
        found = ", ".join(f"{count} {name}" for name, count in types.items())
        raise ModelError(
            f"An engine in {precision} was asked for, but TensorRT compiled its layers with weights as: {found}. "
            "Nothing was published."
        )
    return shares
