"""The whole path on rendered videos: synth, dataset, training, export, inference, and how good it was."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from cb_core.data import BuildOptions, create_dataset
from cb_core.evaluation import BoundaryScores, boundaries_from_truth, boundary_scores, predicted_boundaries
from cb_core.synth.collection import render_videos
from cb_core.training import RunConfig, train
from cb_export.pipeline import export_checkpoint
from cb_runtime.outputs import write_track
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.progress import Progress, no_progress
from cb_runtime.results import CaptionTrack

TOLERANCES = (0, 1, 2)
"""In frames."""

FORMATS = ("srt", "json")

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoOptions:
    """How much is rendered and trained."""

    videos: int = 28
    """Videos to build the dataset from."""
    seconds: float = 16.0
    """Length of each of them."""
    test_videos: int = 4
    """Videos nobody trains on."""
    test_seconds: float = 30.0
    epochs: int = 5
    architecture: str = "compact_aligned_resnet"
    size: tuple[int, int] = (640, 360)
    """Frame size of all videos: width, height."""
    seed: int = 0


@dataclass(frozen=True)
class DemoResult:
    """What the demo found, and how well it agrees with the truth."""

    tracks: tuple[CaptionTrack, ...]
    """Captions of the test videos."""
    subtitles: tuple[Path, ...]
    artifact: Path
    val_f1: float
    """Best macro F1 of pair labels in validation."""
    scores: tuple[BoundaryScores, ...]
    """Boundary scores over all test videos, one per tolerance of `TOLERANCES`."""
    seconds: dict[str, float]
    """Time each step took."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "artifact": str(self.artifact),
            "subtitles": [str(path) for path in self.subtitles],
            "best_val_f1": self.val_f1,
            "boundary_scores": [score.to_dict() for score in self.scores],
            "captions": sum(len(track.spans) for track in self.tracks),
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
        }


def run_demo(
    folder: Path, options: DemoOptions | None = None, *, say: Say = print, progress: Progress = no_progress
) -> DemoResult:
    """Run the whole path in `folder`; what is there already is kept and used.

    Args:
        folder: Where videos, dataset, checkpoints, artifact and subtitles go.
        options: How much is rendered and trained.
        say: Called with a line per step.
        progress: Told how far each step is.

    Raises:
        CbError: Whatever a step raises.
    """
    return _Demo(folder, options or DemoOptions(), say, progress).run()


class _Demo:
    def __init__(self, folder: Path, options: DemoOptions, say: Say, progress: Progress) -> None:
        self._folder = folder
        self._options = options
        self._say = say
        self._progress = progress
        self._seconds: dict[str, float] = {}

    def run(self) -> DemoResult:
        train_videos, test_videos = self._timed("synth", self._render)
        dataset = self._timed("dataset", lambda: self._build(train_videos))
        checkpoint, val_f1 = self._timed("train", lambda: self._train(dataset))
        artifact = self._timed("export", lambda: self._export(checkpoint))
        tracks = self._timed("infer", lambda: self._infer(artifact, test_videos))
        subtitles = [self._write(track, name) for track in tracks for name in FORMATS]
        scores = evaluate(tracks, test_videos)
        return DemoResult(tuple(tracks), tuple(subtitles), artifact, val_f1, scores, self._seconds)

    def _timed(self, step: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401  (what the step returns)
        started = time.perf_counter()
        result = work()
        self._seconds[step] = time.perf_counter() - started
        self._say(f"  {self._seconds[step]:.0f} s")
        return result

    def _render(self) -> tuple[list[Path], list[Path]]:
        options = self._options
        self._say(f"Rendering {options.videos} videos to train on and {options.test_videos} to test on ...")
        common: dict[str, Any] = {"size": options.size, "jobs": os.cpu_count() or 1, "progress": self._progress}
        common["frame_rate"] = Fraction(25)
        to_train = render_videos(self._folder / "videos", options.videos, options.seconds, options.seed, **common)
        to_test = render_videos(
            self._folder / "test", options.test_videos, options.test_seconds, options.seed + 1000, **common
        )
        return to_train, to_test

    def _build(self, videos: list[Path]) -> Path:
        self._say("Building the dataset (text detection finds each video's caption region) ...")
        path = self._folder / "demo.db"
        report = create_dataset(path, videos, options=BuildOptions(test_share=0.0), progress=self._progress)
        for video, reason in report.failed.items():
            self._say(f"  left out {Path(video).name}: {reason}")
        return path

    def _train(self, dataset: Path) -> tuple[Path, float]:
        options = self._options
        self._say(f"Training {options.architecture} from scratch for {options.epochs} epochs ...")
        folder = self._folder / "run"
        config = RunConfig(
            dataset=str(dataset),
            name="demo",
            architecture_name=options.architecture,
            hyperparameters={"epochs": options.epochs, "seed": options.seed},
            output=folder,
            resume=(folder / "last.pt").is_file(),
        )
        result = train(
            config,
            progress=self._progress,
            on_epoch=lambda epoch: self._say(f"  {epoch}"),
            warn=lambda text: self._say(f"  Warning: {text}"),
        )
        return result.best_checkpoint, result.best_val_f1

    def _export(self, checkpoint: Path) -> Path:
        self._say("Exporting to ONNX and comparing with PyTorch ...")
        result = export_checkpoint(checkpoint, self._folder / "demo.onnx", progress=self._progress)
        self._say(f"  {result.report}")
        return result.path

    def _infer(self, artifact: Path, videos: list[Path]) -> list[CaptionTrack]:
        self._say("Finding captions in the videos nobody trained on ...")
        predictor = BoundaryPredictor(artifact)
        return [predictor.predict_video(video, progress=self._progress) for video in videos]

    def _write(self, track: CaptionTrack, name: str) -> Path:
        path = self._folder / "subtitles" / f"{track.video.path.stem}.{name}"
        write_track(track, path, name)
        return path


def evaluate(tracks: list[CaptionTrack], videos: list[Path]) -> tuple[BoundaryScores, ...]:
    """Return boundary scores over all videos together, one per tolerance."""
    parts = []
    for track, video in zip(tracks, videos, strict=True):
        truth, frame_count = boundaries_from_truth(video.with_suffix(".truth.json"))
        predicted = predicted_boundaries(track.spans, frame_count)
        parts.append([boundary_scores(truth, predicted, tolerance) for tolerance in TOLERANCES])
    return tuple(_total(list(column)) for column in zip(*parts, strict=True))


def _total(parts: list[BoundaryScores]) -> BoundaryScores:
    return BoundaryScores(
        parts[0].tolerance,
        sum(part.hits for part in parts),
        sum(part.predicted for part in parts),
        sum(part.true for part in parts),
    )
