"""Writing packages: a proven artifact, with all that is needed to run, check and understand it, in one `.cbx` file."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ParityError, UsageError
from cb_runtime.files import atomic_path, check_writable, sha256_of_file
from cb_runtime.package import SUFFIX, Artifact, Manifest, Member, write_archive
from cb_runtime.package.manifest import CARD, GOLDEN, MANIFEST, PARITY
from cb_runtime.stages import stages_path
from cb_runtime.trt.sidecar import ENGINE_SUFFIX, read_sidecar, sidecar_path

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        write_package(package, result.path, result.golden, result.metadata, licence)
    return result


def write_package(
    place: Path, artifact: Path, golden: Path, metadata: ModelMetadata, licence: str | None = None
) -> Manifest:
    """Write a package of one exported artifact and its staged graph, atomically; return its manifest.

    Raises ParityError when the metadata does not say that the artifact passed the gate, ModelError beyond 4 GiB.
    """
    if not (metadata.parity or {}).get("ok"):
        raise ParityError(f"{artifact.name} has not passed the parity gate. Export it again to put it into a package.")
    folder = f"{artifact.suffix[1:]}-{metadata.precision}"
    entry = Artifact(f"{folder}/{artifact.name}", metadata.precision, _only_gpu(artifact))
    contents = _contents(entry, artifact, golden, metadata, licence)
    manifest = Manifest(
        contract=metadata,
        artifacts=(entry,),
        members={name: _member(source) for name, source in contents.items()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        producer=f"cb-toolkit {version('cb-toolkit')}",
        licence=licence,
    )
    with atomic_path(place) as temporary:
        write_archive(temporary, {MANIFEST: manifest.to_bytes(), **contents})
    return manifest


def _contents(
    entry: Artifact, artifact: Path, golden: Path, metadata: ModelMetadata, licence: str | None
) -> dict[str, Path | bytes]:
    folder = stages_path(artifact)
    staged = {f"{entry.stages}/{path.name}": path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    return {
        CARD: model_card(metadata, artifact.stat().st_size, licence).encode(),
        GOLDEN: golden,
        entry.file: artifact,
        **staged,
        **({f"{entry.file}.json": sidecar} if (sidecar := sidecar_path(artifact)).is_file() else {}),
        f"{entry.folder}/{PARITY}": json.dumps(metadata.parity, indent=1).encode(),
    }


def _only_gpu(artifact: Path) -> str | None:
    """Return the compute capability an engine is tied to; None for what runs on several, or is no engine."""
    if artifact.suffix != ENGINE_SUFFIX:
        return None
    record = read_sidecar(artifact)
    only = record.compute_capabilities
    return only[0] if record.hardware_compat == "none" and len(only) == 1 else None


def _member(source: Path | bytes) -> Member:
    if isinstance(source, bytes):
        return Member(hashlib.sha256(source).hexdigest(), len(source))
    return Member(sha256_of_file(source), source.stat().st_size)


def model_card(metadata: ModelMetadata, size: int, licence: str | None) -> str:
    """Return the model card, Markdown: what it is for, of what data, how good, how exact, under which licence."""
    parity: Mapping[str, Any] = (metadata.parity or {}).get("golden", {})
    agreement, difference = parity.get("argmax_agreement"), parity.get("max_abs_difference")
    measured = f"{_percent(agreement)} | {_number(difference)}"
    metrics = "\n".join(f"| {name} | {value} |" for name, value in sorted(metadata.validation_metrics.items()))
    return f"""# {metadata.architecture_name}

Decides whether the burned-in caption between two frames of a video stayed, changed, came or went.

## Intended use

Finding the first frame that shows a caption and the first that no longer does, with `cb infer`. It reads no text and
knows no speakers. It was measured on the data below; on videos of another kind measure it first (`cb evaluate`).

## Data

Dataset {metadata.dataset_name or "not stated"}, digest {metadata.dataset_digest or "not stated"}. Text regions by
{metadata.ocr_engine or "no OCR engine"} {metadata.ocr_engine_version or ""}

## Validation metrics

| metric | value |
| --- | --- |
{metrics or "| not stated | - |"}

## Precision

Against PyTorch in float32, on the golden samples of this package:

| arithmetic | bytes | decided alike | largest logit difference |
| --- | --- | --- | --- |
| {metadata.precision} | {size} | {measured} |

## Origin

Checkpoint SHA-256 {metadata.checkpoint_sha256}, training code {metadata.git_commit or "not stated"}, exported
{metadata.export_date} by {", ".join(f"{name} {value}" for name, value in sorted(metadata.producer_versions.items()))}.

## Licence

{licence or "Not stated by who made this package."}
"""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
