"""What is known of an artifact that cannot run on this machine: the parity of the ONNX it was built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cb_export.gate import GateReport, Run, run_gate
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ModelError, ParityError
from cb_runtime.golden import GoldenSamples
from cb_runtime.progress import Progress
from cb_runtime.session import open_session

RUNS_ON_CPU = ("fp32", "int8")
"""Precisions that ONNX Runtime's CPU provider computes in itself; of others a failure to run says nothing."""


@dataclass(frozen=True)
class Network:
    """The model in a precision as PyTorch runs it, as the gate takes artifacts."""

    metadata: ModelMetadata
    run: Run

    def describe(self) -> dict[str, Any]:
        """Return what it runs on."""
        return {"engine": "PyTorch", "device": "cpu", "version": torch.__version__}


@dataclass(frozen=True)
class Unverified:
    """Outcome for an artifact that could not be run; never true."""

    reason: str
    """Why it could not be run here."""
    onnx: GateReport | None
    """Outcome of the gate for the ONNX it was built from; None when that could not be run either."""
    onnx_reason: str | None = None
    """Why the ONNX could not be run; None when it was."""
    network: GateReport | None = None
    """Outcome for the network in its precision as PyTorch runs it, where the ONNX could not be run."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        source = f"\n{self.onnx}" if self.onnx is not None else f" not run either: {self.onnx_reason}"
        network = "" if self.network is None else f"\nIts network, run by PyTorch:\n{self.network}"
        return f"NOT RUN here: {self.reason}.\nThe ONNX it was built from:{source}{network}"

    def to_dict(self) -> Mapping[str, Any]:
        """Return the parity summary that the artifact carries: `ok` is null, as nobody knows."""
        onnx = {"ok": None, "reason": self.onnx_reason} if self.onnx is None else self.onnx.to_dict()
        network = {} if self.network is None else {"network": self.network.to_dict()}
        return {"ok": None, "reason": f"not run: {self.reason}", "onnx": onnx, **network}

    @property
    def compared(self) -> GateReport | None:
        """What could be compared with PyTorch's float32 in the artifact's place."""
        return self.onnx if self.onnx is not None else self.network

    @property
    def in_short(self) -> str:
        """The outcome in one line."""
        return "not run here" if self.onnx is None else f"not run here; the ONNX it was built from: {self.onnx.golden}"


def gate_source(
    reason: str,
    onnx_file: Path,
    reference: Run,
    golden: GoldenSamples,
    batches: tuple[int, ...],
    progress: Progress,
    network: Network,
) -> Unverified:
    """Compare the ONNX that an artifact is built from with PyTorch.

    Args:
        reason: Why the artifact itself cannot be run here.
        onnx_file: What it is built from.
        reference: PyTorch.
        golden: Real pairs.
        batches: Batch sizes to compare at.
        progress: Told about every batch size.
        network: What is compared where ONNX Runtime cannot run the ONNX on the CPU.

    Raises ModelError when an ONNX in a precision that runs on any CPU cannot be run: it is broken.
    """
    try:
        session = open_session(onnx_file, device="cpu", reuse=False, measure=False)
        return Unverified(reason, run_gate(session, reference, golden, batches, progress))
    except ModelError:
        if network.metadata.precision in RUNS_ON_CPU:
            raise
        why = f"ONNX Runtime's CPU provider does not compute in {network.metadata.precision}"
        return Unverified(reason, None, why, run_gate(network, reference, golden, batches, progress))


def refuse_unverified(suffix: str, reason: str) -> ParityError:
    """Return the error of an export whose artifact could not be run, where nobody agreed to that."""
    return ParityError(
        f"The parity gate cannot run {suffix} files here: {reason}. Nothing was built. Export on a machine that runs "
        "them, or publish with --unverified what was compared as ONNX only, and run `cb verify` where it will be used."
    )
