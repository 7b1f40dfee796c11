"""What each way of skipping costs in boundaries and saves in work, on sets of videos with their truth beside them.

    python benchmarks/skipping.py SET... --output benchmarks/results/skipping.json

Every video is decoded once, in the region that its truth tells; all ways score the same strips, one after another, and
are decoded alike. F1 counts boundaries as `cb evaluate` does. *Lost* are true boundaries that the exact way finds to
the frame and this way does not, *gained* the reverse, *changed* the predicted boundaries that only one of the two has.

So that many boundaries can be compared, answers are remembered: what one way asked of the model, the next is told
without asking. The time is therefore measured apart, on `--timed` videos of each set, where nothing is remembered: CPU
seconds of one thread, of scoring alone and with decoding the video and preparing strips.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cb_core.data import find_videos
from cb_core.evaluation import BoundaryScores, boundary_scores, predicted_boundaries
from cb_core.evaluation.boundaries import match_boundaries
from cb_core.evaluation.run import true_layout, videos_with_truth
from cb_core.evaluation.truth import VideoTruth, read_video_truth
from cb_runtime.fades import StripProducts
from cb_runtime.features import VideoInputs, strip, video_inputs
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.scene_cuts import SceneCuts
from cb_runtime.scored_video import ScoredVideo
from cb_runtime.scoring import PairScores, score_strips
from cb_runtime.session import Session
from cb_runtime.skipping import Skipping
from cb_runtime.stages import Stages
from cb_runtime.video import open_source
from cb_runtime.video.types import Image

WAYS = {
    "exact": Skipping("none"),
    "equal": Skipping("equal"),
    "noise": Skipping("noise"),
    "coarse 4": Skipping("equal", 4),
    "coarse 8": Skipping("equal", 8),
    "coarse 16": Skipping("equal", 16),
    "noise, coarse 8": Skipping("noise", 8),
    "noise, coarse 16": Skipping("noise", 16),
}
EXACT = "exact"
TOLERANCES = (0, 1, 2)


class Remembering:
    """Stages that are asked for every picture and every pair of features once."""

    resident = None
    """Features are looked at here, so they come to the host."""

    def __init__(self, stages: Stages) -> None:
        self._stages, self.roles = stages, stages.roles
        self._features: dict[bytes, NDArray[np.float32]] = {}
        self._logits: dict[bytes, NDArray[np.float32]] = {}

    def encode(self, role: str, pictures: Image) -> NDArray[np.float32]:
        """Return the features of pictures."""
        keys = [self.roles[role].encode() + picture[::5, ::3].tobytes() for picture in pictures]
        return _remembered(self._features, keys, lambda new: self._stages.encode(role, pictures[new]))

    def classify(self, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the logits of pairs of one video."""
        pairs = zip(inputs["frame1_features"], inputs["frame2_features"], strict=True)
        keys = [b"".join(features.ravel()[::499].tobytes() for features in pair) for pair in pairs]
        return _remembered(
            self._logits, keys, lambda new: self._stages.classify({name: each[new] for name, each in inputs.items()})
        )

    def forget(self) -> None:
        """Forget all: the next video has inputs of its own."""
        self._features.clear()
        self._logits.clear()


