"""The container: a stored zip of which every byte is known, and a reader that refuses any other.

Headers carry a fixed date and no extras, members stand one behind the other, and nothing is before, between or after
them. So the file is given by names and contents alone, and a byte that is changed anywhere can be seen.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cb_runtime.errors import ContractError, ModelError
from cb_runtime.files import atomic_path, is_file, write_error
from cb_runtime.golden import GoldenSamples, load_golden_samples
from cb_runtime.package.manifest import GOLDEN, MANIFEST, SIGNATURE, Artifact, Manifest, manifest_from_bytes
from cb_runtime.package.signature import check_signature, load_public_key, sign_manifest
from cb_runtime.trt.sidecar import ENGINE_SUFFIX, EngineRecord, record_from_dict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LARGEST = 2**32 - 2**20
"""Bytes of the largest package: beyond about 4 GiB a zip needs fields that this format leaves out."""

_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX, _MODE = 3, 0o100644 << 16
_CHUNK = 1 << 20

_UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError, NotImplementedError, struct.error)
# What the standard library raises for files that are cut, changed or something else altogether.


@dataclass(frozen=True)
class Package:
    """A package that was proven whole."""

    path: Path
    manifest: Manifest
    digest: str
    """SHA-256 of `manifest.json`: it tells packages apart, and is what a signature signs."""
    signed: bool
    """Whether there is a signature."""
    signer: str | None = None
    """Fingerprint of the key by which the signature was checked; None where none was given to check with."""

    def read(self, name: str) -> bytes:
        """Return a member's content, proven by its digest. Raises ModelError when it changed since."""
        with _reading(self.path), zipfile.ZipFile(self.path) as archive:
            sink = BytesIO()
            _copy_proven(archive, name, self.manifest, sink)
        return sink.getvalue()

    def extract(self, artifact: Artifact, folder: Path) -> Path:
        """Write an artifact and what belongs to it below `folder`; return where it stands.

        Raises ModelError when a member changed since the package was opened, StorageError when the disk is full or
        `folder` cannot be written.
        """
        with _reading(self.path), zipfile.ZipFile(self.path) as archive:
            for name in self.manifest.beside(artifact):
                self._extract(archive, name, folder / name)
        return folder / artifact.file

    def _extract(self, archive: zipfile.ZipFile, name: str, place: Path) -> None:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as sink:
                _copy_proven(archive, name, self.manifest, sink)
        except OSError as error:
            raise write_error(place, error) from error

    def records(self) -> dict[str, EngineRecord]:
        """Return what the sidecars of its engines say, by the engine's file. Raises ModelError for one that is none."""
        engines = [artifact.file for artifact in self.manifest.artifacts if artifact.file.endswith(ENGINE_SUFFIX)]
        with _reading(self.path):
            return {file: self._record(f"{file}.json") for file in engines}

    def _record(self, sidecar: str) -> EngineRecord:
        try:
            return record_from_dict(json.loads(self.read(sidecar)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ContractError(f"{sidecar} is no sidecar of an engine") from error

    def golden(self) -> GoldenSamples:
        """Return the golden samples."""
        return load_golden_samples(f"{self.path}/{GOLDEN}", self.read(GOLDEN))


def open_package(path: str | Path, public_key: str | Path | None = None) -> Package:
    """Open a package and prove it: structure, names, and the digest of every member.

    Args:
        path: A `.cbx` file.
        public_key: PEM file of the ed25519 key that must have signed it; None takes unsigned packages, and does not
            check a signature.

    Raises:
        ModelError: There is no such file, it was changed, cut or is no package, or is not signed as asked.
        UsageError: The public key cannot be used.
        MissingPackageError: `cryptography` is not installed, and a key was given.
    """
    file = Path(path)
    if not is_file(file):
        raise ModelError(f"Package {file} does not exist.")
    key = None if public_key is None else load_public_key(public_key)
    with _reading(file), zipfile.ZipFile(file) as archive:
        return _proven(file, archive, key)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with a package into a ModelError that says what to do."""
    try:
        yield
    except (ContractError, *_UNREADABLE) as error:
        said = (str(error) or type(error).__name__).rstrip(".")
        raise ModelError(
            f"{path} is refused: {said}. It was changed, cut short, or is no package. Copy it again from where it was "
            f"written, or write it again: cb export --checkpoint best.pt --package {path.name}"
        ) from error


def _proven(file: Path, archive: zipfile.ZipFile, key: Ed25519PublicKey | None) -> Package:
    infos = archive.infolist()
    _check_structure(file, infos)
    content = archive.read(MANIFEST)
    manifest = manifest_from_bytes(content)
    signed = infos[-1].orig_filename == SIGNATURE
    _check_names([info.orig_filename for info in infos], [MANIFEST, *manifest.members, *[SIGNATURE] * signed])
    signature = archive.read(SIGNATURE) if signed else None
    signer = None if key is None else check_signature(file, content, signature, key)
    for name in manifest.members:
        _copy_proven(archive, name, manifest, None)
    return Package(file, manifest, hashlib.sha256(content).hexdigest(), signed, signer)


def _check_names(found: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in found:
            raise ContractError(f"{name} is missing")
    for name in found:
        if name not in wanted:
            raise ContractError(f"{name!r} is in it, and not in its manifest")
    if found != wanted:
        raise ContractError("a member is in it twice, or not where the manifest has it")


def _copy_proven(archive: zipfile.ZipFile, name: str, manifest: Manifest, sink: IO[bytes] | None) -> None:
    """Read a member, into `sink` where one is given. Raises ContractError when it is not what the manifest says."""
    digest, wanted, size = hashlib.sha256(), manifest.members[name], 0
    with archive.open(name) as member:
        while chunk := member.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if sink is not None:
                sink.write(chunk)
    if (digest.hexdigest(), size) != (wanted.sha256, wanted.size):
        raise ContractError(f"{name} is not the file that was packed: its digest differs from the manifest's")


def write_archive(path: Path, members: Mapping[str, Path | bytes]) -> None:
    """Write a stored zip of files and contents, in their order. Raises ModelError beyond `LARGEST` bytes."""
    total = sum(len(source) if isinstance(source, bytes) else source.stat().st_size for source in members.values())
    if total > LARGEST:
        raise ModelError(
            f"A package holds up to {LARGEST / 2**30:.1f} GiB, these files are {total / 2**30:.1f} GiB. Put fewer "
            "artifacts into it."
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, source in members.items():
            with archive.open(_info(name), "w") as member:
                if isinstance(source, bytes):
                    member.write(source)
                else:
                    with source.open("rb") as file:
                        shutil.copyfileobj(file, member, _CHUNK)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system, info.external_attr = _UNIX, _MODE
    return info


def _check_structure(file: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    """Compare everything in the file but the members' contents with what `write_archive` writes."""
    if not infos:
        raise ContractError("it is empty")
    with file.open("rb") as raw:
        for at, expected in _skeleton(infos):
            raw.seek(at)
            if raw.read(len(expected)) != expected:
                raise ContractError(f"at byte {at} it is not laid out as a package is")
        if raw.read(1):
            raise ContractError("something follows the end of the archive")


def _skeleton(infos: Sequence[zipfile.ZipInfo]) -> Iterator[tuple[int, bytes]]:
    """Give the bytes around the members' contents and where they stand (APPNOTE.TXT 6.3.10, sections 4.3.7 to 16)."""
    at, directory = 0, b""
    for found in infos:
        info = _info(found.orig_filename)
        info.CRC, info.compress_size, info.file_size = found.CRC, found.file_size, found.file_size
        header = info.FileHeader(zip64=False)
        yield at, header
        directory += _directory_entry(header, at)
        at += len(header) + info.file_size
    yield at, directory + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, len(infos), len(infos), len(directory), at, 0)


def _directory_entry(header: bytes, at: int) -> bytes:
    """Return the central directory's entry of the member whose local header stands at byte `at`."""
    made_by = struct.pack("<BB", zipfile.DEFAULT_VERSION, _UNIX)
    return b"PK\x01\x02" + made_by + header[4:30] + struct.pack("<3H2L", 0, 0, 0, _MODE, at) + header[30:]


def sign_package(path: str | Path, private_key: str | Path) -> str:
    """Sign a package in place of any other signature; return the digest that was signed.

    Raises what `open_package` raises, UsageError for a key that cannot be used, StorageError when it cannot be written.
    """
    package = open_package(path)
    with _reading(package.path), zipfile.ZipFile(package.path) as archive:
        manifest = archive.read(MANIFEST)
    signature = sign_manifest(manifest, private_key)
    contents = {name: package.read(name) for name in package.manifest.members}
    with atomic_path(package.path) as temporary:
        write_archive(temporary, {MANIFEST: manifest, **contents, SIGNATURE: signature})
    return hashlib.sha256(manifest).hexdigest()
