"""What all engines for `.onnx` artifacts check alike: metadata, and the graph's form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cb_runtime.backends import METADATA_KEY
from cb_runtime.contract import ModelMetadata, TensorSpec, metadata_from_json
from cb_runtime.errors import ContractError
from cb_runtime.onnx_layers import properties_of_onnx

SUFFIX = ".onnx"

EXPORT_AGAIN = "Export it with: cb export --checkpoint best.pt --format onnx"
DAMAGED = f"It may be cut short, damaged, or no ONNX file. {EXPORT_AGAIN}"


def metadata_of_file(path: Path) -> ModelMetadata:
    """Return the contract of an artifact, read without an engine: its graph is not compared with it.

    Raises ModelError for a file that is no ONNX, and ContractError for one that cb did not export.
    """
    return _metadata(properties_of_onnx(path).get(METADATA_KEY), path)


def artifact_metadata(
    text: str | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], path: Path
) -> ModelMetadata:
    """Return the contract of an artifact whose graph an engine has read.

    Args:
        text: What the file's `metadata_props` hold under `METADATA_KEY`; None when it has no such entry.
        inputs: The graph's inputs; an axis without a size has any string.
        outputs: The graph's outputs.
        path: The file, for errors.

    Raises:
        ContractError: It was not exported by cb, is of an unknown schema, or its graph does not fit its metadata.
    """
    metadata = _metadata(text, path)
    _check_graph(inputs, outputs, metadata, path)
    return metadata


def _metadata(text: str | None, path: Path) -> ModelMetadata:
    if text is None:
        raise ContractError(
            f"{path} has no '{METADATA_KEY}' in its metadata, so its preprocessing is unknown: it was not exported by "
            f"cb. {EXPORT_AGAIN}"
        )
    try:
        return metadata_from_json(text)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error


def _check_graph(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], metadata: ModelMetadata, path: Path
) -> None:
    for spec in inputs:
        if isinstance(spec.shape[0] if spec.shape else 0, int):
            raise ContractError(f"{path} has no free batch axis: input '{spec.name}' is {spec.shape}. {EXPORT_AGAIN}")
    for kind, wanted, got in (("inputs", metadata.inputs, inputs), ("outputs", metadata.outputs, outputs)):
        if [_fixed(spec) for spec in wanted] != [_fixed(spec) for spec in got]:
            raise ContractError(
                f"The graph in {path} does not fit its own metadata. Expected {kind} {[_fixed(s) for s in wanted]}, "
                f"found {[_fixed(s) for s in got]}. {EXPORT_AGAIN}"
            )


def _fixed(spec: TensorSpec) -> tuple[str, str, tuple[int | str, ...]]:
    """Return what must agree between graph and metadata: all but the name of the batch axis."""
    return (spec.name, spec.dtype, spec.shape[1:])
