"""Inference engines, one module each, all with the same three names.

A backend module has

- `SUFFIXES`: file name endings it opens, e.g. `(".onnx",)`;
- `available() -> Availability`: whether it can run here, why not, and what to do about it;
- `open_artifact(path, options) -> Executor`: the model on a device, or a `CbError`.

Importing a backend module is cheap: the engine itself is imported when it is first used. Modules of this folder stand
in `OWN`; others are named by the entry points `cb.backends`, so that `cb_core` can offer one for `.pt` without the leaf
knowing torch. Where several open a kind of file, `SHARED` says which, and which one of them does unless another is
asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ModelError, UsageError
from cb_runtime.installed import entry_points_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

METADATA_KEY = "cb_metadata"
"""Key of the `metadata_props` entry of an ONNX file that holds `ModelMetadata.to_json()`."""

OWN = ("onnxruntime", "openvino", "package", "tensorrt")
"""Backends of this folder. They are loaded by name: looking for others takes as long as loading a small model."""

BACKENDS_GROUP = "cb.backends"
"""Entry points of backends that other packages bring."""

SHARED = {".onnx": ("onnxruntime", "openvino")}
"""The backends of kinds of files that several open; the first, with which exports are proven, is the plain one."""

Feeds = Mapping[str, NDArray[Any]]
"""Input name to array, in the form of an exported graph."""

Logits = NDArray[np.float32]
"""float32 `(batch, 5)`, one column per label."""


@dataclass(frozen=True)
class Device:
    """Where to run, as the user asked for it."""

    kind: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    index: int = 0
    """Which GPU, counted from 0."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.kind == "cuda" else self.kind


@dataclass(frozen=True)
class OpenOptions:
    """How to open an artifact."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    threads: int | None = None
    """Threads for arithmetic on the CPU; None lets the engine choose."""
    plugins: tuple[str, ...] = ()
    """Python files that register architectures; only a backend that runs checkpoints uses them."""
    reuse: bool = True
    """Open an artifact's staged graph too, where it has one; only a backend that runs artifacts uses it."""
    public_key: str | Path | None = None
    """PEM file of the key that must have signed a package; only the backend for packages uses it."""
    precision: str = "auto"
    """Arithmetic: `auto` for the artifact's own, or one of `cb_runtime.parity.TOLERANCES`."""
    streams: int | None = None
    """Batches, or pieces of one, computed at once on the CPU, where the engine can; None: as it does by itself."""
    backend: str = "auto"
    """Which engine runs what is in a package; only the backend for packages uses it."""


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run on this machine."""

    ok: bool
    detail: str
    """What was found: versions and devices, or what is missing."""
    fix: str | None = None
    """What to do when it is not available; None otherwise."""


class Executor(Protocol):
    """A model opened on a device.

    One that also has the model in stages has them as `stages`, a `Stages`. One whose `run` takes arrays in a GPU's
    memory, `cb_runtime.arrays.DeviceArray`, says so by `takes_device_arrays = True`.
    """

    @property
    def metadata(self) -> ModelMetadata:
        """The contract the model was made for."""
        ...

    def run(self, feeds: Feeds) -> Logits:
        """Return float32 logits `(batch, 5)` for checked inputs in graph form."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return `backend`, `device`, `reason` (why this device) and the engine's own details, as JSON types."""
        ...


class Backend(Protocol):
    """What a backend module offers."""

    SUFFIXES: tuple[str, ...]

    def available(self) -> Availability:
        """Tell whether the engine can run on this machine."""
        ...

    def open_artifact(self, path: Path, options: OpenOptions) -> Executor:
        """Open a model file. Raises CbError when it cannot be run as asked."""
        ...


def device_from_text(text: str) -> Device:
    """Read `auto`, `cpu`, `cuda` or `cuda:N`. Raises UsageError for anything else."""
    kind, colon, index = text.partition(":")
    if text in ("auto", "cpu", "cuda"):
        return Device(text)
    if kind == "cuda" and colon and index.isascii() and index.isdigit():
        return Device(kind, int(index))
    raise UsageError(f"Unknown device {text!r}. Choose auto, cpu, cuda or cuda:N, e.g. cuda:1.")


def backend_names() -> list[str]:
    """Return the names of all backends, of this package and of others that are installed, sorted."""
    return sorted({*OWN, *_entries()})


def load_backend(name: str) -> Backend:
    """Import the module of one backend. Raises UsageError for an unknown name."""
    if name in OWN:
        return cast("Backend", importlib.import_module(f"{__name__}.{name}"))
    entry = _entries().get(name)
    if entry is None:
        raise UsageError(f"Unknown backend '{name}'. Known: {', '.join(backend_names())}.")
    return cast("Backend", entry.load())


def backends_for(path: Path) -> Iterator[tuple[str, Backend]]:
    """Give name and module of every backend that opens files like `path`, the plain one first.

    Lazily: opening an .onnx file need not import the module for checkpoints.
    """
    for name in SHARED.get(path.suffix.lower()) or backend_names():
        backend = load_backend(name)
        if path.suffix.lower() in backend.SUFFIXES:
            yield name, backend


def backend_for(path: Path, name: str = "auto") -> tuple[str, Backend]:
    """Return name and module of the backend that opens files like `path`.

    `auto` is the plain one. Raises ModelError when there is none, and UsageError for one that does not open them.
    """
    for found, backend in backends_for(path):
        if name in ("auto", found):
            return found, backend
    suffixes = {suffix for other in backend_names() for suffix in load_backend(other).SUFFIXES}
    if name == "auto" or path.suffix.lower() not in suffixes:
        raise ModelError(f"{path.name} is not a model this cb can open. It opens {', '.join(sorted(suffixes))} files.")
    load_backend(name)  # an unknown one is answered with all that are known
    others = ", ".join(found for found, _ in backends_for(path))
    raise UsageError(f"--backend {name} does not open {path.suffix} files. Those that do: {others}.")


@cache
def _entries() -> dict[str, EntryPoint]:
    return entry_points_of(BACKENDS_GROUP)
