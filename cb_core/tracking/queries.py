"""Questions about experiments that users ask again and again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cb_core.tracking.experiment import Experiment
from cb_runtime.errors import InputError

COMPARED = (
    "status",
    "architecture_name",
    "best_val_f1",
    "best_val_accuracy",
    "best_epoch",
    "epochs_done",
    "git_commit",
)
"""Columns that a comparison shows whether they differ or not."""


def list_experiments(db: Session) -> list[Experiment]:
    """Return all experiments, newest first."""
    return list(db.scalars(select(Experiment).order_by(Experiment.id.desc())))


def newest_experiment(db: Session, name: str) -> Experiment | None:
    """Return the newest experiment of that name, or None."""
    return db.scalars(select(Experiment).where(Experiment.name == name).order_by(Experiment.id.desc())).first()


def find_experiment(db: Session, name: str) -> Experiment:
    """Return the newest experiment of that name. Raises InputError when there is none."""
    found = newest_experiment(db, name)
    if found is None:
        known = ", ".join(sorted(set(db.scalars(select(Experiment.name))))) or "none yet"
        raise InputError(f"There is no experiment '{name}' in this dataset. Known: {known}.")
    return found


def best_experiment(db: Session, architecture_name: str | None = None) -> Experiment:
    """Return the experiment with the highest macro F1. Raises InputError when none has finished an epoch."""
    query = select(Experiment).where(Experiment.best_val_f1.is_not(None)).order_by(Experiment.best_val_f1.desc())
    if architecture_name is not None:
        query = query.where(Experiment.architecture_name == architecture_name)
    found = db.scalars(query).first()
    if found is None:
        kind = f" with architecture '{architecture_name}'" if architecture_name else ""
        raise InputError(f"No experiment{kind} has finished an epoch in this dataset. Train one with: cb train")
    return found


def average_f1_by_architecture(db: Session) -> dict[str, float]:
    """Return the mean of the best macro F1 over the experiments of each architecture, best first."""
    mean = func.avg(Experiment.best_val_f1)
    rows = db.execute(
        select(Experiment.architecture_name, mean)
        .where(Experiment.best_val_f1.is_not(None))
        .group_by(Experiment.architecture_name)
        .order_by(mean.desc())
    )
    return {name: float(value) for name, value in rows}


def experiment_to_dict(experiment: Experiment) -> dict[str, Any]:
    """Return all columns as plain JSON types; times in ISO 8601, UTC."""
    values = {column.key: getattr(experiment, column.key) for column in Experiment.__mapper__.column_attrs}
    return {key: _utc_text(value) if isinstance(value, datetime) else value for key, value in values.items()}


def _utc_text(moment: datetime) -> str:
    # SQLite keeps no offset, and gives back what was written: UTC. PostgreSQL gives its session's time zone.
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat()


def compare_experiments(experiments: Sequence[Experiment]) -> dict[str, list[Any]]:
    """Return rows of a comparison: results, and every option in which the experiments differ, one value each."""
    rows: dict[str, list[Any]] = {name: [getattr(item, name) for item in experiments] for name in COMPARED}
    for part in ("model_config", "hyperparameters"):
        settings = [getattr(item, part) for item in experiments]
        for key in sorted(set().union(*settings)):
            values = [values.get(key) for values in settings]
            if any(value != values[0] for value in values):
                rows[f"{part}.{key}"] = values
    return rows
