"""What a choice of engine depends on: the artifact, the machine, the engines, and what was asked for."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any

from cb_runtime.backends import OpenOptions
from cb_runtime.cores import usable_cores
from cb_runtime.files import sha256_of_file
from cb_runtime.golden import golden_path
from cb_runtime.gpus import list_gpus
from cb_runtime.installed import installed_version
from cb_runtime.stages import MANIFEST, stages_path

_CPU_INFO = Path("/proc/cpuinfo")


def identity_of(path: Path, options: OpenOptions, distributions: tuple[str, ...]) -> dict[str, Any]:
    """Return all that decides which way is fastest, as JSON types.

    Args:
        path: The artifact.
        options: What was asked for.
        distributions: Installed packages of the engines that open it.
    """
    stages = stages_path(path) / MANIFEST
    return {
        "artifact": sha256_of_file(path),
        "stages": sha256_of_file(stages) if options.reuse and stages.is_file() else None,
        "golden_samples": golden_path(path).is_file(),
        "machine": machine(),
        "engines": {name: installed_version(name) for name in distributions},
        "asked": {
            "backend": options.backend,
            "device": options.device,
            "precision": options.precision,
            "threads": options.threads,
            "streams": options.streams,
        },
    }


def machine() -> dict[str, Any]:
    """Return CPU model and features, cores that this process may use, and GPUs."""
    model, features = _cpu()
    return {
        "cpu": model,
        "cpu_features": features,
        "cores": usable_cores(),
        "gpus": [str(gpu) for gpu in list_gpus()],
    }


def _cpu() -> tuple[str, str]:
    """Return the CPU's name and a digest of its features: virtual machines often say no more than the maker's name."""
    if not _CPU_INFO.is_file():
        return platform.processor() or platform.machine(), ""
    first = _CPU_INFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    features = fields.get("flags") or fields.get("Features", "")
    return fields.get("model name") or platform.machine(), hashlib.sha256(features.encode()).hexdigest()[:16]
