"""How to build an engine, as the command line asks for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cb_runtime.errors import UsageError
from cb_runtime.trt.flavours import FLAVOURS
from cb_runtime.trt.sidecar import BatchProfile

FLAVOUR_NAMES = ("auto", *FLAVOURS)
HARDWARE_COMPATS = ("none", "same-cc", "ampere+")
"""On which GPUs an engine of standard TensorRT runs: the model it was built on, its compute capability, or 8.0 on."""

AUTO, OFF = "auto", "off"
"""Timing cache: in the user's cache folder, or none."""


@dataclass(frozen=True)
class EngineOptions:
    """How to build an engine. Raises UsageError for what cannot be obeyed."""

    flavour: str = "auto"
    """`auto`, `tensorrt` or `rtx`; `auto` takes standard TensorRT where it and a GPU are there."""
    profile: BatchProfile = field(default_factory=lambda: BatchProfile(1, 32, 128))
    """Batch sizes, for all five inputs: 128 is what `cb infer` runs on a GPU."""
    workspace_mib: int | None = None
    """Most scratch memory a layer may use, in MiB; None leaves it to TensorRT: all the GPU has."""
    timing_cache: str = AUTO
    """`auto`, `off` or a folder: measured kernels of earlier builds, which make a build faster."""
    hardware_compat: str = "none"
    """One of `HARDWARE_COMPATS`; of standard TensorRT only."""
    version_compatible: bool = False
    """Build for later releases too, which costs some speed; of standard TensorRT only."""
    compute_capabilities: tuple[str, ...] = ()
    """GPUs to build for, e.g. `("8.6", "8.9")`; of TensorRT for RTX only. Empty: 8.0 and later."""

    def __post_init__(self) -> None:
        _one_of("--flavor", self.flavour, FLAVOUR_NAMES)
        _one_of("--hardware-compat", self.hardware_compat, HARDWARE_COMPATS)
        if not 1 <= self.profile.minimum <= self.profile.optimum <= self.profile.maximum:
            raise UsageError(f"--batch MIN:OPT:MAX must ascend from 1 or more, got {self.profile}.")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise UsageError(f"--workspace must be 1 MiB or more, got {self.workspace_mib}.")
        standard = [option for option, given in self.standard_only.items() if given]
        if standard and self.compute_capabilities:
            raise UsageError(
                f"{standard[0]} is for --flavor tensorrt, --compute-capability for --flavor rtx: give one of them."
            )

    @property
    def standard_only(self) -> dict[str, bool]:
        """Options that only standard TensorRT takes, and whether they were given."""
        return {"--hardware-compat": self.hardware_compat != "none", "--version-compatible": self.version_compatible}


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{option} must be one of {', '.join(known)}, got '{value}'.")


def profile_from_text(text: str) -> BatchProfile:
    """Read `MIN:OPT:MAX`. Raises UsageError for anything else."""
    if not re.fullmatch(r"\d+:\d+:\d+", text, re.ASCII):
        raise UsageError(f"--batch takes MIN:OPT:MAX, e.g. 1:32:128, got '{text}'.")
    return BatchProfile(*map(int, text.split(":")))


def compute_capabilities_from_text(text: str) -> tuple[str, ...]:
    """Read `8.6,8.9`. Raises UsageError for anything else."""
    if not re.fullmatch(r"\d+\.\d(,\d+\.\d)*", text, re.ASCII):
        raise UsageError(f"--compute-capability takes numbers like 8.6,8.9, got '{text}'.")
    return tuple(dict.fromkeys(text.split(",")))
