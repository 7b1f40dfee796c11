"""TensorRT: an engine of either flavour, a plain plan that trtexec and Triton open, with its contract in its name.

Precision is carried by the ONNX it is built from, so the ONNX target does the arithmetic and this one the building.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from cb_export.graph import Graph
from cb_export.targets import TargetOptions
from cb_export.targets import onnx as onnx_target
from cb_export.trt.builder import engine_from_onnx, part_from_onnx
from cb_export.trt.choice import choose
from cb_runtime.backends import Availability
from cb_runtime.contract import ModelMetadata
from cb_runtime.trt.flavours import flavour_version
from cb_runtime.trt.sidecar import ENGINE_SUFFIX, read_sidecar, sidecar_path

SUFFIX = ENGINE_SUFFIX
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
BUILT_FROM_ONNX = True
GATE_DEVICE = "cuda"


def build(graph: Graph, metadata: ModelMetadata, options: TargetOptions, path: Path) -> ModelMetadata:
    """Write the engine of a traced graph, and its sidecar; return the metadata they hold.

    Raises:
        ModelError: The exporter or TensorRT failed, or the engine would compute in another precision.
        ContractError: The metadata does not fit into the engine.
        UsageError: Options that cannot be obeyed here.
        MissingPackageError: The flavour is not installed.
    """
    choice = choose(options.engine)
    wanted = metadata.replace(precision=options.precision)
    with tempfile.TemporaryDirectory(prefix="cb-trt-") as folder:
        source = Path(folder) / "source.onnx"
        complete = onnx_target.build(graph, wanted, options, source)
        if options.on_source is not None:
            options.on_source(source)
        release = {choice.flavour.module: flavour_version(choice.flavour)}
        complete = complete.replace(producer_versions={**complete.producer_versions, **release})
        record = engine_from_onnx(source, path, complete, choice, options.engine, options.progress)
    record.save(path)
    return record.metadata


def build_part(graph: Graph, options: TargetOptions, path: Path) -> None:
    """Write the engine of a part of a model. Raises ModelError, UsageError and MissingPackageError as `build` does."""
    choice = choose(options.engine)
    with tempfile.TemporaryDirectory(prefix="cb-trt-") as folder:
        source = Path(folder) / "source.onnx"
        onnx_target.build_part(graph, options, source)
        if options.on_source is not None:
            options.on_source(source)
        part_from_onnx(source, path, (*graph.inputs, *graph.outputs), choice, options.engine, options.progress)


def write_metadata(path: Path, metadata: ModelMetadata) -> None:
    """Replace the metadata in an engine's sidecar: a plan's own is part of it and stays."""
    read_sidecar(path).replace(metadata=metadata).save(path)


def companion(path: Path) -> Path:
    """Return the file that belongs to an engine: its sidecar."""
    return sidecar_path(path)


def runs_here(options: TargetOptions) -> Availability:
    """Tell whether an engine built with these options can be run on this machine. Raises what `choose` raises."""
    return choose(options.engine).runs_here()


def gate_batches(options: TargetOptions, batches: tuple[int, ...]) -> tuple[int, ...]:
    """Return the batch sizes to compare at: those asked for, and those at which an engine changes its kernels."""
    profile = options.engine.profile
    return tuple(sorted({*batches, profile.optimum, max(1, profile.maximum - 1), profile.maximum}))
