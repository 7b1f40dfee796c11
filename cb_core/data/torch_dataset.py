"""Read a dataset's pairs for training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import Connection, select
from sqlalchemy.orm import aliased
from torch import Tensor
from torch.utils.data import Dataset

from cb_core.data.batches import SHOWS_CAPTION, Augment, Batch, Sample, unique_frames
from cb_core.data.database import database_errors, dataset_engine, open_session_on, public_name
from cb_core.data.extents import read_extents
from cb_core.data.pictures import image_from_png, png_from_image, vector_from_bytes
from cb_core.data.schema import SPLITS, FontEmbedding, Pair, Strip, Video, VideoLayout
from cb_core.data.summary import DatasetSummary, summarise_dataset
from cb_runtime.contract import LABELS
from cb_runtime.errors import InputError, UsageError
from cb_runtime.features import no_font_embedding, ocr_viz
from cb_runtime.layout import layout_from_dict
from cb_runtime.video.types import Image

_inherited: list[Connection] = []
"""Connections a forked worker got from its parent; kept, because closing them there would disturb the parent's."""


class PairDataset(Dataset[Sample]):
    """The pairs of one split, in an order that depends on the dataset's content alone.

    Pictures are decoded when a pair is asked for. Safe to hand to workers, forked or spawned: each opens its own
    connection.

    Args:
        database: SQLite file or SQLAlchemy URL.
        split: One of `SPLITS`.
        augment: Alters every sample, or the frames of each camera of a batch.
        use_font_embedding: Give the stored font embeddings; zeros otherwise.
        ocr_viz_variant: Draw the picture in this variant instead of the dataset's.
        cache_mib: Encoded strips kept in memory by each process, in MiB at most.

    Raises:
        InputError: No dataset, no pairs in this split, or no font embeddings although they are asked for.
        UsageError: An unknown split.
    """

    def __init__(
        self,
        database: str | Path,
        split: str,
        *,
        augment: Augment | None = None,
        use_font_embedding: bool = False,
        ocr_viz_variant: str | None = None,
        cache_mib: int = 512,
    ) -> None:
        if split not in SPLITS:
            raise UsageError(f"A split is one of {', '.join(SPLITS)}, got '{split}'.")
        self.database = database
        self.split = split
        self.augment = augment
        self.use_font_embedding = use_font_embedding
        self._read_summary(ocr_viz_variant)
        self._read_pairs()
        self._read_videos()
        self._read_extents()
        self._free_bytes = cache_mib * 2**20
        self._encoded: dict[int, bytes] = {}
        self._connection: Connection | None = None
        self._process = 0

    summary: DatasetSummary
    """What the whole dataset holds: digest, preprocessing, engines, counts."""
    labels: NDArray[np.int64]
    """Label of every pair, in the order of this dataset."""
    distances: NDArray[np.int64]
    """Frames from first to second, negative for reversed pairs, in the order of this dataset."""
    video_ids: NDArray[np.int64]
    """Key of each pair's video, in the order of this dataset."""
    strip_ids: NDArray[np.int64]
    """Keys of each pair's two strips (pairs, 2), in the order of this dataset."""

    def class_counts(self) -> dict[str, int]:
        """Return the number of pairs of every label, zero included."""
        counts = np.bincount(self.labels, minlength=len(LABELS))
        return dict(zip(LABELS, counts.tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Return several samples; every strip among them is read and decoded once."""
        strips = self._decoded(self.strip_ids[list(indices)])
        samples = [self._sample(index, strips) for index in indices]
        return [self.augment(sample) for sample in samples] if self.augment else samples

    def batch(self, indices: Sequence[int], *, share_frames: bool = True) -> Batch:
        """Return several pairs with each picture once.

        Args:
            indices: Pairs of this dataset; one may occur more than once.
            share_frames: Pairs of one video are seen by one camera: their frames are altered alike, and each is there
                once. Otherwise each pair has its own camera, and nothing is shared.
        """
        chosen = np.asarray(indices, np.int64)
        videos = self.video_ids[chosen]
        _, seen, camera = np.unique(
            videos if share_frames else np.arange(len(chosen)), return_index=True, return_inverse=True
        )
        keys, index, first = unique_frames(camera, self.strip_ids[chosen])
        presence = SHOWS_CAPTION[self.labels[chosen]].ravel()[first]
        extents = [
            self._extents[video].of_frame(frame, shows_caption=shows)
            for video, frame, shows in zip(
                np.repeat(videos, 2)[first].tolist(),
                self._frames[chosen].ravel()[first].tolist(),
                presence,
                strict=True,
            )
        ]
        strips = self._decoded(keys[:, 1])
        shots = [
            self._altered(int(videos[pair]), [strips[key] for key in keys[keys[:, 0] == number, 1].tolist()])
            for number, pair in enumerate(seen)
        ]
        vectors = [self._inputs_of_video[key][1:] for key in videos.tolist()]
        spatial = torch.from_numpy(np.stack([spatial for spatial, _ in vectors]))
        return {
            "frames": torch.cat([frames for _, frames in shots]),
            "frame1_index": torch.from_numpy(index[:, 0].copy()),
            "frame2_index": torch.from_numpy(index[:, 1].copy()),
            "pictures": torch.stack([picture for picture, _ in shots]),
            "picture_index": torch.from_numpy(camera),
            "spatial_features": self.augment.placed(spatial) if self.augment else spatial,
            "font_embedding": torch.from_numpy(np.stack([font for _, font in vectors])),
            "label": torch.from_numpy(self.labels[chosen]),
            "pair": torch.from_numpy(chosen),
            "presence": torch.from_numpy(presence.astype(np.float32)),
            "extent": torch.from_numpy(np.stack(extents)),
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None, "_encoded": {}, "_free_bytes": self._free_bytes + self._cached()}

    def _cached(self) -> int:
        return sum(len(data) for data in self._encoded.values())

    def _altered(self, video: int, strips: Sequence[Image]) -> tuple[Tensor, Tensor]:
        picture = torch.from_numpy(image_from_png(self._inputs_of_video[video][0]))
        frames = torch.from_numpy(np.stack(strips))
        return self.augment.alter(picture, frames) if self.augment else (picture, frames)

    def _decoded(self, keys: NDArray[np.int64]) -> dict[int, Image]:
        return {key: image_from_png(data) for key, data in self._strip_bytes(np.unique(keys).tolist()).items()}

    def _sample(self, index: int, strips: dict[int, Image]) -> Sample:
        first, second = self.strip_ids[index].tolist()
        picture, spatial, font = self._inputs_of_video[int(self.video_ids[index])]
        return {
            "ocr_viz": torch.from_numpy(image_from_png(picture)),
            # Copies: samples of one batch may share a strip, and an augmentation may write into its own.
            "frame1": torch.from_numpy(strips[first].copy()),
            "frame2": torch.from_numpy(strips[second].copy()),
            "spatial_features": torch.from_numpy(spatial.copy()),
            "font_embedding": torch.from_numpy(font.copy()),
            "label": int(self.labels[index]),
        }

    def _strip_bytes(self, keys: list[int]) -> dict[int, bytes]:
        found = {key: self._encoded[key] for key in keys if key in self._encoded}
        missing = [key for key in keys if key not in found]
        if missing:
            with database_errors(self.database):
                rows = self._reader().execute(select(Strip.id, Strip.image).where(Strip.id.in_(missing)))
                found |= {key: self._kept(key, image) for key, image in rows}
        return found

    def _kept(self, key: int, image: bytes) -> bytes:
        if len(image) <= self._free_bytes:
            self._encoded[key] = image
            self._free_bytes -= len(image)
        return image

    def _reader(self) -> Connection:
        if self._connection is not None and self._process != os.getpid():
            _inherited.append(self._connection)
            self._connection = None
        if self._connection is None:
            # Autocommit: a transaction held open for the whole training would keep SQLite from tidying its log.
            self._connection = dataset_engine(self.database).connect().execution_options(isolation_level="AUTOCOMMIT")
            self._process = os.getpid()
        return self._connection

    def _read_summary(self, ocr_viz_variant: str | None) -> None:
        with open_session_on(self.database) as session:
            self.summary = summarise_dataset(session)
        self.ocr_viz_variant = ocr_viz_variant or self.summary.ocr_viz_variant
        if self.use_font_embedding and self.summary.fontclip_model_version is None:
            raise InputError(
                f"{public_name(self.database)} has no font embeddings. Build it with --font-model, or train without "
                "use_font_embedding."
            )

    def _read_pairs(self) -> None:
        first, second = aliased(Strip), aliased(Strip)
        query = (
            select(Pair.label, Pair.distance, Pair.video_id, Pair.strip1_id, Pair.strip2_id, first.frame, second.frame)
            .join(Video, Pair.video_id == Video.id)
            .join(first, Pair.strip1_id == first.id)
            .join(second, Pair.strip2_id == second.id)
            .where(Video.split == self.split)
            .order_by(Video.sha256, first.frame, second.frame)
        )
        with open_session_on(self.database) as session, database_errors(self.database):
            rows = [tuple(row) for row in session.execute(query)]
        if not rows:
            raise InputError(
                f"{public_name(self.database)} has no pairs in split '{self.split}'. Add annotated videos with "
                "cb dataset create."
            )
        columns = np.asarray(rows, np.int64)
        self.labels, self.distances, self.video_ids = (columns[:, place].copy() for place in range(3))
        self.strip_ids, self._frames = columns[:, 3:5].copy(), columns[:, 5:].copy()

    def _read_videos(self) -> None:
        query = (
            select(
                Video.id, VideoLayout.layout, VideoLayout.ocr_viz, VideoLayout.spatial_features, FontEmbedding.vector
            )
            .join(VideoLayout, VideoLayout.video_id == Video.id)
            .outerjoin(FontEmbedding, FontEmbedding.video_id == Video.id)
            .where(Video.split == self.split)
        )
        with open_session_on(self.database) as session, database_errors(self.database):
            rows = session.execute(query).all()
        self._inputs_of_video = {
            row.id: (
                self._picture(row.layout, row.ocr_viz),
                vector_from_bytes(row.spatial_features),
                vector_from_bytes(row.vector) if self.use_font_embedding else no_font_embedding(),
            )
            for row in rows
        }

    def _read_extents(self) -> None:
        with open_session_on(self.database) as session, database_errors(self.database):
            self._extents = read_extents(session, self.split, self.summary.preprocessing)

    def _picture(self, layout: dict[str, Any], stored: bytes) -> bytes:
        if self.ocr_viz_variant == self.summary.ocr_viz_variant:
            return stored
        return png_from_image(ocr_viz(layout_from_dict(layout), self.summary.preprocessing, self.ocr_viz_variant))
