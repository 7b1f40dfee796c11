"""`cb inspect`: what a model expects, what is in its file, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting

if TYPE_CHECKING:
    from rich.table import Table

    from cb_runtime.contract import ModelMetadata

LINEAGE = (
    "checkpoint_sha256",
    "git_commit",
    "training_versions",
    "dataset_name",
    "dataset_digest",
    "export_commit",
    "export_date",
    "producer_versions",
    "calibration",
    "keep_float",
    "lora_merge",
)
"""Fields of the contract that are printed as lineage, together."""


@reporting("inspect")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "--plugin", "plugins", multiple=True, help="Python file that registers architectures, for a .pt. Repeatable."
)
def inspect(report: Report, artifact: Path | None, plugins: tuple[str, ...]) -> None:
    """Print the contract of ARTIFACT (.onnx, .engine, .cbx or .pt; the model in the box when left out).

    Digest and sizes, in which arithmetic its layers compute, inputs, preprocessing, lineage, parity.
    """
    from cb_runtime.inspection import describe_file, describe_package, layers_of
    from cb_runtime.lineage import lineage_of
    from cb_runtime.models import default_model_path
    from cb_runtime.package import SUFFIX, open_package

    artifact = artifact or default_model_path()
    packed = open_package(artifact) if artifact.suffix.lower() == SUFFIX else None
    metadata = _metadata(artifact, plugins) if packed is None else packed.manifest.contract
    file = describe_file(artifact) if packed is None else describe_package(artifact, packed)
    layers, lineage = layers_of(artifact, packed), lineage_of(metadata)
    report.result({"file": file, "layers": layers, "lineage": lineage, "metadata": metadata.to_dict()})
    report.print(_table([*_flat(file), *_layer_rows(layers), *_flat(lineage, "lineage."), *_rows(metadata)]))


def _metadata(artifact: Path, plugins: tuple[str, ...]) -> ModelMetadata:
    from cb_runtime.backends import backend_for
    from cb_runtime.session import open_session

    # An engine's contract stands beside it; opening it would need the GPU that it was built for.
    read = getattr(backend_for(artifact)[1], "read_metadata", None)
    metadata: ModelMetadata = (
        read(artifact) if read else open_session(artifact, device="cpu", measure=False, plugins=plugins).metadata
    )
    return metadata


def _table(rows: list[tuple[str, Any]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in rows:
        table.add_row(escape(name.replace("_", " ")), "-" if value is None else escape(str(value)))
    return table


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give one row for each value, however deep it stands."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value)) or None
        else:
            yield f"{prefix}{name}", value or None if isinstance(value, Mapping) else value


def _layer_rows(layers: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[tuple[str, str]]:
    for graph, types in layers.items():
        for name, share in types.items():
            counted = f" ({share['layers']}), {share['weight_share']:.1%} of weights" if "layers" in share else ""
            yield f"{graph}: layers in {name}", f"{share['layer_share']:.1%}{counted}"


def _rows(metadata: ModelMetadata) -> list[tuple[str, Any]]:
    plain = metadata.to_dict()
    tensors = [("input", spec) for spec in plain.pop("inputs")] + [("output", spec) for spec in plain.pop("outputs")]
    rows: list[tuple[str, Any]] = []
    for name, value in plain.items():
        if name in LINEAGE:
            continue
        if isinstance(value, dict) and value:
            rows += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            rows.append((name, ", ".join(value) if isinstance(value, list) else value or None))
    return rows + [
        (f"{kind} {spec['name']}", f"{spec['dtype']} ({', '.join(map(str, spec['shape']))})") for kind, spec in tensors
    ]
