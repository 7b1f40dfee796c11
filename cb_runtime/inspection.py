"""What stands in a model file: sizes, digests, the arithmetic of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cb_runtime.files import sha256_of_file
from cb_runtime.golden import golden_path
from cb_runtime.onnx_layers import layers_of_bytes, layers_of_onnx
from cb_runtime.package import Package
from cb_runtime.stages import stages_path
from cb_runtime.trt.sidecar import ENGINE_SUFFIX, read_sidecar, sidecar_path

_ENGINE_TYPES = {"Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Int8": "int8"}
"""TensorRT's names of types, by those that ONNX files get here."""


def describe_file(artifact: Path) -> dict[str, Any]:
    """Return path, digest and size of a model file, and the sizes of what belongs to it."""
    golden, sidecar, stages = golden_path(artifact), sidecar_path(artifact), stages_path(artifact)
    beside = [golden, sidecar, *(sorted(stages.iterdir()) if stages.is_dir() else ())]
    return {
        **_file(artifact),
        "golden_samples": str(golden) if golden.is_file() else None,
        "beside": {str(path.relative_to(artifact.parent)): path.stat().st_size for path in beside if path.is_file()},
    }


def describe_package(artifact: Path, packed: Package) -> dict[str, Any]:
    """Return path, digest and size of a package, and the sizes of its members."""
    manifest = packed.manifest
    return {
        **_file(artifact),
        "golden_samples": str(artifact),
        "artifacts": ", ".join(one.file for one in manifest.artifacts),
        "signed": packed.signed,
        "licence": manifest.licence,
        "members": {name: member.size for name, member in manifest.members.items()},
    }


def _file(artifact: Path) -> dict[str, Any]:
    return {"path": str(artifact), "sha256": sha256_of_file(artifact), "bytes": artifact.stat().st_size}


def layers_of(artifact: Path, packed: Package | None = None) -> dict[str, Mapping[str, Any]]:
    """Return the share of layers with weights by the arithmetic they compute in, for each graph.

    Of an ONNX file: as its graph says. Of an engine: as the compiled layers are, from its sidecar. A checkpoint has no
    graph, and gives nothing. Raises ModelError when a file cannot be read.
    """
    if packed is not None:
        names = [one.file for one in packed.manifest.artifacts if one.file.endswith(".onnx")]
        return {name: _plain(layers_of_bytes(packed.read(name))) for name in names}
    if artifact.suffix.lower() == ".onnx":
        return {artifact.name: _plain(layers_of_onnx(artifact))}
    if artifact.suffix.lower() == ENGINE_SUFFIX:
        proof = read_sidecar(artifact).precision_proof or {}
        shares: Mapping[str, float] = proof.get("shares", {})
        return {artifact.name: {_ENGINE_TYPES.get(name, name): {"layer_share": one} for name, one in shares.items()}}
    return {}


def _plain(shares: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(share) for name, share in shares.items()}
