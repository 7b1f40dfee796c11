"""Frames per second over a folder of videos, by how many are worked on at once.

    python benchmarks/jobs.py --output benchmarks/results/jobs.json

Every round runs the same videos with each number of jobs, one number after another, in one process with one model.
Ratios are of the same round; figures are medians over rounds, with CPU time beside them (`overlap.py` says why). One
row has the caption region given; in the other it is found by OCR, which may run beside the scoring of another video.
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
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cb_core.synth.collection import render_videos
from cb_runtime.cores import usable_cores
from cb_runtime.many_videos import VideoOptions
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.results import CaptionTrack

PACKAGES = ("cb-toolkit", "onnxruntime", "numpy", "av", "rapidocr")
REGION = "0.05,0.7,0.95,0.98"
SEED = 5


def measure(videos: list[Path], options: VideoOptions, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all videos with each number of jobs in turn, round after round."""
    predictor = BoundaryPredictor(
        arguments.checkpoint, device="cpu", backend=arguments.backend, measure=False, coarse=1
    )
    rates: dict[int, list[float]] = {jobs: [] for jobs in arguments.jobs}
    cpu: dict[int, list[float]] = {jobs: [] for jobs in arguments.jobs}
    tracks: dict[int, list[CaptionTrack]] = {}
    for number in range(arguments.rounds + 1):  # the first warms up
        for jobs in arguments.jobs:
            started, used = time.perf_counter(), time.process_time()
            results = list(predictor.predict_videos(videos, jobs=jobs, **options))
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
            tracks[jobs] = [result.track for result in results if result.track is not None]
            frames = sum(track.statistics["frames"] for track in tracks[jobs])
            if number > 0:
                rates[jobs].append(frames / seconds)
                cpu[jobs].append(1000 * cpu_seconds / frames)
    first = arguments.jobs[0]
    return {
        "region": "given" if options.get("region") else "found by OCR",
        "frames": frames,
        "frames_per_second": {jobs: _spread(values) for jobs, values in rates.items()},
        f"ratio_to_{first}": {jobs: _spread(list(np.divide(values, rates[first]))) for jobs, values in rates.items()},
        "cpu_ms_per_frame": {jobs: _spread(values) for jobs, values in cpu.items()},
        "load_average": round(os.getloadavg()[0], 1),
        "captions_equal": all(_frames(found) == _frames(tracks[first]) for found in tracks.values()),
    }


def _frames(tracks: list[CaptionTrack]) -> list[list[tuple[int | None, int | None]]]:
    return [[(span.start_frame, span.end_frame) for span in track.spans] for track in tracks]


def _spread(values: list[float]) -> dict[str, float]:
    figures = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(float(value), 3) for name, value in figures.items()}


def main() -> None:
    """Parse arguments, measure, print rows and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="model to run; the one in the box when left out")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4], help="numbers of videos at once")
    parser.add_argument("--videos", type=int, default=4, help="number of videos")
    parser.add_argument("--seconds", type=float, default=2, help="length of each, 25 frames/s")
    parser.add_argument("--size", type=int, nargs=2, default=[1280, 720], help="width and height of the videos")
    parser.add_argument("--backend", default="onnxruntime", help="engine: onnxruntime or openvino")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--no-ocr", action="store_true", help="leave out the rows whose region is found by OCR")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    cases: list[VideoOptions] = [{"region": REGION}] + ([] if arguments.no_ocr else [{}])
    rows = []
    with tempfile.TemporaryDirectory() as name:
        videos = render_videos(
            Path(name),
            videos=arguments.videos,
            seconds=arguments.seconds,
            seed=SEED,
            size=(arguments.size[0], arguments.size[1]),
            frame_rate=Fraction(25),
        )
        for options in cases:
            rows.append(measure(list(videos), options, arguments))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(_document(rows, arguments), indent=2) + "\n")


def _document(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {name: value for name, value in vars(arguments).items() if name not in ("output", "checkpoint")}
    return {
        "command": " ".join(["python", *sys.argv]),
        "model": arguments.checkpoint.name if arguments.checkpoint else "the model in the box",
        "cores": usable_cores(),
        "machine": platform.machine(),
        "versions": {package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
        **settings,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
