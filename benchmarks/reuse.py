"""Frames per second of scoring with and without reuse of features, on one exported late fusion, in one process.

    python benchmarks/reuse.py --output benchmarks/results/feature_reuse.json

The architecture gets random weights, with BatchNorm statistics of random pictures so that its answers differ from pair
to pair, and is exported by `cb_export` with its parity gate: speed depends on neither. Each round scores the same
strips with and without reuse, one after another, so that a machine whose speed drifts slows both; figures are medians
over rounds, and the ratio is that of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import centred_layout_inputs, moving_strips, random_architecture
from rich.console import Console

from cb_core.checkpoint import save_checkpoint
from cb_core.deployment import DeploymentModel
from cb_core.registry import example_inputs
from cb_export.gate import reference_from_model
from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_runtime.contract import LABELS, Decoding, ModelMetadata, graph_input_specs
from cb_runtime.parity import GoldenSamples, golden_path
from cb_runtime.scoring import PairScores, score_strips
from cb_runtime.session import open_session

PACKAGES = ("cb-toolkit", "torch", "onnxruntime", "numpy")
WAYS = {"each frame encoded once": True, "each pair encoded on its own": False}
"""Contender to `reuse`."""


def exported(architecture: str, folder: Path) -> Path:
    """Export an architecture with random weights as `cb export` does; return the artifact."""
    model = random_architecture(architecture)
    _settle_statistics(model)
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        spec.name: rng.integers(0, 256, (4, *spec.shape[1:]), np.uint8)
        if spec.dtype == "uint8"
        else rng.random((4, *spec.shape[1:]), np.float32)
        for spec in graph_input_specs()
    }
    save_checkpoint(folder / "best.pt", epoch=0, model=model, metadata=ModelMetadata(architecture))
    logits = reference_from_model(DeploymentModel(model).eval())(inputs)
    labels = np.arange(4, dtype=np.int64) % len(LABELS)
    GoldenSamples(inputs, logits, labels).save(golden_path(folder / "best.pt"))
    return export_checkpoint(folder / "best.pt", options=ExportOptions(batches=(1, 4), staged=True)).path


def _settle_statistics(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(**example_inputs(4))
    model.eval()


def measure(artifact: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Score the same strips in both ways, in turn; return rates, their ratio and how far the answers are apart."""
    strips, inputs, distances = moving_strips(arguments.frames), centred_layout_inputs(), tuple(arguments.distances)
    sessions = {
        name: open_session(artifact, device="cpu", threads=arguments.threads, reuse=reuse, measure=False)
        for name, reuse in WAYS.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    scores: dict[str, PairScores] = {}
    for session in sessions.values():  # warm up
        score_strips(session, strips[:8], inputs, distances=distances, batch_size=arguments.batch)
    for _ in range(arguments.rounds):
        for name, session in sessions.items():
            started = time.perf_counter()
            scores[name] = score_strips(session, strips, inputs, distances=distances, batch_size=arguments.batch)
            rates[name].append(len(strips) / (time.perf_counter() - started))
    ratios = [one / other for one, other in zip(*rates.values(), strict=True)]
    return {
        "frames_per_second": {name: _spread(values) for name, values in rates.items()},
        "ratio": _spread(ratios),
        **_difference(*scores.values()),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def _difference(one: PairScores, other: PairScores) -> dict[str, float]:
    both = [
        (np.concatenate([*s.forward_at.values(), *s.backward_at.values()])).astype(np.float64) for s in (one, other)
    ]
    agreement = float((both[0].argmax(axis=1) == both[1].argmax(axis=1)).mean())
    return {"agreement": agreement, "max_probability_difference": float(np.abs(both[0] - both[1]).max())}


def main() -> None:
    """Parse arguments, measure, print the figures and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=["aligned_comparison"], help="late fusions")
    parser.add_argument("--frames", type=int, default=48, help="frames of the video that is scored")
    parser.add_argument("--distances", type=int, nargs="+", default=Decoding.distances, help="distances of pairs")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--batch", type=int, default=16, help="pairs, and frames, per run")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    rows = {}
    for architecture in arguments.architectures:
        with tempfile.TemporaryDirectory() as name:
            rows[architecture] = measure(exported(architecture, Path(name)), arguments)
        Console().print_json(data={architecture: rows[architecture]})
    if arguments.output:
        arguments.output.write_text(json.dumps(_document(rows, arguments), indent=2) + "\n")


def _document(rows: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {name: value for name, value in vars(arguments).items() if name != "output"}
    return {
        "command": " ".join(["python", *sys.argv]),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
        **settings,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
