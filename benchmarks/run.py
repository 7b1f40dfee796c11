"""Pairs per second: the loop a user would write around PyTorch, and our runtime on ONNX Runtime, in one process.

    python benchmarks/run.py --output benchmarks/results/pairs_per_second.json

All contenders start from the same uint8 strips in memory and end at label probabilities of every consecutive pair in
both directions. Each round runs all contenders one after another, so that a machine whose speed drifts slows all alike;
the figures are medians over rounds, and the ratios are those of the same round. Agreement is with the loop's argmax.
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
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from contenders import (
    Contender,
    Strips,
    centred_layout_inputs,
    moving_strips,
    onnx_file,
    pytorch_loop,
    random_architecture,
    runtime_on,
)
from rich.console import Console
from rich.table import Table

from cb_core.registry import get_model_info, list_architectures
from cb_runtime.contract import Preprocessing

LOOP = "PyTorch loop, float32"
RUNTIME = "cb_runtime, ONNX Runtime, float32"
PACKAGES = ("cb-toolkit", "torch", "onnxruntime", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Row:
    """One contender on one architecture."""

    architecture: str
    contender: str
    pairs_per_second: float
    """Median over rounds."""
    slowest: float
    fastest: float
    ratio: float
    """Median over rounds of this contender's rate over the loop's in the same round."""
    agreement: float
    """Share of labels, both directions, equal to the loop's."""
    max_difference: float
    """Largest difference of a label's probability from the loop's."""


def measure(architecture: str, strips: Strips, rounds: int, batch: int, folder: Path) -> list[Row]:
    """Run all contenders in `rounds` rounds and one warm-up; return a row for each."""
    model, inputs = random_architecture(architecture), centred_layout_inputs()
    artifact = onnx_file(model, architecture, folder / f"{architecture}.onnx")
    contenders: dict[str, Contender] = {
        LOOP: pytorch_loop(model, inputs, Preprocessing()),
        RUNTIME: runtime_on(artifact, inputs, batch),
    }
    answers = {name: run(strips[:3]) for name, run in contenders.items()}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            answers[name] = run(strips)
            rates[name].append((len(strips) - 1) / (time.perf_counter() - started))
    return [_row(architecture, name, rates, answers) for name in contenders]


def _row(architecture: str, name: str, rates: dict[str, list[float]], answers: dict[str, np.ndarray]) -> Row:
    ratios = [mine / loops for mine, loops in zip(rates[name], rates[LOOP], strict=True)]
    return Row(
        architecture,
        name,
        statistics.median(rates[name]),
        min(rates[name]),
        max(rates[name]),
        statistics.median(ratios),
        float((answers[name].argmax(axis=2) == answers[LOOP].argmax(axis=2)).mean()),
        float(np.abs(answers[name] - answers[LOOP]).max()),
    )


def _table(rows: list[Row]) -> Table:
    table = Table("architecture", "contender", "pairs/s", "range", "ratio", "agreement", "max difference", box=None)
    for row in rows:
        spread = f"{row.slowest:.1f} to {row.fastest:.1f}"
        rate, ratio = f"{row.pairs_per_second:.1f}", f"{row.ratio:.1f}"
        table.add_row(
            row.architecture, row.contender, rate, spread, ratio, f"{row.agreement:.2%}", f"{row.max_difference:.1e}"
        )
    return table


def main() -> None:
    """Parse arguments, measure, print a table and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=list_architectures(), help="registered names")
    parser.add_argument("--frames", type=int, default=33, help="frames of the video that is scored")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--batch", type=int, default=16, help="pairs per run of the exported model")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    strips = moving_strips(arguments.frames)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for architecture in arguments.architectures:
            rows += measure(architecture, strips, arguments.rounds, arguments.batch, Path(name))
            Console(width=140).print(_table(rows[-2:]))
    if arguments.output:
        arguments.output.write_text(json.dumps(_document(rows, arguments), indent=2) + "\n")


def _document(rows: list[Row], arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "command": " ".join(["python", *sys.argv]),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "bf16_in_hardware": torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "versions": {package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
        "frames": arguments.frames,
        "rounds": arguments.rounds,
        "batch": arguments.batch,
        "parameters": {name: get_model_info(name).total_params for name in arguments.architectures},
        "rows": [asdict(row) for row in rows],
    }


if __name__ == "__main__":
    main()
