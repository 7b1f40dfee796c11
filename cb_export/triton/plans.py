"""The engines of one model in a Triton model repository: one for each compute capability, gathered over machines.

Standard TensorRT builds for the GPU that it builds on, so a repository for several GPUs is filled by exporting on each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cb_export.triton.config import Engine
from cb_runtime.backends.tensorrt import checked_plan
from cb_runtime.contract import model_differences
from cb_runtime.errors import ModelError, UsageError
from cb_runtime.trt.flavours import STANDARD
from cb_runtime.trt.sidecar import EngineRecord, sidecar_path

PLAN_SUFFIX = ".plan"
"""Ending of engine files in Triton."""

_EVERYWHERE = f"model{PLAN_SUFFIX}"
"""The engine for GPUs that have none of their own."""


@dataclass(frozen=True)
class Plan:
    """An engine in, or for, a version folder."""

    file: Path
    """Where it stands now."""
    record: EngineRecord

    @property
    def compute_capability(self) -> str | None:
        """The GPUs it is for; None when it runs on compute capability 8.0 and later."""
        return None if self.record.hardware_compat == "ampere+" else self.record.compute_capabilities[0]

    @property
    def name(self) -> str:
        """Its file name in a version folder."""
        own = self.compute_capability
        return _EVERYWHERE if own is None else f"model_{own}{PLAN_SUFFIX}"

    @property
    def sidecar(self) -> Path:
        """Where its sidecar stands now."""
        return sidecar_path(self.file)

    @property
    def sidecar_name(self) -> str:
        """The file name of its sidecar in a version folder."""
        return sidecar_path(self.name).name


def plan_from_engine(engine: Path) -> Plan:
    """Return an engine as a plan for Triton, proven to be its sidecar's.

    Raises:
        UsageError: An engine of TensorRT for RTX, or one that does not take a single pair.
        ModelError: Engine and sidecar do not belong to each other.
    """
    record, _ = checked_plan(engine)
    check_flavour(record.flavour)
    if record.profile.minimum != 1:
        raise UsageError(
            f"Triton batches as many pairs as there are, also one; this engine takes {record.profile.minimum} or "
            f"more. Export with --batch 1:{record.profile.optimum}:{record.profile.maximum}."
        )
    return Plan(engine, record)


def check_flavour(flavour: str) -> None:
    """Raise UsageError for engines that Triton's backend, which is standard TensorRT, does not open."""
    if flavour != STANDARD.name:
        raise UsageError(
            "Triton runs engines of standard TensorRT, this would be one of TensorRT for RTX. Export with --flavor "
            "tensorrt on a machine with the GPU that will serve, or with --format onnx."
        )


def kept_plans(folder: Path, new: Plan) -> tuple[list[Plan], tuple[str, ...]]:
    """Return the engines of a version folder that stay beside a new one, and why others do not."""
    kept, left_out = [], []
    for file in sorted(folder.glob(f"*{PLAN_SUFFIX}")):
        if file.name == new.name:
            continue
        try:
            plan = plan_from_engine(file)
        except (ModelError, UsageError) as error:
            left_out.append(f"{file.name} was left out: {error}")
            continue
        reason = _difference(plan.record, new.record)
        if reason is None:
            kept.append(plan)
        else:
            left_out.append(f"{file.name} was left out: {reason}. Export it again on a GPU like the one it was for.")
    return kept, tuple(left_out)


def _difference(older: EngineRecord, new: EngineRecord) -> str | None:
    fields = model_differences(older.metadata, new.metadata)
    if fields:
        return f"it was built from another model ({', '.join(fields)} differ)"
    if older.metadata.precision != new.metadata.precision:
        return f"it computes in {older.metadata.precision}, the new engine in {new.metadata.precision}"
    if older.tensorrt_version != new.tensorrt_version:
        return f"it was built by TensorRT {older.tensorrt_version}, the new engine by {new.tensorrt_version}"
    return None


def engine_of(plans: Sequence[Plan]) -> Engine:
    """Return what Triton is told of the engines of one model."""
    own = {plan.compute_capability: plan.name for plan in plans if plan.compute_capability is not None}
    everywhere = next((plan.name for plan in plans if plan.compute_capability is None), None)
    return Engine("tensorrt", "tensorrt_plan", everywhere, own)
