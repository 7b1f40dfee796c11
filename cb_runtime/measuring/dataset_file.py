"""Labelled pairs out of a dataset file, read with SQLite alone: a machine that runs models has no SQLAlchemy.

The tables are those of `cb_core.data.schema`; a test compares what is read here with what training reads.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import ModelMetadata, preprocessing_from_dict
from cb_runtime.errors import ContractError, InputError
from cb_runtime.features import no_font_embedding, ocr_viz
from cb_runtime.layout import layout_from_dict
from cb_runtime.video.types import Image

_PAIRS = """
SELECT pairs.label, pairs.video_id, pairs.strip1_id, pairs.strip2_id FROM pairs
JOIN videos ON videos.id = pairs.video_id
JOIN strips AS one ON one.id = pairs.strip1_id
JOIN strips AS other ON other.id = pairs.strip2_id
WHERE videos.split = ? ORDER BY videos.sha256, one.frame, other.frame
"""
_VIDEO = "SELECT layout, ocr_viz, spatial_features FROM layouts WHERE video_id = ?"
_FONT = "SELECT vector FROM font_embeddings WHERE video_id = ? AND fontclip_model_version = ?"

_DAMAGED = (sqlite3.Error, KeyError, TypeError, ValueError, ContractError)
# What SQLite and reading raise for another file, other tables, or damaged rows.


def pairs_of_dataset(
    path: Path, metadata: ModelMetadata, split: str, limit: int
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Read pairs of one split as a model takes them.

    Args:
        path: The dataset's SQLite file.
        metadata: What the model takes: how strips are made, which `ocr_viz` variant, which font embeddings.
        split: `train`, `val` or `test`.
        limit: Pairs at most: of each label as many as there are, from all over the split.

    Returns:
        The five inputs in graph form, first axis the pair, and labels int64 `(n,)`.

    Raises:
        InputError: No such file, no dataset, damaged, no pairs in the split, or made for another model's inputs.
    """
    if not path.is_file():
        raise InputError(f"Dataset {path} does not exist. Check its name.")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return _read(connection, path, metadata, split, limit)
    except _DAMAGED as error:
        raise InputError(
            f"{path} cannot be read as a dataset ({type(error).__name__}: {error}). Give a file of `cb dataset create`."
        ) from error


def _read(
    connection: sqlite3.Connection, path: Path, metadata: ModelMetadata, split: str, limit: int
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    variant = _check_settings(connection, path, metadata)
    rows = np.asarray(connection.execute(_PAIRS, (split,)).fetchall(), np.int64).reshape(-1, 4)
    if not len(rows):
        raise InputError(f"{path} has no pairs in split '{split}'. Choose another --split.")
    chosen = rows[spread_over_labels(rows[:, 0], limit)]
    videos = {key: _video(connection, path, key, metadata, variant) for key in np.unique(chosen[:, 1]).tolist()}
    strips = {key: _strip(connection, key) for key in np.unique(chosen[:, 2:]).tolist()}
    pictures, spatial, fonts = zip(*(videos[key] for key in chosen[:, 1].tolist()), strict=True)
    inputs = {
        "ocr_viz": np.stack(pictures),
        "frame1": np.stack([strips[key] for key in chosen[:, 2].tolist()]),
        "frame2": np.stack([strips[key] for key in chosen[:, 3].tolist()]),
        "spatial_features": np.stack(spatial),
        "font_embedding": np.stack(fonts),
    }
    return inputs, chosen[:, 0].copy()


def _check_settings(connection: sqlite3.Connection, path: Path, metadata: ModelMetadata) -> str:
    """Return the variant of the dataset's pictures. Raises InputError when its strips are not those of the model."""
    found = connection.execute("SELECT options FROM dataset_settings").fetchone()
    if found is None:
        raise InputError(f"{path} is an empty dataset. Build it with: cb dataset create {path.name} --videos DIR")
    options = json.loads(found[0])
    preprocessing = preprocessing_from_dict(options["preprocessing"])
    if preprocessing != metadata.preprocessing:
        raise InputError(
            f"{path} has strips made with {preprocessing}, the model takes {metadata.preprocessing}. Build a dataset "
            f"for it: cb dataset create OTHER.db --resize-strategy {metadata.preprocessing.resize_strategy}"
        )
    return str(options["ocr_viz_variant"])


def spread_over_labels(labels: NDArray[np.int64], limit: int) -> NDArray[np.intp]:
    """Return ascending indices of at most `limit` pairs, spread evenly over labels and over the pairs of each."""
    members = sorted((np.flatnonzero(labels == label) for label in np.unique(labels)), key=len)
    chosen: list[NDArray[np.intp]] = []
    for number, rows in enumerate(members):
        share = (limit - sum(map(len, chosen))) // (len(members) - number)
        chosen.append(rows[np.linspace(0, len(rows) - 1, min(share, len(rows))).round().astype(np.intp)])
    return np.sort(np.concatenate(chosen))


def _video(
    connection: sqlite3.Connection, path: Path, key: int, metadata: ModelMetadata, stored_variant: str
) -> tuple[Image, NDArray[np.float32], NDArray[np.float32]]:
    layout, picture, spatial = connection.execute(_VIDEO, (key,)).fetchone()
    variant = metadata.ocr_viz_variant
    if variant == stored_variant:
        drawn = _image(picture)
    else:
        drawn = ocr_viz(layout_from_dict(json.loads(layout)), metadata.preprocessing, variant)
    return drawn, _vector(spatial), _font(connection, path, key, metadata)


def _font(connection: sqlite3.Connection, path: Path, key: int, metadata: ModelMetadata) -> NDArray[np.float32]:
    if not metadata.use_font_embedding:
        return no_font_embedding()
    found: Iterable[Any] | None = connection.execute(_FONT, (key, metadata.fontclip_model_version)).fetchone()
    if found is None:
        raise InputError(
            f"{path} has no font embeddings of {metadata.fontclip_model_version}, which the model needs. Build it with "
            "--font-model, or compare on golden samples."
        )
    (vector,) = found
    return _vector(vector)


def _strip(connection: sqlite3.Connection, key: int) -> Image:
    (data,) = connection.execute("SELECT image FROM strips WHERE id = ?", (key,)).fetchone()
    return _image(data)


def _image(data: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise ValueError("a picture is no PNG")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _vector(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, "<f4").astype(np.float32)
