"""A dataset of three small captioned videos, one for each split."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cb_core.data.builder import VideoInputsGiven, create_dataset, find_videos


def _data_videos():
    """Load the videos of the dataset tests, which are in another folder."""
    place = Path(__file__).parents[1] / "cb_core" / "data_videos.py"
    spec = importlib.util.spec_from_file_location("data_videos_of_cb_core", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_dataset(folder: Path) -> Path:
    """Write `d.db`."""
    videos = _data_videos()
    for number in range(3):
        videos.write_captioned(
            folder, f"v{number}", [(15, 35, "one"), (40, 50, "two"), (50, 60, "three")], 70, seed=number
        )
    create_dataset(folder / "d.db", find_videos(folder), given=VideoInputsGiven(region=videos.REGION))
    return folder / "d.db"
