"""Which artifact of a package suits a machine best, and why.

The order, the first reason deciding:

1. On a GPU before on the CPU, where the device is left to `auto`.
2. On a GPU an engine before an ONNX file; engines that cannot run there are left out, with the reason.
3. Among ONNX files one with a staged graph, which encodes each frame of a video once, before one without.
4. The arithmetic that is fastest there, see `FASTEST`.
5. An engine made for this GPU before one for several; then the place in the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cb_runtime.backends import Device, device_from_text
from cb_runtime.gpus import Gpu
from cb_runtime.package.machine import Machine
from cb_runtime.package.manifest import Artifact, Manifest
from cb_runtime.trt.sidecar import ENGINE_SUFFIX, EngineRecord

FASTEST = {
    "cpu": ("int8", "fp32", "tf32", "fp16", "bf16"),
    "onnx": ("fp16", "bf16", "tf32", "fp32", "int8"),
    "engine": ("int8", "fp16", "bf16", "tf32", "fp32"),
}
"""Precisions, the fastest first: on a CPU, which emulates half precision; in ONNX files on a GPU, where ONNX Runtime's
CUDA provider has no int8 arithmetic; and in engines."""

Records = Mapping[str, EngineRecord]
"""File of an engine in a package to what its sidecar says."""


@dataclass(frozen=True)
class Attempt:
    """An artifact to open."""

    artifact: Artifact
    device: str
    """What to open it on."""
    why: str
    """Why it is tried at this place of the order."""


@dataclass(frozen=True)
class Choice:
    """What to open on a machine."""

    attempts: tuple[Attempt, ...]
    """The best first; empty when nothing can run."""
    left_out: tuple[str, ...] = ()
    """Engines that cannot run there, and why; one phrase each."""


def choose(manifest: Manifest, records: Records, device: str, machine: Machine, *, reuse: bool = True) -> Choice:
    """Return what to open, the best first.

    Args:
        manifest: The package's.
        records: What the sidecars of its engines say.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes GPUs first where there are any.
        machine: Where it is to run.
        reuse: Whether frames are to be encoded once each, which needs a staged graph.
    """
    asked = device_from_text(device)
    attempts: list[Attempt] = []
    left_out: tuple[str, ...] = ()
    if asked.kind == "cuda" or (asked.kind == "auto" and machine.gpus):
        attempts, left_out = _on_gpu(manifest, records, asked, machine, reuse=reuse)
    if asked.kind != "cuda":
        attempts += _on_cpu(manifest, reuse=reuse)
    return Choice(tuple(attempts), left_out)


def _on_gpu(
    manifest: Manifest, records: Records, asked: Device, machine: Machine, *, reuse: bool
) -> tuple[list[Attempt], tuple[str, ...]]:
    gpus = machine.gpus if asked.kind == "auto" else machine.gpus[asked.index : asked.index + 1]
    # Where the driver does not tell, the engine does when it is opened.
    lacks = {file: machine.lacks(record, gpus) if gpus else None for file, record in records.items()}

    def key(artifact: Artifact) -> tuple[bool, bool, int, int]:
        record = records.get(artifact.file)
        order = FASTEST["onnx" if record is None else "engine"]
        made_for = 0 if record is None else _breadth(record)
        return record is None, reuse and not manifest.is_staged(artifact), order.index(artifact.precision), made_for

    ranked = sorted((a for a in manifest.artifacts if lacks.get(a.file) is None), key=key)
    place = f"a GPU, {gpus[0]}" if len(gpus) == 1 else "a GPU"
    left_out = tuple(f"{a.folder} ({lacks[a.file]})" for a in manifest.artifacts if lacks.get(a.file) is not None)
    return [
        Attempt(a, _device(asked, gpus, records.get(a.file)), _why(manifest, a, ranked, place)) for a in ranked
    ], left_out


def _breadth(record: EngineRecord) -> int:
    """Return how many kinds of GPUs an engine is for: what serves many is slower on each."""
    return 100 if record.hardware_compat == "ampere+" else len(record.compute_capabilities)


def _device(asked: Device, gpus: Sequence[Gpu], record: EngineRecord | None) -> str:
    """Return what to open an artifact on: as asked, or the first GPU that it fits."""
    if asked.kind != "auto":
        return str(asked)
    return f"cuda:{next(gpu.index for gpu in gpus if record is None or record.fits(gpu))}"


def _on_cpu(manifest: Manifest, *, reuse: bool) -> list[Attempt]:
    def key(artifact: Artifact) -> tuple[bool, int]:
        return reuse and not manifest.is_staged(artifact), FASTEST["cpu"].index(artifact.precision)

    ranked = sorted((a for a in manifest.artifacts if not needs_gpu(a)), key=key)
    return [Attempt(a, "cpu", _why(manifest, a, ranked, "a CPU")) for a in ranked]


def needs_gpu(artifact: Artifact) -> bool:
    """Tell whether an artifact is an engine."""
    return PurePosixPath(artifact.file).suffix == ENGINE_SUFFIX


def _why(manifest: Manifest, artifact: Artifact, ranked: Sequence[Artifact], place: str) -> str:
    if len(ranked) == 1:
        return f"{artifact.folder} is the only one of {len(manifest.artifacts)} artifacts for {place}"
    staged = ", in stages," if manifest.is_staged(artifact) else ""
    rank = ranked.index(artifact) + 1
    best = "the fastest" if rank == 1 else f"number {rank} in speed"
    return f"{artifact.folder}{staged} is {best} of {', '.join(a.folder for a in ranked)} on {place}"
