"""ONNX: one self-contained file with weights and metadata inside, and nothing of the machine that wrote it.

The exporter writes stack traces, source paths and Python names into every node; they are removed before the file is
written. What the file promises (names, types, shapes, one free batch axis) is read back from the file itself.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from cb_export.graph import Graph, first_lines
from cb_export.quantize import Calibrated, calibrate, modules_of_nodes
from cb_export.targets import TargetOptions
from cb_runtime.backends import METADATA_KEY, Availability, load_backend
from cb_runtime.contract import ModelMetadata, TensorSpec
from cb_runtime.errors import ModelError, UsageError

SUFFIX = ".onnx"
PRECISIONS = ("fp32", "fp16", "int8")
BUILT_FROM_ONNX = False
GATE_DEVICE = "cpu"

_TRACES = ("doc_string", "metadata_props")
"""Fields, at any depth of the file, in which the exporter leaves traces."""

_OLDEST_OPSET = 18
"""What the exporter writes itself; asked for less, it fails to convert and keeps this."""

_DOMAIN = ""
"""ONNX's own operators; the domain whose version is the opset."""


def build(graph: Graph, metadata: ModelMetadata, options: TargetOptions, path: Path) -> ModelMetadata:
    """Write the ONNX file of a traced graph; return its metadata with the opset read back.

    Raises:
        ModelError: The exporter failed, or the file breaks the contract.
        UsageError: The opset asked for cannot be had.
    """
    model, opset = _stripped_model(graph, options)
    _check_quantised(model, options)
    complete = metadata.replace(opset=opset, producer_versions={**metadata.producer_versions, "onnx": onnx.__version__})
    write_model(model, complete, path)
    check_file(path, complete)
    return complete


def build_part(graph: Graph, options: TargetOptions, path: Path) -> None:
    """Write the ONNX file of a part of a model, without metadata. Raises what `build` raises."""
    model, _ = _stripped_model(graph, options)
    path.write_bytes(model.SerializeToString())
    check_graph(path, graph.inputs, graph.outputs)


def calibrated_graph(graph: Graph, options: TargetOptions) -> Calibrated:
    """Return a traced float32 graph as ONNX with the ranges of its activations, to be quantised in several ways.

    Raises:
        ModelError: The exporter failed, or found nothing to quantise.
        UsageError: The opset asked for cannot be had, or there are too few samples.
    """
    calibrated = _calibrated(*_float_model(graph, options), options)
    if calibrated is None:
        raise ModelError("The graph has nothing to quantise. Export it with --precision fp32.")
    return calibrated


def _stripped_model(graph: Graph, options: TargetOptions) -> tuple[onnx.ModelProto, int]:
    """Return the graph as ONNX without traces of this machine, and the opset read back from it."""
    model, modules = _float_model(graph, options)
    if options.precision == "int8":
        calibrated = _calibrated(model, modules, options)
        model = model if calibrated is None else calibrated.quantized(options.keep_float)
    opset = _opset(model)
    if opset != options.opset:
        raise UsageError(f"Opset {options.opset} was asked for, the exporter writes {opset}. Use --opset {opset}.")
    return model, opset


