"""Train the model in the box: `python -m cb_export.default_model WORK --pictures DIR --fonts DIR`.

Renders bands of captions over the pictures and over generated textures, builds a dataset, trains `aligned_comparison`,
tunes its decoding on longer videos, exports it through the parity gate and, with `--install`, puts it into
`cb_runtime/models/`. Every step keeps what is done: run the command again after an interruption.

The model that is shipped was made of the pictures of Debian's `gnome-backgrounds`, `mate-backgrounds` and
`plasma-workspace-wallpapers` (scaled to at most 1800 pixels) and the fonts of `fonts-dejavu-core`, `fonts-liberation2`,
`fonts-noto-core`, `fonts-noto-cjk` and `fonts-freefont-ttf`. It saw no other picture, font or video.
Its first three epochs ran at the rates of a schedule of twelve, the other five (`--resume`) at those of eight; its
decoding was tuned on 30 such videos of 12 and 75 seconds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from cb_core.data import create_dataset, find_videos
from cb_core.data.options import BuildOptions
from cb_core.evaluation.run import TRUTH, score_once
from cb_core.evaluation.tuning import decoding_from_file, tune_decoding
from cb_core.synth.collection import render_videos
from cb_core.synth.layouts import write_layouts
from cb_core.synth.media import PICTURE_SUFFIXES, read_picture
from cb_core.tracking.curves import save_learning_curves
from cb_core.training import train
from cb_core.training.config import RunConfig
from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import InputError
from cb_runtime.files import atomic_path
from cb_runtime.golden import golden_path, load_golden_samples
from cb_runtime.models import DEFAULT_MODEL
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.progress import Progress
from cb_runtime.stages import stages_path

ARCHITECTURE = "aligned_comparison"
HYPERPARAMETERS = {"epoch_pairs": 46_800, "batch_size": 64, "balance": "none", "patience": 0}
DISTANCES = (1, 2, 3, 4, 8, 16)
"""Those that decoding uses, and further ones: what a caption looks like is learnt from all."""

COLLECTIONS = {"photo": (11, 554), "texture": (12, 785)}
"""Folder to the seeds of its videos and of their layouts; half of the training videos each."""

TUNING_SEED = 101

LONGEST_SIDE = 1800
"""Pixels to which pictures are scaled down: more than any frame needs, and a tenth of the time to decode."""

GOLDEN = 64
"""Golden samples shipped: every label, and small enough for a package."""


@dataclass(frozen=True)
class Recipe:
    """How much is rendered and trained."""

    work: Path
    """Folder of everything that is made on the way."""
    pictures: Path | None
    """Folder of pictures without captions; None trains on generated textures alone."""
    fonts: Path | None
    """Folder of fonts; None takes those of the system."""
    videos: int = 700
    """Videos of each collection."""
    seconds: float = 8.0
    tuning_videos: int = 24
    tuning_seconds: float = 20.0
    epochs: int = 8


def train_default_model(recipe: Recipe, say: Callable[[str], None], progress: Progress) -> Path:
    """Run all steps; return the artifact, with its golden samples beside it."""
    work = recipe.work
    work.mkdir(parents=True, exist_ok=True)
    say("Rendering videos to train and to tune on ...")
    folders = _render(recipe, progress)
    say("Building the dataset ...")
    options = BuildOptions(distances=DISTANCES, pairs_per_video=400, val_share=0.02, test_share=0.02, seed=1)
    videos = [video for folder in folders for video in find_videos(folder)]
    create_dataset(work / "default.db", videos, options=options, progress=progress)
    say("Training ...")
    run = work / "run"
    config = RunConfig(
        dataset=str(work / "default.db"),
        name="default_model",
        architecture_name=ARCHITECTURE,
        hyperparameters={**HYPERPARAMETERS, "epochs": recipe.epochs},
        output=run,
        resume=(run / "last.pt").is_file(),
    )
    result = train(config, progress=progress, on_epoch=lambda epoch: say(f"  {epoch}"), warn=say)
    save_learning_curves(str(work / "default.db"), "default_model", work / "learning_curves.png")
    return finish_default_model(work, result.best_checkpoint, progress)


def _render(recipe: Recipe, progress: Progress) -> list[Path]:
    common: dict[str, Any] = {"fonts": recipe.fonts, "jobs": os.cpu_count() or 1, "progress": progress}
    pictures = None if recipe.pictures is None else scaled_pictures(recipe.pictures, recipe.work / "pictures")
    folders = []
    for name, (seed, layout_seed) in COLLECTIONS.items():
        if name == "photo" and pictures is None:
            continue
        folder = recipe.work / name
        backgrounds = pictures if name == "photo" else None
        render_videos(
            folder, recipe.videos, recipe.seconds, seed, backgrounds=backgrounds, band=True, pace="fast", **common
        )
        write_layouts(folder, layout_seed)
        folders.append(folder)
    render_videos(recipe.work / "tuning", recipe.tuning_videos, recipe.tuning_seconds, TUNING_SEED, **common)
    return folders


def scaled_pictures(source: Path, folder: Path) -> Path:
    """Copy the pictures below a folder, scaled to at most `LONGEST_SIDE`; return the folder of the copies.

    Raises InputError when there is none.
    """
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"There are no pictures in {source}. Give a folder of pictures without captions.")
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(found):
        place = folder / f"{number:04d}_{path.stem}.jpg"
        if not place.is_file():
            with atomic_path(place) as temporary:
                temporary.write_bytes(_scaled_jpeg(read_picture(path)))
    return folder


def _scaled_jpeg(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    scale = min(1.0, LONGEST_SIDE / max(picture.shape[:2]))
    if scale < 1:
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert ok, "JPEG takes every uint8 picture"
    return data.tobytes()


def finish_default_model(work: Path, checkpoint: Path, progress: Progress) -> Path:
    """Tune, calibrate and export a trained checkpoint; return the artifact."""
    golden = work / "default.golden.npz"
    load_golden_samples(golden_path(checkpoint)).sample(GOLDEN).save(golden)
    plain = export_checkpoint(checkpoint, work / "untuned.onnx", ExportOptions(golden=golden), progress)
    predictor = BoundaryPredictor(plain.path, "cpu")
    scored = list(score_once(predictor, find_videos(work / "tuning"), TRUTH, progress=progress))
    tune_decoding(predictor, scored, progress).save(work / "decoding.json")
    options = ExportOptions(golden=golden, decoding=decoding_from_file(work / "decoding.json"))
    return export_checkpoint(checkpoint, work / "default.onnx", options, progress).path


def install(artifact: Path) -> None:
    """Put an artifact, its golden samples and its staged graph into the package."""
    shutil.copyfile(artifact, DEFAULT_MODEL)
    shutil.copyfile(golden_path(artifact), golden_path(DEFAULT_MODEL))
    shutil.rmtree(stages_path(DEFAULT_MODEL), ignore_errors=True)
    shutil.copytree(stages_path(artifact), stages_path(DEFAULT_MODEL))


@reporting("default_model")
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder of pictures without captions.")
@click.option("--fonts", type=click.Path(path_type=Path), help="Folder of fonts.  [default: the system's]")
@click.option("--videos", type=int, default=Recipe.videos, show_default=True, help="Videos of each of two collections.")
@click.option("--epochs", type=int, default=Recipe.epochs, show_default=True, help="Of 46,800 pairs each.")
@click.option("--install", "installed", is_flag=True, help="Put the model into cb_runtime/models/.")
def main(
    report: Report, work: Path, pictures: Path | None, fonts: Path | None, videos: int, epochs: int, installed: bool
) -> None:
    """Train the model in the box in the folder WORK."""
    recipe = Recipe(work, pictures, fonts, videos=videos, epochs=epochs)
    with report.progress() as progress:
        artifact = train_default_model(recipe, report.print, progress)
    if installed:
        install(artifact)
    report.result({"artifact": str(artifact), "installed": str(DEFAULT_MODEL) if installed else None})


if __name__ == "__main__":
    main()
