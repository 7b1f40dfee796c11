"""TensorRT comes in two flavours with one API: standard TensorRT, and TensorRT for RTX.

Standard TensorRT runs on every NVIDIA GPU it supports and builds only where one is. TensorRT for RTX runs on GeForce
RTX and RTX workstation GPUs and builds anywhere. An engine belongs to the flavour, and to the exact release, that built
it.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

from cb_runtime.errors import MissingPackageError, ModelError


@dataclass(frozen=True)
class Flavour:
    """One of the two packages."""

    name: str
    """As `--flavor` takes it: `tensorrt` or `rtx`."""
    module: str
    """Its Python module."""
    title: str
    """What NVIDIA calls it."""

    @property
    def is_installed(self) -> bool:
        """Whether its module can be found; it may still be broken."""
        return importlib.util.find_spec(self.module) is not None


STANDARD = Flavour("tensorrt", "tensorrt", "TensorRT")
RTX = Flavour("rtx", "tensorrt_rtx", "TensorRT for RTX")
FLAVOURS = {flavour.name: flavour for flavour in (STANDARD, RTX)}
"""By name."""


def load_flavour(flavour: Flavour) -> ModuleType:
    """Import a flavour's module.

    Raises:
        MissingPackageError: It is not installed.
        ModelError: It is installed and cannot be imported, as the index's `tensorrt`, whose libraries are not in it.
    """
    if not flavour.is_installed:
        raise MissingPackageError(flavour.module)
    try:
        return importlib.import_module(flavour.module)
    except Exception as error:  # native libraries that are missing or too old fail in any way
        raise ModelError(
            f"{flavour.module} is installed but cannot be imported: {error}. Install {flavour.title} again, with its "
            "libraries."
        ) from error


def flavour_version(flavour: Flavour) -> str:
    """Return the installed release, e.g. `10.9.0.34`. Raises what `load_flavour` raises."""
    return str(load_flavour(flavour).__version__)
