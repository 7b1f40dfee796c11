"""What all measurements share: spreads of ratios, what they were made on, JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.files import atomic_path

PACKAGES = (
    "cb-toolkit",
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt-rtx",
    "openvino",
    "av",
    "numpy",
    "opencv-python-headless",
)


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    """Return median, least and greatest."""
    return {"median": float(np.median(values)), "least": float(values.min()), "greatest": float(values.max())}


def machine() -> dict[str, Any]:
    """Return what figures were measured on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "cpu_has": [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if flag in _flags()],
        "versions": {"python": platform.python_version(), **_versions()},
    }


def native_bf16() -> bool:
    """Tell whether the CPU computes in bf16."""
    return bool({"avx512_bf16", "amx_bf16"} & _flags())


def command(script: str) -> str:
    """Return the command that is running, as it can be typed again; places of this machine have their names alone."""
    return " ".join(["python", "-m", script, *map(_without_place, sys.argv[1:])])


def _without_place(word: str) -> str:
    name, equals, value = word.rpartition("=")
    return name + equals + (Path(value).name if Path(value).is_absolute() else value)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cpu_info() -> Mapping[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value}


def _cpu() -> str:
    return _cpu_info().get("model name", platform.processor())


def _flags() -> set[str]:
    return set(_cpu_info().get("flags", "").split())
