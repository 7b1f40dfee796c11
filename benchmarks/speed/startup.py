"""Start-up: from the start of Python to the first label, beside ONNX Runtime's own load and first run.

    python -m benchmarks.speed.startup --output benchmarks/results/startup.json

Each start is a process of its own, by turns, on the model in the box. The bare contender imports ONNX Runtime and
NumPy, opens the same five-input graph and runs one pair. What else is installed counts: looking through it for backends
takes about a fifth of a millisecond a package, so `--python` names the interpreter of an environment like a service's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.figures import command, machine, markdown, spread, write_json
from cb_runtime.models import default_model_path

_COUNT = "import importlib.metadata as m; print(len(list(m.distributions())))"
BARE = "ONNX Runtime alone"


def contenders(model: Path, python: str) -> dict[str, str]:
    """Return the program of each contender, the bare one first."""
    bare = f"onnxruntime.InferenceSession({str(model)!r}, providers=['CPUExecutionProvider'])"
    programs = {BARE: _program("import onnxruntime", bare, "run(None, feeds)")}
    for backend, title in {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}.items():
        if subprocess.run([python, "-c", f"import {backend}"], capture_output=True, check=False).returncode:
            continue  # the environment is without
        for name, opened, reuse, run in (
            ("open_session on {}, for pairs alone", "open_session", False, "probabilities"),
            ("BoundaryPredictor on {}, five-input graph", "BoundaryPredictor", False, "predict_pairs"),
            ("BoundaryPredictor on {}, with staged graph", "BoundaryPredictor", True, "predict_pairs"),
        ):
            call = f"{opened}({str(model)!r}, device='cpu', backend={backend!r}, reuse={reuse})"
            programs[name.format(title)] = _program(f"from cb_runtime import {opened}", call, f"{run}(feeds)")
    return programs


def _program(imports: str, opening: str, running: str) -> str:
    """Return a program that imports, opens a model, answers one pair, and prints the seconds of each as JSON."""
    return f"""
import json, time
began = time.perf_counter()
import numpy
{imports}
imported = time.perf_counter()
model = {opening}
loaded = time.perf_counter()
feeds = {{name: numpy.zeros((1, 48, 480, 3), numpy.uint8) for name in ("ocr_viz", "frame1", "frame2")}}
feeds["spatial_features"] = numpy.zeros((1, 6), numpy.float32)
feeds["font_embedding"] = numpy.zeros((1, 512), numpy.float32)
model.{running}
print(json.dumps({{"import": imported - began, "load": loaded - imported, "first": time.perf_counter() - loaded}}))
"""


def measure(model: Path, rounds: int, python: str) -> list[dict[str, Any]]:
    """Start all contenders by turns; return a row for each."""
    programs = contenders(model, python)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    # An installed package is compiled once; a machine that forbids it would compile all of ours at every start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for number in range(-1, rounds):  # the first round fills the file cache
        for name, program in programs.items():
            done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True, env=environment)
            if number >= 0:
                taken[name].append(json.loads(done.stdout))
    totals = {name: np.array([sum(one.values()) for one in starts]) for name, starts in taken.items()}
    return [
        {
            "contender": name,
            "seconds": spread(totals[name]),
            "ratio": spread(totals[name] / totals[BARE]),
            **{
                f"{part}_seconds": float(np.median([one[part] for one in starts]))
                for part in ("import", "load", "first")
            },
        }
        for name, starts in taken.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    cells = [
        [
            row["contender"],
            *(f"{row[f'{part}_seconds']:.2f}" for part in ("import", "load", "first")),
            f"{row['seconds']['median']:.2f}",
            f"{row['ratio']['median']:.2f}",
        ]
        for row in rows
    ]
    return markdown(("contender", "import s", "load s", "first answer s", "all s", "ratio"), cells)


def main() -> None:
    """Measure, print a table, and write JSON and Markdown when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="starts of each contender that count")
    parser.add_argument("--python", default=sys.executable, help="interpreter  [default: the one that runs this]")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON, and as Markdown beside it")
    arguments = parser.parse_args()
    rows = measure(default_model_path(), arguments.rounds, arguments.python)
    print(table(rows))
    if arguments.output:
        head = {"command": command("benchmarks.speed.startup"), **machine(), "rounds": arguments.rounds}
        head["packages_installed"] = int(subprocess.check_output([arguments.python, "-c", _COUNT], text=True))
        write_json(arguments.output, {**head, "rows": rows})
        arguments.output.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
