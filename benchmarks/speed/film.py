"""From MP4 files to captions: engines, reuse and skipping as separate rows, each with its boundary F1.

    python -m benchmarks.speed.film --output benchmarks/results/film.json

The model in the box on rendered 720p videos at 25 frames a second, all ways by turns. The bound is what decoding and
the model allow on these cores: the frames over the greatest of three times, that of decoding and preparing strips
alone, that of scoring strips in memory alone, and the processor time of both over the number of cores. With text
detection the whole of `cb infer` is timed, without it the caption region is given. F1 is against what was rendered.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.engines import OPENVINO, Engine, engines
from benchmarks.speed.figures import command, machine, markdown, spread, write_json
from benchmarks.speed.material import Material, kept_folder
from benchmarks.speed.peers import pytorch_loop
from cb_core.evaluation.boundaries import boundaries_from_truth, boundary_scores, predicted_boundaries
from cb_core.synth.truth import TRUTH_SUFFIX
from cb_runtime.features import strip
from cb_runtime.measuring.timing import interleaved_seconds
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.results import CaptionTrack
from cb_runtime.scoring import score_strips
from cb_runtime.video import open_source

ARCHITECTURE = "aligned_comparison"
EVERY: dict[str, Any] = {"skip": "none", "coarse": 1}
"""Look at every frame."""
COARSE = (4, 8)
LOOP_FRAMES = 25
"""Frames that the loop a user would write takes a turn at: it is slow."""


@dataclass(frozen=True)
class Way:
    """One way through a video."""

    name: str
    engine: Engine
    reuse: bool = True
    overlap: bool | None = None
    """Stages at the same time; None chooses as `cb infer` does."""
    detect: bool = False
    """Find the caption region too."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `BoundaryPredictor`."""


@dataclass(frozen=True)
class Film:
    """One rendered video."""

    material: Material
    frames: int
    boundaries: list[Any]
    """True ones."""


def ways(threads: int) -> list[Way]:
    """Return what is compared, the plainest first: engines with nothing skipped, then what each technique adds."""
    plain, *others = engines(threads)
    fastest = [engine for engine in others if engine.name == OPENVINO and engine.precision == "fp32"][-1]
    quick = [engine for engine in others if engine.name == OPENVINO and engine.precision != "fp32"][-1]
    return [
        Way(f"{plain.title}, no reuse, stages in turn", plain, reuse=False, overlap=False, options=EVERY),
        Way(f"{plain.title}, stages in turn", plain, overlap=False, options=EVERY),
        *(Way(engine.title, engine, options=EVERY) for engine in (plain, *others)),
        *(
            Way(f"{fastest.title}, --skip {skip}", fastest, options={"skip": skip, "coarse": 1})
            for skip in ("equal", "noise")
        ),
        *(Way(f"{fastest.title}, --coarse {k}", fastest, options={"coarse": k}) for k in COARSE),
        Way(f"{quick.title}, --coarse {COARSE[-1]}", quick, options={"coarse": COARSE[-1]}),
        Way("as `cb infer` does it, text detection included", fastest, detect=True),
        Way("the same, looking at every frame", fastest, detect=True, options=EVERY),
    ]


def runner(way: Way, film: Film) -> Callable[[], CaptionTrack]:
    """Return a function from nothing to the captions of the film."""
    material = film.material
    artifact = material.artifact("int8" if way.engine.precision == "int8" else "fp32")
    predictor = BoundaryPredictor(artifact, reuse=way.reuse, **way.engine.ours, **way.options)
    region = None if way.detect else ",".join(map(str, material.layout.region.as_tuple()))
    return partial(predictor.predict_video, material.video, region=region, overlap=way.overlap)


def f1_of(track: CaptionTrack, film: Film, tolerance: int) -> float:
    """Return the boundary F1 of captions."""
    found = predicted_boundaries(track.spans, film.frames)
    return boundary_scores(film.boundaries, found, tolerance).f1


