"""Datasets and experiments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables."""
    _create_settings()
    _create_videos()
    _create_layouts()
    _create_captions()
    _create_strips()
    _create_pairs()
    _create_font_embeddings()
    _create_experiments()


def downgrade() -> None:
    """Drop all tables."""
    for name in ("experiments", "font_embeddings", "pairs", "strips", "captions", "layouts", "videos"):
        op.drop_table(name)
    op.drop_table("dataset_settings")


def _video_key(*, primary: bool = False) -> sa.Column[int]:
    of_video = sa.ForeignKey("videos.id", ondelete="CASCADE")
    return sa.Column("video_id", sa.Integer(), of_video, primary_key=primary, nullable=False)


def _create_settings() -> None:
    op.create_table(
        "dataset_settings",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cb_version", sa.String(64), nullable=False),
    )


def _create_videos() -> None:
    op.create_table(
        "videos",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("inputs_digest", sa.String(64), nullable=False),
        sa.Column("content_digest", sa.String(64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("time_base_num", sa.BigInteger(), nullable=False),
        sa.Column("time_base_den", sa.BigInteger(), nullable=False),
        sa.Column("rate_num", sa.BigInteger()),
        sa.Column("rate_den", sa.BigInteger()),
        sa.Column("frame_count", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(8)),
        sa.Column("partial", sa.Boolean(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
    )


def _create_layouts() -> None:
    op.create_table(
        "layouts",
        _video_key(primary=True),
        sa.Column("layout", sa.JSON(), nullable=False),
        sa.Column("ocr_engine", sa.String(64)),
        sa.Column("ocr_engine_version", sa.String(64)),
        sa.Column("ocr_viz", sa.LargeBinary(), nullable=False),
        sa.Column("spatial_features", sa.LargeBinary(), nullable=False),
    )


def _create_captions() -> None:
    op.create_table(
        "captions",
        sa.Column("id", sa.Integer(), primary_key=True),
        _video_key(),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("start_frame", sa.Integer(), nullable=False),
        sa.Column("end_frame", sa.Integer(), nullable=False),
        sa.Column("start_pts", sa.BigInteger(), nullable=False),
        sa.Column("end_pts", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text()),
        sa.UniqueConstraint("video_id", "number"),
    )


def _create_strips() -> None:
    op.create_table(
        "strips",
        sa.Column("id", sa.Integer(), primary_key=True),
        _video_key(),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("pts", sa.BigInteger(), nullable=False),
        sa.Column("image", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("video_id", "frame"),
    )


def _create_pairs() -> None:
    op.create_table(
        "pairs",
        sa.Column("id", sa.Integer(), primary_key=True),
        _video_key(),
        sa.Column("strip1_id", sa.Integer(), sa.ForeignKey("strips.id", ondelete="CASCADE"), nullable=False),
        sa.Column("strip2_id", sa.Integer(), sa.ForeignKey("strips.id", ondelete="CASCADE"), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("distance", sa.Integer(), nullable=False),
        sa.UniqueConstraint("strip1_id", "strip2_id"),
    )
    op.create_index("ix_pairs_video_id_label", "pairs", ["video_id", "label"])
    # Without it, deleting a strip would scan all pairs for references to it.
    op.create_index("ix_pairs_strip2_id", "pairs", ["strip2_id"])


def _create_font_embeddings() -> None:
    op.create_table(
        "font_embeddings",
        sa.Column("id", sa.Integer(), primary_key=True),
        _video_key(),
        sa.Column("fontclip_model_version", sa.String(255), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("video_id", "fontclip_model_version"),
    )


def _create_experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("architecture_name", sa.String(), nullable=False),
        sa.Column("model_config", sa.JSON(), nullable=False),
        sa.Column("hyperparameters", sa.JSON(), nullable=False),
        sa.Column("fontclip_model_version", sa.String()),
        sa.Column("git_commit", sa.String()),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("best_val_f1", sa.Float()),
        sa.Column("best_val_accuracy", sa.Float()),
        sa.Column("best_epoch", sa.Integer()),
        sa.Column("epochs_done", sa.Integer(), nullable=False),
        sa.Column("best_checkpoint", sa.String()),
        sa.Column("last_checkpoint", sa.String()),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("host", sa.String()),
        sa.Column("dataset_digest", sa.String()),
        sa.Column("message", sa.String()),
        sa.Column("history", sa.JSON(), nullable=False),
    )
    op.create_index("ix_experiments_name", "experiments", ["name"])
