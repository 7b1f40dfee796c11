"""Which artifact of a package suits this machine best, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cb_runtime.backends import Device, device_from_text
from cb_runtime.package.manifest import Artifact, Manifest
from cb_runtime.trt.sidecar import ENGINE_SUFFIX

FASTEST = {
    "cpu": ("int8", "fp32", "tf32", "fp16", "bf16"),
    "onnx": ("fp16", "bf16", "tf32", "fp32", "int8"),
    "engine": ("int8", "fp16", "bf16", "tf32", "fp32"),
}
"""Precisions, the fastest first: on a CPU, which emulates half precision; in ONNX files on a GPU, where ONNX Runtime's
CUDA provider has no int8 arithmetic; and in engines."""


@dataclass(frozen=True)
class Attempt:
    """An artifact to open."""

    artifact: Artifact
    device: str
    """What to open it on."""
    why: str
    """Why it is tried at this place of the order."""


def attempts(manifest: Manifest, device: str, gpus: Sequence[str], *, reuse: bool = True) -> list[Attempt]:
    """Return what to open, the best first; empty when no artifact can run on the device.

    Args:
        manifest: The package's.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes GPUs first where there are any.
        gpus: Compute capabilities of this machine's GPUs, by index.
        reuse: Whether frames are to be encoded once each, which needs a staged graph.
    """
    asked = device_from_text(device)
    result = []
    if asked.kind == "cuda" or (asked.kind == "auto" and gpus):
        result += _on_gpu(manifest, asked, gpus, reuse=reuse)
    if asked.kind != "cuda":
        result += _on_cpu(manifest, reuse=reuse)
    return result


def _on_gpu(manifest: Manifest, asked: Device, gpus: Sequence[str], *, reuse: bool) -> list[Attempt]:
    here = gpus[asked.index] if asked.index < len(gpus) else None
    # Where the driver does not tell, the engine does when it is opened.
    fitting = [a for a in manifest.artifacts if here is None or a.compute_capability in (None, here)]

    def key(artifact: Artifact) -> tuple[bool, bool, int]:
        engine = _needs_gpu(artifact)
        order = FASTEST["engine" if engine else "onnx"]
        return not engine, reuse and not manifest.is_staged(artifact), order.index(artifact.precision)

    device = "cuda" if asked.kind == "auto" else str(asked)
    ranked = sorted(fitting, key=key)
    return [Attempt(a, device, _why(manifest, a, ranked, f"a GPU of compute capability {here}")) for a in ranked]


def _on_cpu(manifest: Manifest, *, reuse: bool) -> list[Attempt]:
    def key(artifact: Artifact) -> tuple[bool, int]:
        return reuse and not manifest.is_staged(artifact), FASTEST["cpu"].index(artifact.precision)

    ranked = sorted((a for a in manifest.artifacts if not _needs_gpu(a)), key=key)
    return [Attempt(a, "cpu", _why(manifest, a, ranked, "a CPU")) for a in ranked]


def _needs_gpu(artifact: Artifact) -> bool:
    return PurePosixPath(artifact.file).suffix == ENGINE_SUFFIX


def _why(manifest: Manifest, artifact: Artifact, ranked: Sequence[Artifact], place: str) -> str:
    if len(ranked) == 1:
        return f"{artifact.folder} is the only one of {len(manifest.artifacts)} artifacts for {place}"
    staged = ", in stages," if manifest.is_staged(artifact) else ""
    rank = ranked.index(artifact) + 1
    best = "the fastest" if rank == 1 else f"number {rank} in speed"
    return f"{artifact.folder}{staged} is {best} of {', '.join(a.folder for a in ranked)} on {place}"
