"""MLflow: a run in the store that MLFLOW_TRACKING_URI names, or in `mlflow.db` in the run's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from cb_core.tracking.sinks import RunDescription
from cb_runtime.errors import require

MODULE = "mlflow"

EXPERIMENT = "caption-boundaries"
"""MLflow experiment that runs go to; the environment variable MLFLOW_EXPERIMENT_NAME overrides it."""

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def open_sink(run: RunDescription) -> MlflowSink:
    """Start a run."""
    return MlflowSink(run)


class MlflowSink:
    """Metrics by epoch, hyperparameters as parameters, architecture and model config as tags."""

    def __init__(self, run: RunDescription) -> None:
        mlflow: Any = require(MODULE)
        store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.folder.resolve() / 'mlflow.db'}"
        # A client, not MLflow's global "active run", which would be shared with the user's own code.
        self._client = mlflow.MlflowClient(tracking_uri=store)
        self._run_id = self._create_run(run)
        for name, value in run.hyperparameters.items():
            self._client.log_param(self._run_id, name, value)

    def _create_run(self, run: RunDescription) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {
            "architecture_name": run.architecture_name,
            "model_config": json.dumps(dict(run.model_config)),
            "dataset": run.dataset,
            "git_commit": run.git_commit or "",
        }
        return str(self._client.create_run(experiment_id, run_name=run.name, tags=tags).info.run_id)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write one epoch's metrics."""
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=epoch)

    def close(self, status: str) -> None:
        """End the run."""
        self._client.set_terminated(self._run_id, _STATUS[status])
