"""Export targets, one module each, all with the same names.

A target module has

- `SUFFIX`: the ending of its files, e.g. `.onnx`;
- `PRECISIONS`: those of `cb_export.precision.PRECISIONS` that it can write, its default first;
- `build(graph, metadata, options, path) -> ModelMetadata`: write the artifact; returns the metadata it holds,
  completed by what was read back from the file;
- `build_part(graph, options, path)`: write a part of a model, an encoder or a classifier, without metadata;
- `write_metadata(path, metadata)`: replace the metadata of a built artifact, and nothing else of it;
- `companion(path)`: the file that belongs to an artifact and is published with it, if any;
- `runs_here(options)`: whether an artifact built with these options can run here, which its parity gate needs;
- `gate_batches(options, batches)`: the batch sizes to compare at, given those asked for;
- `BUILT_FROM_ONNX`: whether `build` and `build_part` call `options.on_source`, so that what cannot run here can be
  compared as ONNX;
- `GATE_DEVICE`: the device on which the parity gate runs its artifacts.

To add one: a module in this folder and a line in `TARGETS`. The conformance tests run over all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from cb_export.trt.options import EngineOptions
from cb_runtime.errors import UsageError
from cb_runtime.progress import Progress, no_progress

if TYPE_CHECKING:
    from cb_export.graph import Graph
    from cb_runtime.backends import Availability, Feeds
    from cb_runtime.contract import ModelMetadata

TARGETS = {"onnx": "cb_export.targets.onnx", "trt": "cb_export.targets.tensorrt"}
"""Format name, as `--format` takes it, to module."""


@dataclass(frozen=True)
class TargetOptions:
    """How to build an artifact."""

    opset: int = 20
    """ONNX operator set: 20 is the newest that quantisers and inference engines in service all read."""
    precision: str = "fp32"
    """Arithmetic: one of the target's `PRECISIONS`. Half precision is in the traced graph already."""
    calibration: Feeds | None = None
    """Inputs of the graph on which int8 is calibrated; needed for int8 alone."""
    keep_float: tuple[str, ...] = ()
    """Modules of the architecture that int8 leaves in float; of half precision they are in the traced graph already."""
    engine: EngineOptions = field(default_factory=EngineOptions)
    """How to build a TensorRT engine; only that target uses it."""
    on_source: Callable[[Path], None] | None = None
    """Called with the ONNX file that an engine is built from, before it is; what it raises ends the build."""
    progress: Progress = no_progress
    """Told about a build that takes long."""


class Target(Protocol):
    """What a target module offers."""

    SUFFIX: str
    PRECISIONS: tuple[str, ...]
    BUILT_FROM_ONNX: bool
    GATE_DEVICE: str

    def build(self, graph: Graph, metadata: ModelMetadata, options: TargetOptions, path: Path) -> ModelMetadata:
        """Write the artifact to `path`; return the metadata it holds. Raises CbError when it cannot be built."""
        ...

    def build_part(self, graph: Graph, options: TargetOptions, path: Path) -> None:
        """Write a part of a model to `path`. Raises CbError when it cannot be built."""
        ...

    def write_metadata(self, path: Path, metadata: ModelMetadata) -> None:
        """Replace the metadata of the artifact at `path`."""
        ...

    def companion(self, path: Path) -> Path | None:
        """Return the file that belongs to the artifact at `path`, which need not be there; None when none does."""
        ...

    def runs_here(self, options: TargetOptions) -> Availability:
        """Tell whether an artifact built with these options can run here. Raises CbError when it cannot be built."""
        ...

    def gate_batches(self, options: TargetOptions, batches: tuple[int, ...]) -> tuple[int, ...]:
        """Return the batch sizes to compare at, given those asked for."""
        ...


def load_target(name: str) -> Target:
    """Import the module of one target. Raises UsageError for an unknown name."""
    if name not in TARGETS:
        raise UsageError(f"Unknown export format '{name}'. Known: {', '.join(TARGETS)}.")
    return cast("Target", importlib.import_module(TARGETS[name]))
