"""`cb inspect`: what a model expects and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting

if TYPE_CHECKING:
    from rich.table import Table

    from cb_runtime.contract import ModelMetadata


@reporting("inspect")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "--plugin", "plugins", multiple=True, help="Python file that registers architectures, for a .pt. Repeatable."
)
def inspect(report: Report, artifact: Path | None, plugins: tuple[str, ...]) -> None:
    """Print the contract of ARTIFACT (.onnx, .engine, .cbx or .pt; the model in the box when left out).

    Inputs, preprocessing, origin, parity.
    """
    from cb_runtime.files import sha256_of_file
    from cb_runtime.golden import golden_path
    from cb_runtime.models import default_model_path
    from cb_runtime.package import SUFFIX, open_package

    artifact = artifact or default_model_path()
    packed = open_package(artifact) if artifact.suffix.lower() == SUFFIX else None
    metadata = _metadata(artifact, plugins) if packed is None else packed.manifest.contract
    golden = golden_path(artifact) if packed is None else artifact
    file: dict[str, Any] = {"path": str(artifact), "sha256": sha256_of_file(artifact), "bytes": artifact.stat().st_size}
    file["golden_samples"] = str(golden) if golden.is_file() else None
    if packed is not None:
        file["artifacts"] = ", ".join(one.file for one in packed.manifest.artifacts)
        file |= {"signed": packed.signed, "members": len(packed.manifest.members), "licence": packed.manifest.licence}
    report.result({"file": file, "metadata": metadata.to_dict()})
    report.print(_table(file, metadata))


def _metadata(artifact: Path, plugins: tuple[str, ...]) -> ModelMetadata:
    from cb_runtime.backends import backend_for
    from cb_runtime.session import open_session

    # An engine's contract stands beside it; opening it would need the GPU that it was built for.
    read = getattr(backend_for(artifact)[1], "read_metadata", None)
    metadata: ModelMetadata = read(artifact) if read else open_session(artifact, device="cpu", plugins=plugins).metadata
    return metadata


def _table(file: dict[str, Any], metadata: ModelMetadata) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in [*file.items(), *_rows(metadata)]:
        table.add_row(name.replace("_", " "), "-" if value is None else str(value))
    return table


def _rows(metadata: ModelMetadata) -> list[tuple[str, Any]]:
    plain = metadata.to_dict()
    tensors = [("input", spec) for spec in plain.pop("inputs")] + [("output", spec) for spec in plain.pop("outputs")]
    rows: list[tuple[str, Any]] = []
    for name, value in plain.items():
        if isinstance(value, dict) and value:
            rows += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            rows.append((name, ", ".join(value) if isinstance(value, list) else value or None))
    return rows + [
        (f"{kind} {spec['name']}", f"{spec['dtype']} ({', '.join(map(str, spec['shape']))})") for kind, spec in tensors
    ]
