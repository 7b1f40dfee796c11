"""How to export, as the command line asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cb_export.trt.options import EngineOptions
from cb_runtime.contract import Decoding
from cb_runtime.parity import BATCHES
from cb_runtime.parity_report import JudgedGraph


@dataclass(frozen=True)
class ExportOptions:
    """How to export."""

    format: str = "onnx"
    """A key of `cb_export.targets.TARGETS`."""
    opset: int | None = None
    """ONNX operator set; `cb_export.precision.opset_for` chooses when left out."""
    precision: str = "fp32"
    """One of the target's `PRECISIONS`, or `auto`: the fastest of them that passes the gate here."""
    keep_float: tuple[str, ...] = ()
    """Modules of the architecture that a precision below fp32 leaves in float, e.g. `("classifier.compare",)`."""
    calibration: Path | None = None
    """Dataset whose training pairs int8 is calibrated on; half of the golden samples when left out."""
    judge: Path | None = None
    """Dataset whose validation pairs parity is judged on besides the golden samples."""
    golden: Path | None = None
    """Golden samples; those beside the checkpoint when left out."""
    batches: tuple[int, ...] = BATCHES
    """Batch sizes at which the artifact is compared with PyTorch."""
    allow_parity_failure: bool = False
    """Publish an artifact that failed the gate; its metadata says so."""
    staged: bool | None = None
    """Write the staged graph beside the artifact too; None does where the architecture is a late fusion."""
    plugins: tuple[str, ...] = ()
    """Python files that register architectures."""
    decoding: Decoding | None = None
    """How label probabilities become captions; the checkpoint's own when left out."""
    engine: EngineOptions = field(default_factory=EngineOptions)
    """How to build a TensorRT engine; of format `trt` only."""
    on_judged: Callable[[JudgedGraph], object] | None = None
    """Told how each graph fared at the gate, whether it passed or not: the artifact, then its staged graph."""
    unverified: bool = False
    """Publish an artifact that cannot run on this machine, when the ONNX it was built from passed the gate."""

    def in_precision(self, precision: str) -> ExportOptions:
        """Return the same options for a precision; in fp32 there is nothing to keep in float."""
        return replace(self, precision=precision, keep_float=() if precision == "fp32" else self.keep_float)
