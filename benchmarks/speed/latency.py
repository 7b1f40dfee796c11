"""Latency of one new frame: encode its strip, compare it with the frame before in both directions.

    python -m benchmarks.speed.latency --output benchmarks/results/latency.json

What a live service waits for. Contenders run by turns, one frame each; percentiles are over frames.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.precision_models import by_architecture
from benchmarks.speed.engines import Engine, engines, gpu_engines
from benchmarks.speed.figures import command, machine, markdown, write_json
from benchmarks.speed.material import Material, Strips, kept_folder
from benchmarks.speed.throughput import ARCHITECTURES
from cb_runtime.contract import IMAGE_INPUTS, INPUT_NAMES
from cb_runtime.gpus import list_gpus
from cb_runtime.measuring.timing import interleaved_seconds
from cb_runtime.session import Session, open_session
from cb_runtime.stages import FEATURES

FRAMES = 16
"""Strips that take turns as the new frame."""


def one_frame(session: Session, material: Material, strips: Strips) -> Callable[[], object]:
    """Return a function that takes the next frame: one pass of the encoder, two pairs."""
    stages = session.stages and (session.stages.resident or session.stages)
    assert stages is not None, "late fusions have stages"
    picture = np.repeat(stages.encode("ocr_viz", material.inputs.ocr_viz[None]), 2, axis=0)
    vectors = {name: np.repeat(getattr(material.inputs, name)[None], 2, axis=0) for name in INPUT_NAMES[3:]}
    coming = itertools.cycle(strips)
    first, second = (f"{role}_{FEATURES}" for role in IMAGE_INPUTS[1:])
    before = stages.encode("frame1", next(coming)[None])

    def run() -> object:
        nonlocal before
        new = stages.encode("frame1", next(coming)[None])
        both = {first: np.concatenate((before, new)), second: np.concatenate((new, before))}
        before = new
        return stages.classify({f"ocr_viz_{FEATURES}": picture, **both, **vectors})

    return run


def measure(material: Material, wanted: list[Engine], frames: int) -> list[dict[str, Any]]:
    """Return a row for each engine."""
    strips = material.strips(FRAMES)
    sessions = [open_session(material.artifact(engine.file), **engine.ours) for engine in wanted]
    runs = [one_frame(session, material, strips) for session in sessions]
    milliseconds = 1000 * interleaved_seconds(list(map(partial, runs)), frames, warm_up=10)
    return [
        {"architecture": material.architecture, "engine": engine.title, **_percentiles(times)}
        for engine, times in zip(wanted, milliseconds, strict=True)
    ]


def _percentiles(times: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(times, (50, 90, 99)).tolist()
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "p99_to_p50": p99 / p50}


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    cells = [
        [
            row["architecture"],
            row["engine"],
            *(f"{row[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms", "p99_to_p50")),
        ]
        for row in rows
    ]
    return markdown(("architecture", "engine", "p50 ms", "p90 ms", "p99 ms", "p99 / p50"), cells)


def main() -> None:
    """Measure, print a table, and write JSON and Markdown when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), help="late fusions")
    parser.add_argument("--frames", type=int, default=200, help="frames that count")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of every engine")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to run")
    parser.add_argument("--seconds", type=float, default=20, help="length of the video that strips are of")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE", help="trained weights")
    parser.add_argument("--work", type=Path, help="folder that keeps exported models and the video")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON, and as Markdown beside it")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    trained = by_architecture(arguments.checkpoint)
    # Streams compute batches side by side; one frame is no batch.
    on_cpu = [engine for engine in engines(arguments.threads) if engine.streams == 1]
    wanted = on_cpu if arguments.device == "cpu" else gpu_engines()
    with kept_folder(arguments.work) as work:
        for name in arguments.architectures:
            material = Material(work, name, arguments.seconds, trained=trained)
            rows += measure(material, wanted, arguments.frames)
    print(table(rows))
    if arguments.output:
        gpus = list(map(str, list_gpus()))
        head = {"command": command("benchmarks.speed.latency"), **machine(), "gpus": gpus, "frames": arguments.frames}
        write_json(arguments.output, {**head, "threads": arguments.threads, "rows": rows})
        arguments.output.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
