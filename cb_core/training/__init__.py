"""Training: from a dataset and an architecture to checkpoints with golden samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cb_core.training.config import Hyperparameters, RunConfig

if TYPE_CHECKING:
    from cb_core.training.report import EpochReport, TrainingResult
    from cb_core.training.run import train

__all__ = ["EpochReport", "Hyperparameters", "RunConfig", "TrainingResult", "train"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    # Late: reading options for `cb train --help` must not import torch.
    if name in {"EpochReport", "TrainingResult", "train"}:
        from cb_core.training import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
