"""Which code and which packages made an artifact: the part of its lineage that only the exporter knows."""

from __future__ import annotations

from typing import Any

import torch

from cb_core.provenance import code_commit, installed_versions
from cb_runtime.contract import ModelMetadata

PACKAGES = ("cb-toolkit", "torch", "torchvision", "peft", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "numpy")
"""Packages whose release can change an artifact or its parity; a target adds its own."""


def made_by(checkpoint: ModelMetadata) -> dict[str, Any]:
    """Return the fields of an artifact's metadata that say what made it, given those of its checkpoint."""
    return {
        "training_versions": dict(checkpoint.producer_versions),
        "export_commit": code_commit(),
        "producer_versions": {**installed_versions(PACKAGES), "torch": torch.__version__},
    }
