"""From checkpoint to a model in a Triton repository, through the same gate as any artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cb_export.triton.config import schema
from cb_export.triton.plans import check_flavour
from cb_export.triton.repository import TritonModel, check_folder, check_name, write_model
from cb_runtime.errors import UsageError
from cb_runtime.files import check_writable

if TYPE_CHECKING:
    from cb_export.pipeline import ExportOptions, ExportResult
    from cb_runtime.progress import Progress


def check_place(repository: Path, name: str) -> Path:
    """Return the folder of a model in a repository. Raises UsageError or StorageError when it cannot be written."""
    check_name(name)
    folder = repository / name
    check_folder(folder)
    check_writable(repository)
    return folder


def export_triton(
    checkpoint: Path, repository: Path, options: ExportOptions, progress: Progress, name: str | None = None
) -> tuple[TritonModel, ExportResult]:
    """Export a checkpoint into a Triton model repository; the artifact itself is written to a temporary folder only.

    Args:
        checkpoint: A file of `cb train`.
        repository: What `tritonserver --model-repository` is given; other models in it stay.
        options: Format and gate; the staged graph is left out, as Triton has no use for it.
        progress: Told about every phase.
        name: Of the model in Triton; the checkpoint's when left out.

    Raises what `export_checkpoint` and `write_model` raise, and UsageError for options that Triton cannot have.
    """
    from cb_export.pipeline import export_checkpoint
    from cb_export.targets import load_target
    from cb_export.trt.choice import choose

    _check_options(options)
    schema()
    folder = check_place(repository, checkpoint.stem if name is None else name)
    if options.format == "trt":
        check_flavour(choose(options.engine).flavour.name)
    with TemporaryDirectory(prefix="cb-triton-") as place:
        artifact = Path(place) / f"model{load_target(options.format).SUFFIX}"
        result = export_checkpoint(checkpoint, artifact, replace(options, staged=False), progress)
        return write_model(folder, artifact, result.metadata), result


def _check_options(options: ExportOptions) -> None:
    if options.staged:
        raise UsageError("--staged and --triton exclude each other: Triton serves the graph with five inputs.")
    if options.allow_parity_failure or options.unverified:
        option = "--unverified" if options.unverified else "--allow-parity-failure"
        raise UsageError(
            f"{option} and --triton exclude each other: Triton is told the largest batch at which the model was proven."
        )
