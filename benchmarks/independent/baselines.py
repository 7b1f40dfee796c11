"""What others get on the same frames: the OCR loop and the classical edge method, beside a model of ours.

    python benchmarks/independent/baselines.py SET --output benchmarks/results/independent_baselines.json
    python benchmarks/independent/baselines.py SET --output ... --checkpoint MODEL.onnx --contenders cb
    python benchmarks/independent/baselines.py SET --output ... --whole --contenders edges

OCR on every frame is slow, so contenders meet on the first seconds of some videos of the set, drawn by the seed; with
`--whole` on all frames of all videos. The caption region is found once, by our layout, and given to all. Rows that the
output holds of other contenders on the same frames are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from contests import (
    Contender,
    Excerpt,
    Result,
    cb_contender,
    compete,
    edge_contender,
    excerpts,
    full_frame_cpu_seconds,
    ocr_contender,
)
from edges import EdgeRules
from ocr_loop import OcrRules
from rich.console import Console
from rich.table import Table

from cb_core.synth.truth import TRUTH_SUFFIX
from cb_runtime.files import atomic_path

CONTENDERS = ("ocr", "edges", "cb")
PACKAGES = ("cb-toolkit", "rapidocr", "onnxruntime", "numpy", "opencv-python-headless")


def main() -> None:
    """Parse arguments, let contenders run, print a table and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="videos with ground truth")
    parser.add_argument("--videos", type=int, default=10, help="how many are drawn")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each, from its start")
    parser.add_argument("--seed", type=int, default=1, help="draws the videos")
    parser.add_argument("--whole", action="store_true", help="all frames of all videos instead")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="cb needs --checkpoint")
    parser.add_argument("--checkpoint", type=Path, help="our model")
    parser.add_argument("--output", type=Path, help="JSON to write, or to add rows to")
    arguments = parser.parse_args()
    names = arguments.contenders or [name for name in CONTENDERS if name != "cb" or arguments.checkpoint]
    if "cb" in names and arguments.checkpoint is None:
        parser.error("the contender cb needs --checkpoint MODEL")
    cv2.setNumThreads(1)
    course = list(excerpts(arguments.folder, drawn(arguments), None if arguments.whole else arguments.seconds))
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: _contender(name, arguments.checkpoint, Path(scratch)) for name in names}
        results = [compete(name, contender, course, _tell) for name, contender in made.items()]
    section = _section(course, results, arguments)
    if arguments.output:
        _write(arguments.output, "whole" if arguments.whole else "excerpts", section)
    Console(width=140).print(_table(section["rows"]))


def drawn(arguments: argparse.Namespace) -> list[str]:
    """Return the names of the videos that are looked at, in order."""
    names = sorted(path.name.removesuffix(TRUTH_SUFFIX) for path in arguments.folder.glob(f"*{TRUTH_SUFFIX}"))
    if arguments.whole:
        return names
    chosen = np.random.default_rng(arguments.seed).permutation(names)[: arguments.videos]
    return sorted(map(str, chosen))


def _contender(name: str, checkpoint: Path, scratch: Path) -> Contender:
    if name == "cb":
        return cb_contender(checkpoint, scratch)
    return ocr_contender(OcrRules()) if name == "ocr" else edge_contender(EdgeRules())


def _tell(done: str) -> None:
    print(done, file=sys.stderr, flush=True)


def _section(course: Sequence[Excerpt], results: Sequence[Result], arguments: argparse.Namespace) -> dict[str, Any]:
    rows = [result.to_dict() for result in results]
    for row in rows:
        if row["contender"] == "ocr":
            row["cpu_seconds_per_full_frame"] = full_frame_cpu_seconds(course)
    rules = {"ocr": vars(OcrRules()), "edges": vars(EdgeRules())}
    return {
        "command": " ".join(
            ["python benchmarks/independent/baselines.py", *(Path(word).name for word in sys.argv[1:])]
        ),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
        "seconds": None if arguments.whole else arguments.seconds,
        "frames": {excerpt.video.name: excerpt.frames for excerpt in course},
        "boundaries": sum(len(excerpt.truth) for excerpt in course),
        "videos_without_layout": [excerpt.video.name for excerpt in course if excerpt.layout is None],
        "layout_cpu_seconds_per_video": sum(excerpt.layout_cpu_seconds for excerpt in course) / len(course),
        "rules": rules,
        "rows": rows,
    }


def _write(path: Path, name: str, section: dict[str, Any]) -> None:
    """Write a section, keeping the file's other sections, and rows of other contenders on the same frames."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    old = document.get(name, {})
    if old.get("frames") == section["frames"]:
        mine = {row["contender"] for row in section["rows"]}
        section["rows"] = [row for row in old["rows"] if row["contender"] not in mine] + section["rows"]
    document[name] = section
    with atomic_path(path) as fresh:
        fresh.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("contender", "F1 @0", "F1 @1", "F1 @2", "precision @1", "recall @1", "CPU ms/frame", box=None)
    for row in rows:
        scores = row["scores"]
        figures = [score["f1"] for score in scores] + [scores[1]["precision"], scores[1]["recall"]]
        cost = f"{1000 * row['cpu_seconds_per_frame']:.1f}"
        table.add_row(row["contender"], *(f"{figure:.3f}" for figure in figures), cost)
    return table


if __name__ == "__main__":
    main()
