"""Build one artifact of a merged model and compare it with PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cb_export.gate import GateReport, run_gate
from cb_export.graph import Graph
from cb_export.options import ExportOptions
from cb_export.source import Merged
from cb_export.targets import Target
from cb_runtime.contract import ModelMetadata
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import Session, open_session


@dataclass(frozen=True)
class Built:
    """An artifact that was built and compared with PyTorch."""

    path: Path
    metadata: ModelMetadata
    """As it stands in the artifact: without the outcome of the gate."""
    report: GateReport
    session: Session
    """The session that the gate ran in."""


def build_and_gate(
    merged: Merged,
    target: Target,
    options: ExportOptions,
    path: Path,
    progress: Progress = no_progress,
    graph: Graph | None = None,
) -> Built:
    """Build an artifact at `path` and run the parity gate on it.

    Args:
        merged: What to build.
        target: Builds it; its artifacts run here.
        options: Precision, batch sizes and more; the precision is not `auto`.
        path: The artifact.
        progress: Told about both.
        graph: The traced model, where it is there already.

    Raises what the target's `build` raises.
    """
    building = merged.target_options(options, progress)
    metadata = target.build(graph or merged.graph(options), merged.metadata(options), building, path)
    session = open_session(path, device=target.GATE_DEVICE, reuse=False, measure=False)
    batches = target.gate_batches(building, options.batches)
    report = run_gate(session, merged.reference, merged.judged(options.precision), batches, progress)
    return Built(path, metadata, report, session)
