"""The precisions that a model can be exported in, and how its network is prepared for each.

Targets name in their `PRECISIONS` which of them they write. Each is carried by the ONNX: half precision by the types of
its tensors, int8 by pairs of QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cb_export.half import fold_batch_norm, half_model
from cb_runtime.errors import UsageError

AUTO = "auto"
"""As `--precision`: the fastest that passes the parity gate, measured on this machine."""

OPSET = 20
"""ONNX operator set by default: the newest that quantisers and inference engines in service all read."""


@dataclass(frozen=True)
class Precision:
    """How a model is brought to one precision."""

    oldest_opset: int = 18
    """Oldest ONNX operator set that it can be written in."""
    half: bool = False
    """Whether the network itself is cast before it is traced."""
    calibrated: bool = False
    """Whether the ONNX is quantised with ranges found on samples."""


PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(),
    "fp16": Precision(half=True),
    "bf16": Precision(oldest_opset=22, half=True),  # older operator sets have no convolution of bf16
    "int8": Precision(calibrated=True),
}
"""All precisions by name; `cb_runtime.parity.TOLERANCES` says what each has to keep to."""


def model_in_precision(
    model: nn.Module, precision: str, inputs: Mapping[str, Tensor], keep_float: Sequence[str] = ()
) -> nn.Module:
    """Return a merged float32 `DeploymentModel` as it is traced for a precision.

    Args:
        model: In evaluation mode; stays as it was.
        precision: A key of `PRECISIONS`.
        inputs: Keyword arguments of its `forward`, on which the folding of BatchNorm is proven.
        keep_float: Modules of the architecture that a half precision leaves in float32.

    Raises ParityError when folding BatchNorm changed the logits.
    """
    kind = PRECISIONS[precision]
    if kind.half:
        return half_model(model, precision, inputs, keep_float)
    return fold_batch_norm(model, inputs) if kind.calibrated else model


def opset_for(precision: str, wanted: int | None) -> int:
    """Return the ONNX operator set to write. Raises UsageError for one that the precision cannot be written in."""
    oldest = PRECISIONS[precision].oldest_opset
    if wanted is not None and wanted < oldest:
        raise UsageError(f"{precision} needs --opset {oldest} or later, got {wanted}. Leave --opset out.")
    return max(oldest, OPSET) if wanted is None else wanted


def check_keep_float(model: nn.Module, precision: str, names: Sequence[str]) -> None:
    """Raise UsageError when names to keep in float have no effect, or name no module with weights.

    Args:
        model: A `DeploymentModel`.
        precision: A key of `PRECISIONS`.
        names: Modules of its architecture, e.g. `encoders.frame.fine`.
    """
    if names and precision == "fp32":
        raise UsageError("--keep-float leaves modules in float that --precision fp16, bf16 or int8 would narrow.")
    architecture: Any = model.architecture
    known = [name for name, module in architecture.named_modules() if next(module.parameters(), None) is not None]
    unknown = [name for name in names if name not in known or not name]
    if unknown:
        outer = [name for name in known if name.count(".") < 2 and name]
        raise UsageError(
            f"--keep-float: {architecture.__class__.__name__} has no module '{unknown[0]}'. It has, among "
            f"others, {', '.join(outer[:12])}."
        )
