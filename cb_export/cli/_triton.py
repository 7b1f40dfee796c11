"""What `cb export --triton` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cb_runtime.cli.console import Report

if TYPE_CHECKING:
    from cb_export.pipeline import ExportResult
    from cb_export.triton import TritonModel


def print_triton(report: Report, model: TritonModel, result: ExportResult) -> None:
    """Print which model was written into which repository."""
    for line in model.left_out:
        report.warn(line)
    report.print(f"{model.folder}: {result.metadata.architecture_name}, {', '.join(model.files)}")
    report.print(str(result.report))
    report.print(
        f"Triton puts up to {model.largest_batch} pairs into a batch, the most that was compared with PyTorch."
    )
    report.print(f"Serve it: tritonserver --model-repository={model.folder.parent}")
    plain = result.to_dict()
    report.result({**model.to_dict(), "parity": plain["parity"], "metadata": plain["metadata"]})
