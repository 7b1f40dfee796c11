"""A model becomes the graph that targets build from: five inputs in their exported form, one symbolic batch axis.

Axes, example inputs and names all come from the contract's specs, so no graph can differ from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cb_runtime.contract import BATCH_AXIS, OUTPUT_SPECS, Preprocessing, TensorSpec, graph_input_specs
from cb_runtime.errors import ModelError

LARGEST_BATCH = 65_536
"""Upper end of the batch axis, which tracing asks for; far beyond what fits into memory."""

EXAMPLE_BATCH = 2
"""Batch size of the traced example: with 1, the tracer takes the axis for a constant."""

SIZE_LIMIT = 2**31 - 2**24
"""Most bytes of weights: a protobuf file ends at 2 GiB, and the graph itself needs some of it."""


@dataclass(frozen=True)
class Graph:
    """A traced model, ready for any target."""

    program: ExportedProgram
    inputs: tuple[TensorSpec, ...]
    """Specs of the inputs, in order."""
    outputs: tuple[TensorSpec, ...] = OUTPUT_SPECS
    """Specs of the outputs, in order."""

    @property
    def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
        """The symbolic axes by input name, as `torch.export` and `torch.onnx` take them."""
        return _dynamic_shapes(self.inputs)


def trace(model: nn.Module, preprocessing: Preprocessing | None = None) -> Graph:
    """Trace a model whose `forward` takes the inputs of an exported graph.

    Args:
        model: A `DeploymentModel`, merged, in evaluation mode and float32.
        preprocessing: Says the shape of a strip.

    Raises:
        ModelError: The model is too large for one file, or cannot be traced with a free batch size.
    """
    return trace_part(model, graph_input_specs(preprocessing), OUTPUT_SPECS)


def trace_part(model: nn.Module, specs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Graph:
    """Trace a module whose `forward` takes these inputs by their names. Raises what `trace` raises."""
    _check_size(model)
    examples = example_inputs(specs)
    try:
        with torch.no_grad():
            program = torch.export.export(
                model, args=(), kwargs=examples, dynamic_shapes=_dynamic_shapes(specs), strict=False
            )
    except Exception as error:  # the tracer raises a dozen unrelated types, most of them private
        raise ModelError(
            f"The model cannot be traced with a free batch size ({type(error).__name__}): {first_lines(error)}\n"
            "Its forward must not depend on the values or the number of its inputs."
        ) from error
    return Graph(program, specs, outputs)


def example_inputs(specs: tuple[TensorSpec, ...], batch: int = EXAMPLE_BATCH) -> dict[str, Tensor]:
    """Return random inputs of an exported graph, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return {spec.name: _example(spec, batch, generator) for spec in specs}


def _example(spec: TensorSpec, batch: int, generator: torch.Generator) -> Tensor:
    shape = [batch if isinstance(axis, str) else axis for axis in spec.shape]
    if spec.dtype == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return torch.randn(shape, dtype=getattr(torch, spec.dtype), generator=generator)


def _dynamic_shapes(specs: tuple[TensorSpec, ...]) -> dict[str, dict[int, Any]]:
    batch = Dim(BATCH_AXIS, min=1, max=LARGEST_BATCH)
    return {spec.name: {axis: batch for axis, size in enumerate(spec.shape) if size == BATCH_AXIS} for spec in specs}


def _check_size(model: nn.Module) -> None:
    tensors: Mapping[str, Tensor] = dict(model.named_parameters()) | dict(model.named_buffers())
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > SIZE_LIMIT:
        raise ModelError(
            f"The model's weights take {size / 2**30:.1f} GiB, one ONNX file holds at most 2 GiB. Choose a smaller "
            "architecture or model_config."
        )


def first_lines(error: Exception, lines: int = 3) -> str:
    """Return the beginning of an error's text: the exporter's go on with whole programs."""
    return "\n".join(str(error).strip().splitlines()[:lines])