def bound(film: Film, way: Way) -> float:
    """Return frames per second that decoding and this way's model allow on these cores, measured now."""
    material = film.material
    artifact = material.artifact("int8" if way.engine.precision == "int8" else "fp32")
    predictor = BoundaryPredictor(artifact, reuse=way.reuse, **way.engine.ours)
    preprocessing, layout = predictor.metadata.preprocessing, material.layout

    def decode() -> None:
        with closing(open_source(material.video)) as source:
            for frame in source.frames(layout.region):
                strip(frame.image, preprocessing, layout.anchor)

    strips = material.strips(min(film.frames, 128))
    distances, batch = predictor.metadata.decoding.distances, predictor.batch_size
    score = partial(score_strips, predictor.session, strips, material.inputs, distances=distances, batch_size=batch)
    decode_wall, decode_cpu = _timed(decode)
    model_wall, model_cpu = (seconds * film.frames / len(strips) for seconds in _timed(score))
    cores = len(os.sched_getaffinity(0))
    return film.frames / max(decode_wall, model_wall, (decode_cpu + model_cpu) / cores)


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds, each the median of three."""
    walls, processors = [], []
    for _ in range(3):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return statistics.median(walls), statistics.median(processors)


def loop_rate(film: Film) -> float:
    """Return frames per second of the loop a user would write: whole frames to RGB, pair by pair, both directions."""
    import av
    import cv2

    material = film.material
    region, score = material.layout.region, pytorch_loop(material.model, material.inputs)
    began = time.perf_counter()
    strips = []
    with av.open(str(material.video)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")[region.top : region.bottom, region.left : region.right]
            strips.append(np.asarray(cv2.resize(picture, (480, 48)), np.uint8))
            if len(strips) == LOOP_FRAMES:
                break
    score(np.stack(strips))
    return len(strips) / (time.perf_counter() - began)


def measure(films: Sequence[Film], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Run all ways by turns over all films; return a row for each."""
    compared = ways(threads)
    runs = [[runner(way, film) for film in films] for way in compared]
    tracks = [[run() for run in of_films] for of_films in runs]
    seconds = interleaved_seconds([partial(_all, of_films) for of_films in runs], rounds, warm_up=0)
    frames = sum(film.frames for film in films)
    loop = statistics.median(loop_rate(films[0]) for _ in range(3))
    rows: list[dict[str, Any]] = [
        {"way": "PyTorch loop over whole frames", "frames_per_second": spread(np.array([loop])), "to_loop": 1.0}
    ]
    for way, found, times in zip(compared, tracks, seconds, strict=True):
        rate = frames / times
        bounded = way.options == EVERY and not way.detect
        rows.append(
            {
                "way": way.name,
                "frames_per_second": spread(rate),
                "times_real_time": float(np.median(rate)) / 25,
                "to_loop": float(np.median(rate)) / loop,
                "of_bound": float(np.median(rate)) / bound(films[0], way) if bounded else None,
                "f1_at_0": _mean_f1(found, films, 0),
                "f1_at_1": _mean_f1(found, films, 1),
            }
        )
    return rows


def _all(runs: Sequence[Callable[[], CaptionTrack]]) -> None:
    for run in runs:
        run()


def _mean_f1(tracks: Sequence[CaptionTrack], films: Sequence[Film], tolerance: int) -> float:
    return statistics.mean(f1_of(track, film, tolerance) for track, film in zip(tracks, films, strict=True))


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    keys = {
        "times_real_time": "{:.1f}",
        "to_loop": "{:.0f}",
        "of_bound": "{:.0%}",
        "f1_at_0": "{:.3f}",
        "f1_at_1": "{:.3f}",
    }
    cells = [
        [
            row["way"],
            f"{row['frames_per_second']['median']:.0f}",
            *("" if row.get(key) is None else form.format(row[key]) for key, form in keys.items()),
        ]
        for row in rows
    ]
    head = ("way", "frames/s", "times real time", "to the loop", "of the bound", "F1 at 0", "F1 at 1")
    return markdown(head, cells)


def main() -> None:
    """Measure, print a table, and write JSON and Markdown when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=3, help="videos that are rendered")
    parser.add_argument("--seconds", type=float, default=20, help="length of each")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads of every engine")
    parser.add_argument("--work", type=Path, help="folder that keeps exported models and videos")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON, and as Markdown beside it")
    arguments = parser.parse_args()
    with kept_folder(arguments.work) as work:
        materials = [Material(work, ARCHITECTURE, arguments.seconds, seed) for seed in range(5, 5 + arguments.videos)]
        films = []
        for material in materials:
            boundaries, frames = boundaries_from_truth(material.video.with_suffix(TRUTH_SUFFIX))
            films.append(Film(material, frames, boundaries))
        rows = measure(films, arguments.threads, arguments.rounds)
    print(table(rows))
    if arguments.output:
        settings = {name: getattr(arguments, name) for name in ("videos", "seconds", "rounds", "threads")}
        write_json(
            arguments.output, {"command": command("benchmarks.speed.film"), **machine(), **settings, "rows": rows}
        )
        arguments.output.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
