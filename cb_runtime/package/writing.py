"""Writing packages: proven artifacts of one model, with all that is needed to run, check and understand them.

Nothing of training or export is needed for it, so that engines which were built on several machines can be gathered on
any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cb_runtime.backends import backend_for
from cb_runtime.contract import ModelMetadata, model_differences
from cb_runtime.errors import ModelError, ParityError, UsageError
from cb_runtime.files import atomic_path, sha256_of_file
from cb_runtime.golden import golden_path
from cb_runtime.package.archive import write_archive
from cb_runtime.package.card import model_card
from cb_runtime.package.manifest import CARD, GOLDEN, MANIFEST, PARITY, SUFFIX, Artifact, Manifest, Member
from cb_runtime.session import open_session
from cb_runtime.stages import stages_path
from cb_runtime.trt.sidecar import ENGINE_SUFFIX, EngineRecord, read_sidecar, sidecar_path

_PACKED = (".onnx", ENGINE_SUFFIX)
"""Endings of artifacts that can stand in a package."""


@dataclass(frozen=True)
class Packable:
    """An artifact on its way into a package."""

    path: Path
    """Its staged graph or its sidecar stands beside it."""
    metadata: ModelMetadata
    """As it stands in the artifact."""

    @property
    def entry(self) -> Artifact:
        """What the manifest says of it."""
        kind, precision = self.path.suffix[1:], self.metadata.precision
        if self.path.suffix != ENGINE_SUFFIX:
            return Artifact(f"{kind}-{precision}/model{self.path.suffix}", precision)
        record = read_sidecar(self.path)
        folder = f"{kind}-{precision}-{_targets(record)}-{record.flavour}-{record.tensorrt_version}"
        return Artifact(f"{folder}/model{self.path.suffix}", precision, _only_gpu(record))

    def contents(self, entry: Artifact) -> dict[str, Path | bytes]:
        """Return what belongs into its folder, by member name."""
        stages, sidecar = stages_path(self.path), sidecar_path(self.path)
        staged = {f"{entry.stages}/{path.name}": path for path in sorted(stages.iterdir())} if stages.is_dir() else {}
        return {
            entry.file: self.path,
            **staged,
            **({f"{entry.file}.json": sidecar} if self.path.suffix == ENGINE_SUFFIX else {}),
            f"{entry.folder}/{PARITY}": json.dumps(self.metadata.parity, indent=1).encode(),
        }


def _targets(record: EngineRecord) -> str:
    return "8.0-or-later" if record.hardware_compat == "ampere+" else "+".join(record.compute_capabilities)


def _only_gpu(record: EngineRecord) -> str | None:
    """Return the compute capability an engine is tied to; None for what runs on several."""
    only = record.compute_capabilities
    return only[0] if record.hardware_compat != "ampere+" and len(only) == 1 else None


def package_artifacts(
    place: Path, artifacts: Sequence[Path], golden: Path | None = None, licence: str | None = None
) -> Manifest:
    """Write a package of artifacts of one model, atomically; return its manifest.

    Args:
        place: The package, `*.cbx`.
        artifacts: ONNX files and engines; what the manifest says of the model is the first one's.
        golden: Golden samples of all; those beside each artifact, which must be the same, when left out.
        licence: Under which the model may be used.

    Raises:
        UsageError: What cannot be packed, two artifacts of one kind, or artifacts of different models.
        ModelError: An artifact or its golden samples are missing or cannot be read.
        ParityError: An artifact has not passed the parity gate.
    """
    if place.suffix != SUFFIX or place.is_dir():
        raise UsageError(f"A package must be a file *{SUFFIX}, got {place}.")
    packables = [packable_from_file(path) for path in artifacts]
    return write_package(place, packables, _common_golden(artifacts, golden), licence)


def packable_from_file(path: Path) -> Packable:
    """Read what is to be packed. Raises UsageError for what is no artifact, and what opening it raises."""
    if path.suffix not in _PACKED:
        raise UsageError(f"A package holds artifacts ({', '.join(_PACKED)}), and {path.name} is none of them.")
    if not path.is_file():
        raise ModelError(f"Artifact {path} does not exist.")
    # An engine's contract stands beside it; opening it would need the GPU that it was built for.
    read = getattr(backend_for(path)[1], "read_metadata", None)
    metadata: ModelMetadata = read(path) if read else open_session(path, device="cpu", measure=False).metadata
    return Packable(path, metadata)


def _common_golden(artifacts: Sequence[Path], given: Path | None) -> Path:
    found = [path for path in map(golden_path, artifacts) if given is None or path.is_file()]
    samples = [*([] if given is None else [given]), *found]
    for path in samples:
        if not path.is_file():
            raise ModelError(
                f"Golden samples {path} are missing. Copy them along with the artifact, or name those of all artifacts "
                "with --golden FILE."
            )
    for path in samples[1:]:
        if sha256_of_file(path) != sha256_of_file(samples[0]):
            raise UsageError(
                f"{path} and {samples[0]} are different golden samples, so the artifacts were not compared on the same "
                "pairs. Export them all from one checkpoint and its golden samples."
            )
    return samples[0]


def write_package(place: Path, artifacts: Sequence[Packable], golden: Path, licence: str | None = None) -> Manifest:
    """Write a package of proven artifacts of one model, atomically; return its manifest.

    Raises what `package_artifacts` raises of artifacts, and ModelError beyond 4 GiB.
    """
    for artifact in artifacts:
        if not (artifact.metadata.parity or {}).get("ok"):
            raise ParityError(
                f"{artifact.path.name} has not passed the parity gate. Export it again to put it into a package."
            )
    _check_one_model(artifacts)
    entries = _entries(artifacts)
    contents = _contents(entries, golden, licence)
    manifest = Manifest(
        contract=artifacts[0].metadata,
        artifacts=tuple(entries),
        members={name: _member(source) for name, source in contents.items()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        producer=f"cb-toolkit {version('cb-toolkit')}",
        licence=licence,
    )
    with atomic_path(place) as temporary:
        write_archive(temporary, {MANIFEST: manifest.to_bytes(), **contents})
    return manifest


def _check_one_model(artifacts: Sequence[Packable]) -> None:
    first = artifacts[0]
    for other in artifacts[1:]:
        fields = model_differences(first.metadata, other.metadata)
        if fields:
            raise UsageError(
                f"{other.path} is not of the same model as {first.path}: they differ in {', '.join(fields)}. Export "
                "both from one checkpoint."
            )


def _entries(artifacts: Sequence[Packable]) -> dict[Artifact, Packable]:
    entries: dict[Artifact, Packable] = {}
    for artifact in artifacts:
        entry = artifact.entry
        if entry in entries:
            raise UsageError(
                f"{entries[entry].path} and {artifact.path} are both {entry.folder}. Leave one of them out."
            )
        entries[entry] = artifact
    return entries


def _contents(entries: dict[Artifact, Packable], golden: Path, licence: str | None) -> dict[str, Path | bytes]:
    rows = [(entry.folder, one.path.stat().st_size, one.metadata) for entry, one in entries.items()]
    contents: dict[str, Path | bytes] = {CARD: model_card(rows, licence).encode(), GOLDEN: golden}
    for entry, artifact in entries.items():
        contents |= artifact.contents(entry)
    return contents


def _member(source: Path | bytes) -> Member:
    if isinstance(source, bytes):
        return Member(hashlib.sha256(source).hexdigest(), len(source))
    return Member(sha256_of_file(source), source.stat().st_size)
