"""From checkpoint to package: a proven artifact in one file, with all that is needed to run and check it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cb_runtime.errors import UsageError
from cb_runtime.files import check_writable
from cb_runtime.package import SUFFIX
from cb_runtime.package.writing import Packable, write_package

if TYPE_CHECKING:
    from cb_export.pipeline import ExportOptions, ExportResult
    from cb_runtime.progress import Progress


def export_package(
    checkpoint: Path, package: Path, options: ExportOptions, progress: Progress, licence: str | None = None
) -> ExportResult:
    """Export a checkpoint into a package; the artifact itself is written to a temporary folder only.

    Raises what `export_checkpoint` raises; UsageError when `package` cannot be one, ParityError when the artifact
    failed the gate, even if that is allowed: a package checks itself, and would never open.
    """
    from cb_export.pipeline import export_checkpoint
    from cb_export.targets import load_target

    if package.suffix != SUFFIX or package.is_dir():
        raise UsageError(f"A package must be a file *{SUFFIX}, got {package}.")
    if options.allow_parity_failure:
        raise UsageError(
            "--allow-parity-failure and --package exclude each other: a package checks its own answers, and one that "
            "fails would never open. Publish the artifact with --output."
        )
    if options.unverified:
        raise UsageError("--unverified and --package exclude each other: what is in a package has passed the gate.")
    check_writable(package.parent)
    with TemporaryDirectory(prefix=f".{package.stem}-", dir=package.parent) as folder:
        artifact = Path(folder) / f"model{load_target(options.format).SUFFIX}"
        result = export_checkpoint(checkpoint, artifact, options, progress)
        write_package(package, [Packable(result.path, result.metadata)], result.golden, licence)
    return result
