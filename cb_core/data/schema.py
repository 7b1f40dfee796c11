"""The tables of a dataset database; `cb_core.tracking.experiment` adds the experiments.

Only plain SQLAlchemy types, so that SQLite and PostgreSQL hold the same. A picture is stored once, however many pairs
it takes part in, and losslessly: what training reads is byte for byte what inference computes.
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from cb_core.data.base import Base

SPLITS = ("train", "val", "test")
"""The splits a video can be in."""


class DatasetSettings(Base):
    """How the dataset was built; one row."""

    __tablename__ = "dataset_settings"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    """`BuildOptions.to_dict()`: everything that changes the content."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    """UTC."""
    cb_version: Mapped[str] = mapped_column(String(64))


class Video(Base):
    """One annotated video whose pairs are in the dataset."""

    __tablename__ = "videos"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    """Of the video file's bytes."""
    inputs_digest: Mapped[str] = mapped_column(String(64))
    """Over the caption file and layout file it was built from: a change means that it is built again."""
    content_digest: Mapped[str] = mapped_column(String(64))
    """Over layout, captions, strips and pairs as stored."""
    path: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    time_base_num: Mapped[int] = mapped_column(BigInteger)
    time_base_den: Mapped[int] = mapped_column(BigInteger)
    rate_num: Mapped[int | None] = mapped_column(BigInteger)
    rate_den: Mapped[int | None] = mapped_column(BigInteger)
    frame_count: Mapped[int]
    """Frames that could be decoded."""
    split: Mapped[str | None] = mapped_column(String(8))
    """One of `SPLITS`; NULL until the build has seen all videos."""
    partial: Mapped[bool]
    """True when the file could not be decoded to its end."""
    messages: Mapped[list[str]] = mapped_column(JSON)
    """What went wrong while it was built."""

    layout: Mapped[VideoLayout] = relationship(back_populates="video", cascade="all, delete-orphan")
    captions: Mapped[list[VideoCaption]] = relationship(
        back_populates="video", cascade="all, delete-orphan", order_by="VideoCaption.number"
    )

    @property
    def time_base(self) -> Fraction:
        """Unit of PTS in seconds."""
        return Fraction(self.time_base_num, self.time_base_den)

    @property
    def average_rate(self) -> Fraction | None:
        """Frames per second as the container states it."""
        return None if self.rate_num is None or self.rate_den is None else Fraction(self.rate_num, self.rate_den)


class VideoLayout(Base):
    """A video's caption layout and the inputs that follow from it."""

    __tablename__ = "layouts"

    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"), primary_key=True)
    layout: Mapped[dict[str, Any]] = mapped_column(JSON)
    """`CaptionLayout.to_dict()`."""
    ocr_engine: Mapped[str | None] = mapped_column(String(64))
    ocr_engine_version: Mapped[str | None] = mapped_column(String(64))
    ocr_viz: Mapped[bytes] = mapped_column(LargeBinary)
    """Picture (48, 480, 3) RGB uint8 as PNG, in the dataset's variant."""
    spatial_features: Mapped[bytes] = mapped_column(LargeBinary)
    """Little-endian float32 (6,)."""
    video: Mapped[Video] = relationship(back_populates="layout")


class VideoCaption(Base):
    """One caption, half-open in frames and in PTS."""

    __tablename__ = "captions"
    __table_args__ = (UniqueConstraint("video_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    number: Mapped[int]
    """Place in time order, from 1."""
    start_frame: Mapped[int]
    end_frame: Mapped[int]
    start_pts: Mapped[int] = mapped_column(BigInteger)
    end_pts: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str | None] = mapped_column(Text)
    """NULL: not transcribed; `''`: confirmed empty, no caption is shown."""
    region: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    """Left, top, right, bottom in pixels of the displayed frame; NULL where the caption file does not say."""
    video: Mapped[Video] = relationship(back_populates="captions")


class Strip(Base):
    """One frame's caption region as a strip."""

    __tablename__ = "strips"
    __table_args__ = (UniqueConstraint("video_id", "frame"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    frame: Mapped[int]
    """Index of the frame in presentation order."""
    pts: Mapped[int] = mapped_column(BigInteger)
    image: Mapped[bytes] = mapped_column(LargeBinary)
    """Strip (48, 480, 3) RGB uint8 as PNG."""


class Pair(Base):
    """Two frames of one video and their label; its split is its video's."""

    __tablename__ = "pairs"
    __table_args__ = (
        UniqueConstraint("strip1_id", "strip2_id"),
        Index("ix_pairs_video_id_label", "video_id", "label"),
        Index("ix_pairs_strip2_id", "strip2_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    strip1_id: Mapped[int] = mapped_column(ForeignKey("strips.id", ondelete="CASCADE"))
    strip2_id: Mapped[int] = mapped_column(ForeignKey("strips.id", ondelete="CASCADE"))
    label: Mapped[int]
    """Index into `cb_runtime.contract.LABELS`."""
    distance: Mapped[int]
    """Frames from the first to the second; negative when the pair is in reversed order."""


class FontEmbedding(Base):
    """A video's caption style as a vector."""

    __tablename__ = "font_embeddings"
    __table_args__ = (UniqueConstraint("video_id", "fontclip_model_version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    fontclip_model_version: Mapped[str] = mapped_column(String(255))
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    """Little-endian float32 (512,)."""
