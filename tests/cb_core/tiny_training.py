"""A dataset and an architecture so small that a training run takes seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cb_core.data import get_dataset_db
from cb_core.data.options import BuildOptions
from cb_core.data.pictures import bytes_from_vector, png_from_image
from cb_core.data.schema import DatasetSettings, Pair, Strip, Video, VideoLayout
from cb_core.registry import load_plugin
from cb_core.training import RunConfig
from cb_runtime.contract import LABELS, REVERSED_LABEL
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout

ARCHITECTURE = "tiny_for_tests"

PLUGIN = Path(__file__).with_name("tiny_architecture.py")
load_plugin(PLUGIN)


def run_config(dataset: Path, **changes) -> RunConfig:
    """Return a quick run: two epochs, nothing random beyond the seed."""
    quick = {"epochs": 2, "batch_size": 8, "precision": "no", "learning_rate": 3e-3, "head_learning_rate": 3e-3}
    changes["hyperparameters"] = {**quick, "augment": False, **changes.get("hyperparameters", {})}
    defaults = {"name": "quick", "architecture_name": ARCHITECTURE, "workers": 0, "device": "cpu"}
    changes.setdefault("output", dataset.parent / "run")
    return RunConfig(str(dataset), **{**defaults, **changes})


def write_dataset(
    path: Path, *, pairs_per_class: int = 6, missing: dict[str, str] | None = None, orders: int = 1
) -> Path:
    """Write a dataset of two videos, one per split; `missing` names a class to leave out of a split.

    With two `orders`, each pair comes in both, so that pairs share frames.
    """
    with next(get_dataset_db(path, create=True)) as db:
        db.add(DatasetSettings(name=path.stem, options=BuildOptions().to_dict(), created_at=_now(), cb_version="0"))
        for number, split in enumerate(("train", "val")):
            labels = [name for name in LABELS if (missing or {}).get(split) != name]
            _add_video(db, number, split, labels, pairs_per_class, orders)
        db.commit()
    return path


def _now() -> datetime:
    return datetime.now(UTC)


def _add_video(db, number: int, split: str, labels: list[str], pairs_per_class: int, orders: int) -> None:
    generator = np.random.default_rng(number)
    digest = f"{number:064d}"
    size = {"size_bytes": 1, "width": 960, "height": 540, "frame_count": 1000}
    rate = {"time_base_num": 1, "time_base_den": 25, "rate_num": 25, "rate_den": 1}
    digests = {"sha256": digest, "inputs_digest": digest, "content_digest": digest}
    video = Video(path=f"{number}.mp4", split=split, partial=False, messages=[], **size, **rate, **digests)
    layout = CaptionLayout(960, 540, Box(0, 440, 960, 540), "center")
    picture = png_from_image(np.zeros((48, 480, 3), np.uint8))
    spatial = bytes_from_vector(np.zeros(6, np.float32))
    video.layout = VideoLayout(layout=layout.to_dict(), ocr_viz=picture, spatial_features=spatial)
    db.add(video)
    db.flush()
    for index in range(pairs_per_class * len(labels)):
        _add_pair(db, video.id, 2 * index, labels[index % len(labels)], generator, orders)


def _add_pair(db, video_id: int, frame: int, label: str, generator: np.random.Generator, orders: int) -> None:
    images = [png_from_image(picture) for picture in _pictures(label, generator)]
    first, second = (Strip(video_id=video_id, frame=frame + i, pts=frame + i, image=images[i]) for i in range(2))
    db.add_all((first, second))
    db.flush()
    index = LABELS.index(label)
    db.add(Pair(video_id=video_id, strip1_id=first.id, strip2_id=second.id, label=index, distance=1))
    if orders == 2:
        back = {"strip1_id": second.id, "strip2_id": first.id, "label": REVERSED_LABEL[index], "distance": -1}
        db.add(Pair(video_id=video_id, **back))


def _pictures(label: str, generator: np.random.Generator):
    empty = generator.integers(0, 40, (48, 480, 3), np.uint8)
    one, other = (_caption(empty, start) for start in (40, 280))
    return {"same": (one, one), "different": (one, other), "empty_empty": (empty, empty),
            "empty_valid": (empty, one), "valid_empty": (one, empty)}[label]  # fmt: skip


def _caption(empty, start: int):
    picture = empty.copy()
    picture[12:36, start : start + 160] = 230
    return picture
