"""The `experiments` table: one row per training run, written when the run starts and updated each epoch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, DateTime, Float, String, TypeDecorator, nulls_last
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.operators import OperatorType, desc_op

from cb_core.data.base import Base

STATUSES = ("running", "finished", "failed", "interrupted")
"""What can become of a run; one that was killed without warning stays `running` until it is resumed."""


class Score(TypeDecorator[float]):
    """A float in [0, 1], or None; sorted from best to worst, None comes last in every database.

    PostgreSQL would put None first, so that "order by F1, best first" would find a run that has not finished an epoch.
    """

    impl = Float
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[float]):  # noqa: N801  (SQLAlchemy's name)
        """Adds `NULLS LAST` to `desc()`."""

        def operate(self, op: OperatorType, *other: Any, **options: Any) -> ColumnElement[Any]:  # noqa: ANN401
            """Apply an operator, as SQLAlchemy does."""
            result = super().operate(op, *other, **options)
            return nulls_last(result) if op is desc_op else result


class Experiment(Base):
    """One training run."""

    __tablename__ = "experiments"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String, index=True)
    """What the user calls it; may repeat, the newest counts."""
    architecture_name: Mapped[str] = mapped_column(String)
    """Name in the registry."""
    model_config: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """Keyword arguments the architecture was created with."""
    hyperparameters: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """How it was trained: learning rates, batch size, seed, ..."""
    fontclip_model_version: Mapped[str | None] = mapped_column(String, default=None)
    git_commit: Mapped[str | None] = mapped_column(String, default=None)
    """Commit of the training code, with `-dirty` appended when the tree had changes."""
    status: Mapped[str] = mapped_column(String, default="running")
    """One of `STATUSES`."""
    best_val_f1: Mapped[float | None] = mapped_column(Score, default=None)
    """Highest macro F1 on the validation split, in [0, 1]; None before the first epoch is done."""
    best_val_accuracy: Mapped[float | None] = mapped_column(Score, default=None)
    """Accuracy of the epoch with the highest macro F1, in [0, 1]."""
    best_epoch: Mapped[int | None] = mapped_column(default=None)
    """Epoch with the highest macro F1, from 1."""
    epochs_done: Mapped[int] = mapped_column(default=0)
    best_checkpoint: Mapped[str | None] = mapped_column(String, default=None)
    last_checkpoint: Mapped[str | None] = mapped_column(String, default=None)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    """UTC."""
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), default=None)
    """UTC; None while running."""
    host: Mapped[str | None] = mapped_column(String, default=None)
    dataset_digest: Mapped[str | None] = mapped_column(String, default=None)
    message: Mapped[str | None] = mapped_column(String, default=None)
    """Why the run ended as it did."""
    history: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    """Metrics of each epoch, in order."""
