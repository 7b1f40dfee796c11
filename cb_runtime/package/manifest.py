"""What a package says of itself: `manifest.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from cb_runtime.contract import ModelMetadata, metadata_from_dict
from cb_runtime.errors import ContractError
from cb_runtime.stages import stages_path

SUFFIX = ".cbx"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
GOLDEN, CARD, PARITY = "golden.npz", "README.md", "parity.json"

SCHEMA = 1
"""Version of `manifest.json`."""

_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*/)*[A-Za-z0-9_][A-Za-z0-9_.+-]*")
"""A member's name: relative, forward, and no part begins with a dot, so that it cannot lead out of a folder."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Member:
    """One file in a package."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Artifact:
    """A model of the package that a session can open."""

    file: str
    """Member; everything else in its folder belongs to it."""
    precision: str
    """Arithmetic: fp32, tf32, fp16, bf16 or int8."""
    compute_capability: str | None = None
    """Of the only GPUs it runs on, e.g. `8.9`; None where it is not tied to one. Its sidecar says more."""

    @property
    def folder(self) -> str:
        """The folder that is its own, e.g. `onnx-fp32`."""
        return str(PurePosixPath(self.file).parent)

    @property
    def stages(self) -> str:
        """The folder in which its staged graph stands, if it has one."""
        return stages_path(self.file).as_posix()


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says."""

    contract: ModelMetadata
    """What every artifact of the package was made for, as it stands in the first one."""
    artifacts: tuple[Artifact, ...]
    members: Mapping[str, Member]
    """Name to digest and size, of every member but the manifest and its signature; in the order of the file."""
    created: str
    """UTC, ISO 8601."""
    producer: str
    """The cb-toolkit that wrote it."""
    licence: str | None = None
    """Under which the model may be used, as its maker said; None where nothing was said."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ContractError(f"its schema is {self.schema}, this cb reads {SCHEMA}")
        for name, member in self.members.items():
            if not _NAME.fullmatch(name) or name in (MANIFEST, SIGNATURE):
                raise ContractError(f"a member may not be called {name!r}")
            if not _DIGEST.fullmatch(member.sha256) or member.size < 0:
                raise ContractError(f"the manifest gives no digest and size of {name}")
        self._check_artifacts()

    def _check_artifacts(self) -> None:
        if not self.artifacts:
            raise ContractError("the manifest names no artifact")
        folders = [artifact.folder for artifact in self.artifacts]
        if len({*folders}) != len(folders) or "." in folders:
            raise ContractError("every artifact needs a folder of its own")
        for name in (GOLDEN, CARD, *(artifact.file for artifact in self.artifacts)):
            if name not in self.members:
                raise ContractError(f"{name} is not among the members of the manifest")

    def beside(self, artifact: Artifact) -> list[str]:
        """Return the members of an artifact's folder, itself among them."""
        return [name for name in self.members if name.startswith(f"{artifact.folder}/")]

    def is_staged(self, artifact: Artifact) -> bool:
        """Tell whether an artifact has a staged graph."""
        return any(name.startswith(f"{artifact.stages}/") for name in self.members)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "contract": self.contract.to_dict(), "artifacts": [asdict(a) for a in self.artifacts]}

    def to_bytes(self) -> bytes:
        """Return the content of `manifest.json`."""
        return (json.dumps(self.to_dict(), indent=1) + "\n").encode()


def manifest_from_bytes(content: bytes) -> Manifest:
    """Read `manifest.json`. Raises ContractError for what is not a manifest of this schema."""
    try:
        values = json.loads(content)
        if values["schema"] != SCHEMA:
            raise ContractError(f"its schema is {values['schema']}, this cb reads {SCHEMA}")
        values["contract"] = metadata_from_dict(values["contract"])
        values["artifacts"] = tuple(Artifact(**artifact) for artifact in values["artifacts"])
        values["members"] = {name: Member(**member) for name, member in values["members"].items()}
        return Manifest(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ContractError(f"{MANIFEST} is malformed ({type(error).__name__}: {error})") from error