def _float_model(graph: Graph, options: TargetOptions) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Return the graph as ONNX, and which module each node is from."""
    _check_opset(options.opset)
    model = _onnx_from_graph(graph, options.opset)
    modules = modules_of_nodes(model)
    strip_traces(model)
    return model, modules


def _calibrated(model: onnx.ModelProto, modules: dict[str, str], options: TargetOptions) -> Calibrated | None:
    assert options.calibration is not None, "int8 is calibrated"
    return calibrate(model, options.calibration, modules)


def _check_quantised(model: onnx.ModelProto, options: TargetOptions) -> None:
    if options.precision == "int8" and not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        kept = " besides what --keep-float names" if options.keep_float else ""
        raise ModelError(f"The graph has nothing to quantise{kept}. Export it with --precision fp32.")


def _check_opset(opset: int) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST_OPSET <= opset <= newest:
        raise UsageError(f"Opset {opset} cannot be written. Choose {_OLDEST_OPSET} to {newest}; 20 is tested.")


def write_metadata(path: Path, metadata: ModelMetadata) -> None:
    """Replace the metadata in an ONNX file; graph and weights stay as they are."""
    write_model(onnx.load(path), metadata, path)


def write_model(model: onnx.ModelProto, metadata: ModelMetadata, path: Path) -> None:
    """Write an ONNX file with metadata inside."""
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    path.write_bytes(model.SerializeToString())


def companion(path: Path) -> Path | None:
    """Return None: an ONNX file is complete in itself."""
    return None


def runs_here(options: TargetOptions) -> Availability:
    """Tell whether ONNX Runtime can run an artifact here."""
    return load_backend("onnxruntime").available()


def gate_batches(options: TargetOptions, batches: tuple[int, ...]) -> tuple[int, ...]:
    """Return the batch sizes asked for: ONNX Runtime runs all alike."""
    return batches


def _onnx_from_graph(graph: Graph, opset: int) -> onnx.ModelProto:
    with warnings.catch_warnings():
        # It tells that several inputs share one batch axis, which is what was asked for.
        warnings.filterwarnings("ignore", message="# The axis name")
        try:
            program: Any = torch.onnx.export(
                graph.program,
                args=(),
                dynamo=True,
                external_data=False,
                opset_version=opset,
                input_names=[spec.name for spec in graph.inputs],
                output_names=[spec.name for spec in graph.outputs],
                dynamic_shapes=graph.dynamic_shapes,
                verbose=False,
            )
        except Exception as error:  # converters and the version adapter raise unrelated types
            raise ModelError(
                f"The graph cannot be written as ONNX opset {opset} ({type(error).__name__}): {first_lines(error)}\n"
                "Try another --opset (20 is tested), or replace the operator that is named."
            ) from error
    model: onnx.ModelProto = program.model_proto
    return model


def strip_traces(message: Any) -> None:  # noqa: ANN401  (any protobuf message)
    """Remove doc strings and node metadata everywhere in a protobuf message, in place."""
    for field, value in message.ListFields():
        if field.name in _TRACES:
            message.ClearField(field.name)
        elif field.name == "raw_data" or field.message_type is None:
            continue
        else:
            for child in [value] if hasattr(value, "ListFields") else value:
                strip_traces(child)


def _opset(model: onnx.ModelProto) -> int | None:
    return next((entry.version for entry in model.opset_import if entry.domain == _DOMAIN), None)


def check_file(path: Path, metadata: ModelMetadata) -> None:
    """Check a written file: valid ONNX, weights inside, inputs and output exactly as the contract says.

    Raises ModelError naming the first thing that is wrong.
    """
    check_graph(path, metadata.inputs, metadata.outputs)


def check_graph(path: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Check that a written file is valid ONNX, with its weights inside and these inputs and outputs."""
    model = onnx.load(path, load_external_data=False)
    outside = [tensor.name for tensor in model.graph.initializer if tensor.external_data]
    if outside:
        raise ModelError(f"Weights must be inside the ONNX file, {outside[0]} is in another file.")
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"The exporter wrote an ONNX file that is not valid: {error}") from error
    _check_specs("Inputs", [_spec(value) for value in model.graph.input], inputs)
    _check_specs("Outputs", [_spec(value) for value in model.graph.output], outputs)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(value.name, dtype, tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim))


def _check_specs(what: str, found: list[TensorSpec], wanted: tuple[TensorSpec, ...]) -> None:
    if tuple(found) == wanted:
        return
    fixed = [spec.name for spec in found if spec.shape and isinstance(spec.shape[0], int)]
    reason = f" The batch axis of {', '.join(fixed)} is fixed: forward must work for any batch size." if fixed else ""
    raise ModelError(
        f"{what} of the ONNX graph must be {_text(wanted)}, got {_text(found)}.{reason} Nothing was published."
    )


def _text(specs: list[TensorSpec] | tuple[TensorSpec, ...]) -> str:
    return "; ".join(f"{spec.name} {spec.dtype} {'x'.join(map(str, spec.shape))}" for spec in specs)
