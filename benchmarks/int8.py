"""int8 of a trained model beside its float32: does the gate let it pass, how do both decide, how fast is each?

    python benchmarks/int8.py --checkpoint best.pt --judge films.db --data films.db --split test --output FILE.json

Exports the checkpoint in fp32 and in int8, calibrated on golden samples and, with --calibration, on training pairs of a
dataset, both judged on the validation pairs of --judge too; then compares each with fp32 on labelled pairs of --data
that had no part in any of it, in one process by turns. The file holds the commands and what they printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cb_runtime.files import atomic_path

CB = [sys.executable, "-c", "from cb_runtime.cli import main; main()"]
PACKAGES = ("torch", "onnx", "onnxruntime")
GATE = ("samples", "argmax_agreement", "macro_f1_reference", "macro_f1_candidate", "macro_f1_loss", "failures")
"""What is kept of the gate's outcome on labelled samples."""


class Commands:
    """Runs `cb` commands in a folder and remembers them as a user would type them there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.typed: list[str] = []

    def run(self, *arguments: object) -> dict[str, Any]:
        """Return the JSON document of a command, with its exit code under `exit_code`."""
        words = [*map(str, arguments), "--json"]
        self.typed.append(" ".join(["cb", *(Path(word).name if "/" in word else word for word in words)]))
        done = subprocess.run([*CB, *words], capture_output=True, text=True, check=False, cwd=self.folder)
        try:
            document: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise SystemExit(f"{self.typed[-1]} ended with exit code {done.returncode}:\n{done.stderr}") from None
        return {**document, "exit_code": done.returncode}


def int8_options(arguments: argparse.Namespace) -> dict[str, list[object]]:
    """Return the options of each int8 export, by the name of its file."""
    judge = [] if arguments.judge is None else ["--judge", arguments.judge.resolve()]
    kinds: dict[str, list[object]] = {"int8.onnx": judge}
    if arguments.calibration is not None:
        kinds["int8_calibrated.onnx"] = ["--calibration", arguments.calibration.resolve(), *judge]
    return kinds


def export(commands: Commands, checkpoint: str, name: str, options: Sequence[object]) -> dict[str, Any]:
    """Export int8, published whatever the gate says, and return what it said."""
    how = ["--precision", "int8", *options, "--no-staged", "--allow-parity-failure", "--output", name]
    document = commands.run("export", "--checkpoint", checkpoint, *how)
    parity, calibration = document["parity"], document["metadata"]["calibration"]
    return {
        "size": document["size"],
        "calibration": {"source": calibration["source"], "samples": calibration["samples"]},
        "gate": {
            "passed": parity["ok"],
            "judge_pairs": parity.get("judge_pairs"),
            **{name: parity["golden"][name] for name in GATE},
            "margins_of_flips": [flip["margin"] for flip in parity["golden"]["flips"]],
        },
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the whole document."""
    commands, checkpoint = Commands(folder), arguments.checkpoint
    checkpoint = checkpoint if checkpoint == "default" else str(Path(checkpoint).resolve())
    float32 = commands.run("export", "--checkpoint", checkpoint, "--no-staged", "--output", "fp32.onnx")
    files = {name: export(commands, checkpoint, name, how) for name, how in int8_options(arguments).items()}
    for name, found in files.items():
        where = ["--data", arguments.data.resolve(), "--split", arguments.split, "--pairs", arguments.pairs]
        speed = ["--threads", arguments.threads, "--rounds", arguments.rounds, "--device", "cpu"]
        found["compared_with_fp32"] = commands.run("compare", "fp32.onnx", name, *where, *speed)["comparison"]
    return {
        "architecture": float32["metadata"]["architecture_name"],
        "checkpoint_sha256": float32["metadata"]["checkpoint_sha256"],
        "validation_metrics": float32["metadata"]["validation_metrics"],
        "machine": platform.machine(),
        "versions": {name: version(name) for name in PACKAGES},
        "commands": commands.typed,
        "fp32_size": float32["size"],
        "files": files,
    }


def main() -> None:
    """Parse arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="default", help="a .pt of cb train, or default: the model in the box")
    parser.add_argument("--calibration", type=Path, help="dataset to calibrate on")
    parser.add_argument("--judge", type=Path, help="dataset whose validation pairs the gate judges")
    parser.add_argument("--data", type=Path, required=True, help="dataset to compare int8 with fp32 on")
    parser.add_argument("--split", default="test", help="split of it")
    parser.add_argument("--pairs", type=int, default=800, help="pairs of it at most")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=9, help="timed runs of each, by turns")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="cb-int8-") as folder:
        document = measure(arguments, Path(folder))
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, found in document["files"].items():
        told = found["compared_with_fp32"]
        print(
            f"{name}: gate {'passed' if found['gate']['passed'] else 'FAILED'}, {told['agreement']:.2%} alike, ", end=""
        )
        print(f"macro F1 {told['macro_f1']}, {told['speed']['ratio']:.2f} times as fast")


if __name__ == "__main__":
    main()
