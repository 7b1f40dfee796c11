"""The sidecar of an engine, `best.engine.json`: where the engine fits, what it was built by, and its full contract.

The engine itself stays a plain plan, byte for byte as TensorRT wrote it, so that trtexec and Triton open it. A plan is
executable code: it is opened only when its SHA-256 is the one in the sidecar.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cb_runtime.contract import REPORT_FIELDS, ModelMetadata, metadata_from_dict
from cb_runtime.errors import ContractError, ModelError
from cb_runtime.gpus import Gpu
from cb_runtime.trt.flavours import FLAVOURS, Flavour

ENGINE_SUFFIX = ".engine"
"""Ending of engine files."""

SCHEMA = 1
"""Version of the sidecar."""

BUILD_AGAIN = "Build it again with: cb export --checkpoint best.pt --format trt"


@dataclass(frozen=True)
class BatchProfile:
    """Batch sizes an engine is built for: one optimisation profile, the same for all inputs."""

    minimum: int
    optimum: int
    """The size that the kernels are chosen for."""
    maximum: int

    def __str__(self) -> str:
        return f"{self.minimum}:{self.optimum}:{self.maximum}"


@dataclass(frozen=True)
class EngineRecord:
    """What the sidecar says."""

    plan_sha256: str
    """Digest of the engine file."""
    flavour: str
    """`tensorrt` or `rtx`."""
    tensorrt_version: str
    """Release that built it, and the only one that runs it unless `version_compatible`."""
    platform: str
    """Operating system and processor it was built on; see `this_platform`."""
    compute_capabilities: tuple[str, ...]
    """GPUs it was built for, e.g. `("8.9",)`."""
    hardware_compat: str
    """`none`, `same-cc` or `ampere+`."""
    profile: BatchProfile
    metadata: ModelMetadata
    """The full contract, with the parity summary."""
    gpu: str | None = None
    """Name of the GPU it was built on; None where there was none."""
    precision_proof: Mapping[str, Any] | None = None
    """Which arithmetic the compiled layers use, and who says so; None where it could not be read."""
    version_compatible: bool = False
    """Whether later releases run it too: it then holds code of its release, which runs when it is opened."""
    build: Mapping[str, Any] = field(default_factory=dict)
    """How it was built: seconds, workspace, timing cache, why this flavour."""
    schema: int = SCHEMA

    @property
    def family(self) -> Flavour:
        """The flavour as an object."""
        return FLAVOURS[self.flavour]

    @property
    def built_by(self) -> str:
        """One phrase for messages: release and GPUs."""
        return f"{self.family.title} {self.tensorrt_version} for compute capability {self._targets}"

    @property
    def _targets(self) -> str:
        return "8.0 or later" if self.hardware_compat == "ampere+" else ", ".join(self.compute_capabilities)

    def fits(self, gpu: Gpu) -> bool:
        """Tell whether the engine was built for a GPU like this."""
        if self.hardware_compat == "ampere+":
            return int(gpu.compute_capability.partition(".")[0]) >= 8
        return gpu.compute_capability in self.compute_capabilities

    def runs_on_release(self, release: str) -> bool:
        """Tell whether an installed release of the flavour runs the engine."""
        if self.version_compatible:
            return _numbers(release) >= _numbers(self.tensorrt_version)
        return release == self.tensorrt_version

    def replace(self, **changes: Any) -> EngineRecord:  # noqa: ANN401  (one keyword per field)
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        plain |= {"metadata": self.metadata.to_dict(), "profile": dataclasses.asdict(self.profile)}
        return {**plain, "compute_capabilities": list(self.compute_capabilities), "build": dict(self.build)}

    def save(self, engine: Path) -> None:
        """Write the sidecar of an engine file."""
        sidecar_path(engine).write_text(json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _numbers(release: str) -> tuple[int, ...]:
    """Return the numbers a release begins with: `10.9.0.34` and `11.0.0rc1` give `(10, 9, 0, 34)` and `(11, 0, 0)`."""
    return tuple(map(int, re.findall(r"(?:^|\.)(\d+)", release)))


def sidecar_path(engine: str | Path) -> Path:
    """Return where an engine's sidecar stands: `best.engine` -> `best.engine.json`."""
    return Path(f"{engine}.json")


def this_platform() -> str:
    """Return operating system and processor, e.g. `linux-x86_64`: plans do not move between them."""
    return f"{platform.system()}-{platform.machine()}".lower()


def read_sidecar(engine: Path) -> EngineRecord:
    """Read what stands beside an engine.

    Raises:
        ModelError: There is no sidecar.
        ContractError: It is damaged, or of another schema.
    """
    path = sidecar_path(engine)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ModelError(
            f"{engine} has no sidecar {path.name}, which says what the engine is and where it runs. Copy both files "
            f"together. {BUILD_AGAIN}"
        ) from error
    try:
        return record_from_dict(json.loads(text))
    except (ContractError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ContractError(f"{path} cannot be used: {error}. {BUILD_AGAIN}") from error


def record_from_dict(values: Mapping[str, Any]) -> EngineRecord:
    """Read a record from plain JSON types. Raises ContractError, KeyError or TypeError for what is not one."""
    if values["schema"] != SCHEMA:
        raise ContractError(f"it has schema {values['schema']}, this cb reads schema {SCHEMA}")
    if values["flavour"] not in FLAVOURS:
        raise ContractError(f"flavour '{values['flavour']}' is none of {', '.join(FLAVOURS)}")
    read = {
        "metadata": metadata_from_dict(values["metadata"]),
        "profile": BatchProfile(**values["profile"]),
        "compute_capabilities": tuple(values["compute_capabilities"]),
    }
    return EngineRecord(**{**values, **read})


def same_contract(one: ModelMetadata, other: ModelMetadata) -> bool:
    """Tell whether two contracts ask the same of inference.

    What they report of training and export may differ: the compact form inside a plan may lack it, and parity is known
    only after the plan was built.
    """
    return _essence(one) == _essence(other)


def _essence(metadata: ModelMetadata) -> dict[str, Any]:
    return {name: value for name, value in metadata.to_dict().items() if name not in REPORT_FIELDS}
