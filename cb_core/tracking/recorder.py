"""Keep an experiment's row in step with its run."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from cb_core.data.database import get_dataset_db
from cb_core.tracking.experiment import Experiment
from cb_runtime.errors import InputError

Warn = Callable[[str], None]
History = Sequence[Mapping[str, Any]]
"""Metrics of each epoch, in order."""


class ExperimentRecorder:
    """One row of `experiments`; every write is a transaction of its own."""

    def __init__(self, dataset: str, experiment_id: int, warn: Warn) -> None:
        self._dataset = dataset
        self.experiment_id = experiment_id
        self._warn = warn
        self._warned = False

    def update(self, **fields: Any) -> None:  # noqa: ANN401  (one keyword per column)
        """Write some columns.

        A database that cannot be written now is a warning, given once: the next update writes all again.
        """
        try:
            with next(get_dataset_db(self._dataset)) as db:
                row = db.get(Experiment, self.experiment_id)
                if row is None:
                    raise InputError(f"experiment {self.experiment_id} is no longer there")
                for name, value in fields.items():
                    setattr(row, name, value)
                db.commit()
        except (SQLAlchemyError, InputError) as error:
            if not self._warned:
                reason = getattr(error, "orig", None) or error
                self._warn(f"The experiment's row could not be updated ({reason}). Training goes on.")
            self._warned = True

    def end(self, status: str, message: str | None = None, **fields: Any) -> None:  # noqa: ANN401  (see update)
        """Write how the run ended."""
        self.update(status=status, message=message, finished_at=datetime.now(UTC), **fields)


def start_experiment(dataset: str, warn: Warn, *, resume: History | None = None, **fields: Any) -> ExperimentRecorder:  # noqa: ANN401
    """Write the row of a run that starts now, or goes on.

    Args:
        dataset: SQLite file or URL.
        warn: Called with one sentence when the row cannot be updated later.
        resume: What a resumed run has done so far, as in the column `history`; its row goes on, if it has one.
        fields: One keyword per column.

    Raises InputError when the dataset cannot be written: a run that cannot be recorded does not start.
    """
    with next(get_dataset_db(dataset)) as db:
        row = None if resume is None else _row_to_go_on(db, fields["name"], list(resume))
        if row is None:
            row = Experiment()
            db.add(row)
        values = {**fields, "status": "running", "finished_at": None, "message": None, "host": platform.node()}
        for name, value in values.items():
            setattr(row, name, value)
        db.commit()
        return ExperimentRecorder(dataset, row.id, warn)


def _row_to_go_on(db: Session, name: str, history: list[Mapping[str, Any]]) -> Experiment | None:
    # Another run may bear the same name, and its record must stay. So the row must tell the beginning of this history
    # (a kill between checkpoint and row leaves the row behind), which for one that did no epoch is any unfinished row.
    rows = db.scalars(select(Experiment).where(Experiment.name == name).order_by(Experiment.id))
    own = [row for row in rows if row.history == history[: len(row.history)] and (row.history or _is_open(row))]
    return max(own, key=lambda row: (len(row.history), row.id), default=None)


def _is_open(row: Experiment) -> bool:
    return row.epochs_done == 0 and row.status != "finished"
