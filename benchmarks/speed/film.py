"""From MP4 files to captions: engines, reuse and skipping as separate rows, each with its boundary F1.

    python -m benchmarks.speed.film --output benchmarks/results/film.json

The model in the box on rendered 720p videos at 25 frames a second, all ways by turns. The bound is what decoding and
the model allow on these cores: the frames over the greatest of three times, that of decoding and preparing strips
alone, that of scoring strips in memory alone, and the processor time of both over the number of cores. It is measured
in every round, right beside the way that it bounds. With text detection the whole of `cb infer` is timed, without it
the caption region is given. F1 is against what was rendered.
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
BOUND_STRIPS = 256
"""Strips that the model is timed on alone."""
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

    @property
    def is_bounded(self) -> bool:
        """Whether decoding and the model's rate alone say how fast it can be: nothing is skipped, or looked for."""
        return self.options == EVERY and not self.detect


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


def predictor_of(way: Way, material: Material) -> BoundaryPredictor:
    """Return the way's model, opened."""
    artifact = material.artifact("int8" if way.engine.precision == "int8" else "fp32")
    return BoundaryPredictor(artifact, reuse=way.reuse, **way.engine.ours, **way.options)


def runner(way: Way, film: Film) -> Callable[[], CaptionTrack]:
    """Return a function from nothing to the captions of the film."""
    material, predictor = film.material, predictor_of(way, film.material)
    region = None if way.detect else ",".join(map(str, material.layout.region.as_tuple()))
    return partial(predictor.predict_video, material.video, region=region, overlap=way.overlap)


def f1_of(track: CaptionTrack, film: Film, tolerance: int) -> float:
    """Return the boundary F1 of captions."""
    found = predicted_boundaries(track.spans, film.frames)
    return boundary_scores(film.boundaries, found, tolerance).f1


class Bound:
    """Frames per second that decoding and a way's model allow on these cores, measured anew at each call."""

    def __init__(self, film: Film, way: Way) -> None:
        predictor = predictor_of(way, film.material)
        self._film, self._preprocessing = film, predictor.metadata.preprocessing
        strips = film.material.strips(min(film.frames, BOUND_STRIPS))
        self._share = len(strips) / film.frames
        self._score = partial(
            score_strips,
            predictor.session,
            strips,
            film.material.inputs,
            distances=predictor.metadata.decoding.distances,
            batch_size=predictor.batch_size,
        )
        self._score()  # the first run prepares what later ones use
        self.rates: list[float] = []
        """What was measured, in order."""

    def __call__(self) -> None:
        """Measure once."""
        decode_wall, decode_cpu = _timed(self._decode)
        model_wall, model_cpu = (seconds / self._share for seconds in _timed(self._score))
        cores = len(os.sched_getaffinity(0))
        self.rates.append(self._film.frames / max(decode_wall, model_wall, (decode_cpu + model_cpu) / cores))

    def _decode(self) -> None:
        layout = self._film.material.layout
        with closing(open_source(self._film.material.video)) as source:
            for frame in source.frames(layout.region):
                strip(frame.image, self._preprocessing, layout.anchor)


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


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
    bounds = {number: Bound(films[0], way) for number, way in enumerate(compared) if way.is_bounded}
    turns: list[Callable[[], object]] = []
    turn_of = {}
    for number, of_films in enumerate(runs):
        turn_of[number] = len(turns)
        turns += [partial(_all, of_films), *([bounds[number]] if number in bounds else [])]
    seconds = interleaved_seconds(turns, rounds, warm_up=0)
    frames = sum(film.frames for film in films)
    loop = statistics.median(loop_rate(films[0]) for _ in range(3))
    rows: list[dict[str, Any]] = [
        {"way": "PyTorch loop over whole frames", "frames_per_second": spread(np.array([loop])), "to_loop": 1.0}
    ]
    for number, (way, found) in enumerate(zip(compared, tracks, strict=True)):
        rates = frames / seconds[turn_of[number]]
        rows.append(
            {
                "way": way.name,
                "frames_per_second": spread(rates),
                "times_real_time": float(np.median(rates)) / 25,
                "to_loop": float(np.median(rates)) / loop,
                "of_bound": spread(rates / np.array(bounds[number].rates)) if number in bounds else None,
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
    keys = {"times_real_time": "{:.1f}", "to_loop": "{:.0f}"}
    scores = {"f1_at_0": "{:.3f}", "f1_at_1": "{:.3f}"}
    cells = [
        [
            row["way"],
            f"{row['frames_per_second']['median']:.0f}",
            *_cells(row, keys),
            _share(row.get("of_bound")),
            *_cells(row, scores),
        ]
        for row in rows
    ]
    head = ("way", "frames/s", "times real time", "to the loop", "of the bound", "F1 at 0", "F1 at 1")
    return markdown(head, cells)


def _cells(row: dict[str, Any], keys: dict[str, str]) -> list[str]:
    return ["" if row.get(key) is None else form.format(row[key]) for key, form in keys.items()]


def _share(of_bound: dict[str, float] | None) -> str:
    return "" if of_bound is None else "{median:.0%} ({least:.0%} to {greatest:.0%})".format(**of_bound)


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