def _remembered(
    known: dict[bytes, NDArray[np.float32]], keys: list[bytes], ask: Callable[[list[int]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    new = list({key: place for place, key in enumerate(keys) if key not in known}.values())
    if new:
        known.update(zip([keys[place] for place in new], ask(new), strict=True))
    return np.stack([known[key] for key in keys])


@dataclass(frozen=True, eq=False)
class RememberingSession:
    """A session whose answers are remembered."""

    stages: Remembering


@dataclass(frozen=True, eq=False)
class Clip:
    """One video, decoded."""

    truth: VideoTruth
    scored: ScoredVideo
    """Without scores."""
    strips: list[Image]
    inputs: VideoInputs
    cpu_seconds: float
    """Process time of decoding and preparing strips."""


def clips(predictor: BoundaryPredictor, folder: Path, count: int) -> Iterator[Clip]:
    """Decode the first videos of a set that have captions."""
    pairs, _, failed = videos_with_truth(find_videos(folder))
    for reason in failed.values():
        raise SystemExit(reason)
    for video, truth_file in pairs[:count]:
        truth = read_video_truth(truth_file, video)
        with closing(open_source(video)) as source:
            layout = true_layout(truth, source.info)
            if layout is None:
                continue
            pts, durations, strips, products, cuts = [], [], [], StripProducts(), SceneCuts()
            began = time.process_time()
            for frame in source.frames(layout.region):
                pts.append(frame.pts)
                durations.append(frame.duration)
                strips.append(strip(frame.image, predictor.metadata.preprocessing, layout.anchor))
                products.add(strips[-1])
                cuts.add(strips[-1])
            spent = time.process_time() - began
            inputs = video_inputs(layout, predictor.metadata.preprocessing, predictor.metadata.ocr_viz_variant)
            nothing = PairScores({}, {})
            scored = ScoredVideo(source.info, layout, pts, durations, nothing, False, (), spent, products, cuts.staying)
            yield Clip(truth, scored, strips, inputs, spent)


def scores_of(
    predictor: BoundaryPredictor, session: Session | RememberingSession, clip: Clip, skipping: Skipping
) -> PairScores:
    """Score a clip."""
    decoding = predictor.metadata.decoding
    distances = tuple(sorted({*decoding.distances, *decoding.far_distances}))
    options = {"distances": distances, "batch_size": predictor.batch_size, "skipping": skipping}
    return score_strips(session, clip.strips, clip.inputs, **options)


@dataclass(frozen=True, eq=False)
class Found:
    """What one way made of one clip."""

    truth: VideoTruth
    predicted: list[int]
    scores: PairScores

    @property
    def hits(self) -> set[int]:
        """True boundaries found to the frame, by their place in the truth."""
        return {i for i, _, _ in match_boundaries(self.truth.boundaries(), self.predicted, 0)}


def found_in(
    predictor: BoundaryPredictor, session: Session | RememberingSession, clip: Clip, skipping: Skipping
) -> Found:
    """Score and decode a clip."""
    scores = scores_of(predictor, session, clip, skipping)
    spans = predictor.decode(dataclasses.replace(clip.scored, scores=scores)).spans
    return Found(clip.truth, predicted_boundaries(spans, len(clip.strips)), scores)


def cpu_seconds(predictor: BoundaryPredictor, clip: Clip, ways: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Return the process time of scoring a clip in each way, by turns."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in ways:
            began = time.process_time()
            scores_of(predictor, predictor.session, clip, WAYS[name])
            spent[name].append(time.process_time() - began)
    return spent


def measure(predictor: BoundaryPredictor, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the ways asked for on one set."""
    ways = [EXACT, *(name for name in arguments.ways if name != EXACT)]
    remembering = RememberingSession(Remembering(predictor.session.stages))
    found: dict[str, list[Found]] = {name: [] for name in ways}
    scoring: dict[str, list[float]] = {name: [] for name in ways}
    whole: dict[str, list[float]] = {name: [] for name in ways}
    frames = 0
    for number, clip in enumerate(clips(predictor, folder, arguments.videos)):
        frames += len(clip.strips)
        for name in ways:
            found[name].append(found_in(predictor, remembering, clip, WAYS[name]))
        remembering.stages.forget()
        if number < arguments.timed:
            spent = cpu_seconds(predictor, clip, ways, arguments.rounds)
            for name, times in spent.items():
                exact = spent[EXACT]
                scoring[name] += [ours / theirs for ours, theirs in zip(times, exact, strict=True)]
                whole[name] += [
                    (ours + clip.cpu_seconds) / (theirs + clip.cpu_seconds)
                    for ours, theirs in zip(times, exact, strict=True)
                ]
        print(f"{folder.name}: {clip.truth.path.stem}, {time.process_time():.0f} s of CPU", file=sys.stderr, flush=True)
    rows = {name: _row(found[name], found[EXACT], scoring[name], whole[name]) for name in ways}
    return {"videos": len(found[EXACT]), "frames": frames, "rows": rows}


def _row(found: Sequence[Found], exact: Sequence[Found], scoring: list[float], whole: list[float]) -> dict[str, Any]:
    scores = [_pooled(found, tolerance) for tolerance in TOLERANCES]
    before = [_pooled(exact, tolerance) for tolerance in TOLERANCES]
    pairs = list(zip(found, exact, strict=True))
    lost = sum(len(other.hits - one.hits) for one, other in pairs)
    return {
        "boundaries": [score.to_dict() for score in scores],
        "f1_points": [100 * (one.f1 - other.f1) for one, other in zip(scores, before, strict=True)],
        "lost": lost,
        "gained": sum(len(one.hits - other.hits) for one, other in pairs),
        "miss_rate": lost / max(1, before[0].hits),
        "changed": sum(len(set(one.predicted) ^ set(other.predicted)) for one, other in pairs),
        "frames_encoded": _share(found, exact, "frames_encoded"),
        "pairs_scored": _share(found, exact, "pairs_scored"),
        "scoring_time": _spread(scoring),
        "whole_time": _spread(whole),
    }


def _pooled(found: Sequence[Found], tolerance: int) -> BoundaryScores:
    each = [boundary_scores(one.truth.boundaries(), one.predicted, tolerance) for one in found]
    return BoundaryScores(
        tolerance, sum(s.hits for s in each), sum(s.predicted for s in each), sum(s.true for s in each)
    )


def _share(found: Sequence[Found], exact: Sequence[Found], name: str) -> float:
    ours, all_of_them = (sum(getattr(one.scores, name) for one in each) for each in (found, exact))
    return ours / all_of_them


def _spread(ratios: list[float]) -> dict[str, float] | None:
    if not ratios:
        return None
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def _table(name: str, result: dict[str, Any]) -> Table:
    columns = ("F1 at 0", "F1 at 1", "points at 0", "points at 1", "lost", "gained", "changed")
    table = Table(f"{name}: {result['videos']} videos", *columns, "encoded", "pairs", "scoring", "whole", box=None)
    for way, row in result["rows"].items():
        scores = [f"{row['boundaries'][tolerance]['f1']:.4f}" for tolerance in (0, 1)]
        points = [f"{row['f1_points'][tolerance]:+.2f}" for tolerance in (0, 1)]
        counts = [str(row[key]) for key in ("lost", "gained", "changed")]
        shares = [f"{row[key]:.3f}" for key in ("frames_encoded", "pairs_scored")]
        times = [f"{row[key]['median']:.3f}" if row[key] else "" for key in ("scoring_time", "whole_time")]
        table.add_row(way, *scores, *points, *counts, *shares, *times)
    return table


def main() -> None:
    """Parse arguments, measure, print tables and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, help="folders of videos with their truth beside them")
    parser.add_argument("--checkpoint", type=Path, help="an artifact with its staged graph; the model in the box")
    parser.add_argument("--videos", type=int, default=16, help="at most so many videos of each set")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="what is compared with exact")
    parser.add_argument("--timed", type=int, default=1, help="videos of each set that are timed")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of timing")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON, beside those of other sets")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = BoundaryPredictor(
        arguments.checkpoint, device="cpu", backend="onnxruntime", precision="fp32", threads=1
    )
    for folder in arguments.sets:
        result = measure(predictor, folder, arguments)
        Console(width=160).print(_table(folder.name, result))
        if arguments.output:
            document = _settings(predictor, arguments) | result
            known = json.loads(arguments.output.read_text())["sets"] if arguments.output.exists() else {}
            arguments.output.write_text(json.dumps({"sets": known | {folder.name: document}}, indent=2) + "\n")


def _settings(predictor: BoundaryPredictor, arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": shlex.join(["python", "benchmarks/skipping.py", *(Path(word).name for word in sys.argv[1:])]),
        "model": predictor.model,
        "decoding": dataclasses.asdict(predictor.metadata.decoding),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {package: version(package) for package in ("cb-toolkit", "onnxruntime", "numpy")},
        "ways": {name: WAYS[name].to_dict() for name in WAYS if name == EXACT or name in arguments.ways},
        "timed": arguments.timed,
        "rounds": arguments.rounds,
    }


if __name__ == "__main__":
    main()
