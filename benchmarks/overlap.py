"""Frames per second from an MP4 with the stages in turn and overlapped, on one core and on several.

    python benchmarks/overlap.py --output benchmarks/results/overlap.json

Each number of cores is a process of its own, held to so many cores, where all contenders score the same video one after
another in every round. Ratios are of the same round, so that a machine whose speed drifts slows all contenders; figures
are medians over rounds. On a machine that others use too, more threads get more of it: then compare CPU time, which is
given beside the rates, with the load. The caption region is given: `layout.py` measures finding it. Busy shares of
the stages are those of the last round, overlapped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cb_core.synth.collection import render_videos
from cb_runtime.cores import usable_cores
from cb_runtime.pipeline import Profile
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.scored_video import ScoredVideo

PACKAGES = ("cb-toolkit", "onnxruntime", "numpy", "av")
REGION = "0.05,0.7,0.95,0.98"
SEED = 5
"""Renders H.264."""

IN_TURN = "in turn"
CONTENDERS: dict[str, dict[str, Any]] = {
    IN_TURN: {"overlap": False, "decode_threads": 1},
    "in turn, 2 decode threads": {"overlap": False, "decode_threads": 2},
    "overlapped": {"overlap": True, "decode_threads": 1},
    "overlapped, 2 decode threads": {"overlap": True, "decode_threads": 2},
}


def measure(video: Path, distances: tuple[int, ...], arguments: argparse.Namespace) -> dict[str, Any]:
    """Score one video by all contenders in turn, round after round."""
    predictor = BoundaryPredictor(
        arguments.checkpoint, device="cpu", backend=arguments.backend, threads=usable_cores(), measure=False, coarse=1
    )
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    cpu: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    answers: dict[str, ScoredVideo] = {}
    profile = Profile()
    for number in range(arguments.rounds + 1):  # the first warms up
        for name, options in CONTENDERS.items():
            profile = Profile() if name == "overlapped" else profile
            started, used = time.perf_counter(), time.process_time()
            answers[name] = predictor.score_video(
                video,
                region=REGION,
                distances=distances,
                profile=profile if name == "overlapped" and number == arguments.rounds else None,
                **options,
            )
            if number > 0:
                frames = len(answers[name].pts)
                rates[name].append(frames / (time.perf_counter() - started))
                cpu[name].append(1000 * (time.process_time() - used) / frames)
    return {
        "cores": usable_cores(),
        "distances": list(distances),
        "frames": len(answers[IN_TURN].pts),
        "frames_per_second": {name: _spread(values) for name, values in rates.items()},
        "ratio_to_in_turn": {name: _spread(_ratios(values, rates[IN_TURN])) for name, values in rates.items()},
        "cpu_ms_per_frame": {name: _spread(values) for name, values in cpu.items()},
        "load_average": round(os.getloadavg()[0], 1),
        "answers_equal": all(_equal(answers[IN_TURN], answer) for answer in answers.values()),
        "busy": {stage.name: round(stage.shares[0], 3) for stage in profile.stages if stage.streaming},
    }


def _ratios(values: list[float], base: list[float]) -> list[float]:
    return [one / other for one, other in zip(values, base, strict=True)]


def _spread(values: list[float]) -> dict[str, float]:
    figures = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, 3) for name, value in figures.items()}


def _equal(one: ScoredVideo, other: ScoredVideo) -> bool:
    ways = ((one.scores.forward_at, other.scores.forward_at), (one.scores.backward_at, other.scores.backward_at))
    return all(np.array_equal(a[distance], b[distance]) for a, b in ways for distance in a)


def _child(arguments: argparse.Namespace) -> None:
    """Measure on as many cores as asked for and print JSON lines."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.child])
    for text in arguments.distances:
        distances = tuple(map(int, text.split(",")))
        print(json.dumps(measure(arguments.video, distances, arguments)), flush=True)


def main() -> None:
    """Parse arguments, measure in a process per number of cores, print rows and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="model to run; the one in the box when left out")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="numbers of cores")
    parser.add_argument("--distances", nargs="+", default=["1", "1,2,3"], help="distances of pairs, e.g. 1,2,3")
    parser.add_argument("--seconds", type=float, default=6, help="length of the video, 25 frames/s")
    parser.add_argument("--size", type=int, nargs=2, default=[1280, 720], help="width and height of the video")
    parser.add_argument("--backend", default="onnxruntime", help="engine: onnxruntime or openvino")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--video", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        size = (arguments.size[0], arguments.size[1])
        options = {"videos": 1, "seconds": arguments.seconds, "seed": SEED, "size": size, "frame_rate": Fraction(25)}
        (video,) = render_videos(Path(name), **options)
        rows = [row for cores in arguments.cores for row in _rows(cores, video)]
    if arguments.output:
        arguments.output.write_text(json.dumps(_document(rows, arguments), indent=2) + "\n")


def _rows(cores: int, video: Path) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", str(cores), "--video", str(video)]
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            rows.append(json.loads(line))
            print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"Measuring on {cores} cores failed.")
    return rows


def _document(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    left_out = ("output", "child", "video", "checkpoint")
    settings = {name: value for name, value in vars(arguments).items() if name not in left_out}
    return {
        "command": " ".join(["python", *sys.argv]),
        "model": arguments.checkpoint.name if arguments.checkpoint else "the model in the box",
        "machine": platform.machine(),
        "versions": {package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
        **settings,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
