"""Weights & Biases, online or offline (`WANDB_MODE=offline`): one run per experiment, its architecture as a tag."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cb_core.tracking.sinks import RunDescription
from cb_runtime.errors import require

MODULE = "wandb"

PROJECT = "caption-boundaries"
"""Project that runs go to; the environment variable WANDB_PROJECT overrides it."""


def open_sink(run: RunDescription) -> WandbSink:
    """Start a run in the run's folder."""
    return WandbSink(run)


class WandbSink:
    """Scalars by epoch; config holds architecture, model config and hyperparameters separately."""

    def __init__(self, run: RunDescription) -> None:
        wandb: Any = require(MODULE)

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            dir=str(run.folder),
            tags=[run.architecture_name],
            config={
                "architecture_name": run.architecture_name,
                "model_config": dict(run.model_config),
                "hyperparameters": dict(run.hyperparameters),
                "dataset": run.dataset,
                "git_commit": run.git_commit,
            },
        )

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write one epoch's scalars."""
        self._run.log({"epoch": epoch, **values}, step=epoch)

    def close(self, status: str) -> None:
        """Write the status and end the run; anything but `finished` is marked as failed."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status == "finished" else 1)
