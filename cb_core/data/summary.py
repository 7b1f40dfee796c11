"""What a dataset holds: its digest, its counts, and what a user should know before training on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cb_core.data.schema import SPLITS, DatasetSettings, FontEmbedding, Pair, Video, VideoCaption, VideoLayout
from cb_runtime.contract import LABELS, Preprocessing, preprocessing_from_dict
from cb_runtime.errors import InputError

FURTHER = "further"
"""Key of pairs that are further apart than the distances asked for."""


@dataclass(frozen=True)
class DatasetSummary:
    """What a dataset holds."""

    name: str
    digest: str
    """`dataset_digest`."""
    preprocessing: Preprocessing
    """How its strips were made."""
    ocr_viz_variant: str
    ocr_engine: str | None
    """Engine that found the boxes; None when no layout is from OCR, `a+b` when videos differ."""
    ocr_engine_version: str | None
    fontclip_model_version: str | None
    """Encoder of the font embeddings; None when not every video has one."""
    videos: Mapping[str, int]
    """Videos in each split."""
    pairs: Mapping[str, Mapping[str, int]]
    """Split -> label -> pairs, zeros included."""
    distances: Mapping[str, int]
    """Distance in frames, direction left out -> pairs; `further` for pairs beyond the distances asked for."""
    partial_videos: tuple[str, ...]
    """Paths of videos that could not be decoded to their end."""
    captions: int
    warnings: tuple[str, ...]
    """What may spoil a training on it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def dataset_digest(session: Session) -> str:
    """Return SHA-256 over the options and every video's content, split and font embedding, in no order of building."""
    fonts = _fonts_by_video(session)
    videos = session.execute(select(Video.id, Video.sha256, Video.content_digest, Video.split)).all()
    content = sorted([video.sha256, video.content_digest, video.split, fonts.get(video.id)] for video in videos)
    document = json.dumps([settings_of(session).options, content], sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()


def settings_of(session: Session) -> DatasetSettings:
    """Return how the dataset was built. Raises InputError when nothing was built yet."""
    settings: DatasetSettings | None = session.scalar(select(DatasetSettings))
    if settings is None:
        raise InputError("The dataset is empty. Build it with: cb dataset create NAME.db --videos DIR")
    return settings


def summarise_dataset(session: Session) -> DatasetSummary:
    """Return what a dataset holds. Raises InputError when nothing was built yet."""
    settings = settings_of(session)
    videos, pairs = _videos_by_split(session), _pairs_by_split(session)
    engines = _engines(session)
    return DatasetSummary(
        name=settings.name,
        digest=dataset_digest(session),
        preprocessing=preprocessing_from_dict(settings.options["preprocessing"]),
        ocr_viz_variant=settings.options["ocr_viz_variant"],
        ocr_engine="+".join(sorted({name for name, _ in engines})) or None,
        ocr_engine_version="+".join(sorted({version for _, version in engines})) or None,
        fontclip_model_version=_font_version(session, sum(videos.values())),
        videos=videos,
        pairs=pairs,
        distances=_distances(session, settings.options["distances"]),
        partial_videos=tuple(session.scalars(select(Video.path).where(Video.partial).order_by(Video.path))),
        captions=_count_captions(session),
        warnings=(*_unfinished(session), *_warnings(videos, pairs, engines)),
    )


def _videos_by_split(session: Session) -> dict[str, int]:
    found = dict(session.execute(select(Video.split, func.count()).group_by(Video.split)).all())
    return {split: found.get(split, 0) for split in SPLITS}


def _pairs_by_split(session: Session) -> dict[str, dict[str, int]]:
    query = (
        select(Video.split, Pair.label, func.count())
        .join(Pair, Pair.video_id == Video.id)
        .group_by(Video.split, Pair.label)
    )
    found = {(split, label): count for split, label, count in session.execute(query)}
    return {split: {name: found.get((split, label), 0) for label, name in enumerate(LABELS)} for split in SPLITS}


def _distances(session: Session, wanted: Sequence[int]) -> dict[str, int]:
    counts = dict.fromkeys([*map(str, wanted), FURTHER], 0)
    for distance, count in session.execute(select(Pair.distance, func.count()).group_by(Pair.distance)):
        counts[str(abs(distance)) if abs(distance) in wanted else FURTHER] += count
    return counts


def _count_captions(session: Session) -> int:
    shown = (VideoCaption.text.is_(None)) | (VideoCaption.text != "")
    return session.scalar(select(func.count()).select_from(VideoCaption).where(shown)) or 0


def _engines(session: Session) -> set[tuple[str, str]]:
    query = select(VideoLayout.ocr_engine, VideoLayout.ocr_engine_version).distinct()
    return {(name, version or "") for name, version in session.execute(query) if name}


def _fonts_by_video(session: Session) -> dict[int, list[str]]:
    rows = session.execute(select(FontEmbedding.video_id, FontEmbedding.fontclip_model_version, FontEmbedding.vector))
    return {key: [version, hashlib.sha256(vector).hexdigest()] for key, version, vector in rows}


def _font_version(session: Session, videos: int) -> str | None:
    query = select(FontEmbedding.fontclip_model_version, func.count()).group_by(FontEmbedding.fontclip_model_version)
    found = session.execute(query).all()
    return found[0][0] if len(found) == 1 and found[0][1] == videos else None


def _unfinished(session: Session) -> list[str]:
    waiting = session.scalar(select(func.count()).select_from(Video).where(Video.split.is_(None)))
    if not waiting:
        return []
    return [f"{waiting} videos have no split yet: the build was stopped. Run the same cb dataset create again."]


def _warnings(
    videos: Mapping[str, int], pairs: Mapping[str, Mapping[str, int]], engines: set[tuple[str, str]]
) -> list[str]:
    warnings = [f"Split '{split}' has no videos; add annotated videos." for split in SPLITS if not videos[split]]
    for split in SPLITS:
        missing = [name for name, count in pairs[split].items() if not count]
        if videos[split] and missing:
            warnings.append(
                f"Split '{split}' has no pairs of class {', '.join(missing)}; a model cannot be "
                f"{'taught' if split == 'train' else 'judged on'} what it is not shown. Add videos that have them."
            )
    if len(engines) > 1:
        names = ", ".join(sorted(" ".join(engine) for engine in engines))
        warnings.append(f"Layouts come from different OCR engines ({names}); build the dataset with one.")
    return warnings
