"""Datasets of frame pairs: building them from captioned videos, reading them for training.

The names below are imported when they are first used, so that asking for a database session does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cb_core.data.augmentation import AugmentOptions, PairAugmentation
    from cb_core.data.builder import BuildReport, VideoInputsGiven, create_dataset, find_videos
    from cb_core.data.captions import Caption, CaptionFile, read_captions
    from cb_core.data.database import get_dataset_db
    from cb_core.data.fonts import FontEncoder
    from cb_core.data.options import BuildOptions
    from cb_core.data.summary import DatasetSummary, dataset_digest, summarise_dataset
    from cb_core.data.torch_dataset import PairDataset

_MODULE_OF = {
    "AugmentOptions": "augmentation",
    "BuildOptions": "options",
    "BuildReport": "builder",
    "Caption": "captions",
    "CaptionFile": "captions",
    "DatasetSummary": "summary",
    "FontEncoder": "fonts",
    "PairAugmentation": "augmentation",
    "PairDataset": "torch_dataset",
    "VideoInputsGiven": "builder",
    "create_dataset": "builder",
    "dataset_digest": "summary",
    "find_videos": "builder",
    "get_dataset_db": "database",
    "read_captions": "captions",
    "summarise_dataset": "summary",
}

__all__ = [
    "AugmentOptions",
    "BuildOptions",
    "BuildReport",
    "Caption",
    "CaptionFile",
    "DatasetSummary",
    "FontEncoder",
    "PairAugmentation",
    "PairDataset",
    "VideoInputsGiven",
    "create_dataset",
    "dataset_digest",
    "find_videos",
    "get_dataset_db",
    "read_captions",
    "summarise_dataset",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
