"""What a run knows of itself between epochs; stored in `last.pt`, so that `--resume` goes on exactly there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cb_core.checkpoint import Checkpoint, plain_types
from cb_core.training.loop import Trainer
from cb_core.training.metrics import ValidationMetrics
from cb_runtime.errors import ModelError, UsageError


@dataclass
class RunState:
    """Epochs done and the best of them."""

    epoch: int = 0
    """Epochs done."""
    best_f1: float | None = None
    best_loss: float | None = None
    """Validation loss of the best epoch: decides between epochs of equal macro F1."""
    best_accuracy: float | None = None
    best_epoch: int | None = None
    epochs_since_better_f1: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """Metrics of each epoch, in order."""

    def add_epoch(self, entry: Mapping[str, Any], metrics: ValidationMetrics) -> bool:
        """Add an epoch; return whether it is the best so far: higher macro F1, or as high and a lower loss."""
        self.epoch += 1
        self.history = [*self.history, plain_types(entry)]
        better_f1 = self.best_f1 is None or metrics.macro_f1 > self.best_f1
        lower_loss = self.best_loss is not None and metrics.macro_f1 == self.best_f1 and metrics.loss < self.best_loss
        self.epochs_since_better_f1 = 0 if better_f1 else self.epochs_since_better_f1 + 1
        if better_f1 or lower_loss:
            self.best_f1, self.best_loss, self.best_accuracy = metrics.macro_f1, metrics.loss, metrics.accuracy
            self.best_epoch = self.epoch
        return better_f1 or lower_loss

    def to_columns(self) -> dict[str, Any]:
        """Return the columns of the experiment's row that follow from this."""
        return {
            "epochs_done": self.epoch,
            "best_val_f1": self.best_f1,
            "best_val_accuracy": self.best_accuracy,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }


def training_state(state: RunState, trainer: Trainer, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `last.pt` holds beside weights and optimizer: plain types and tensors.

    No states of random generators: every epoch seeds its own from the run's seed and its number.
    """
    scaler = trainer.accelerator.scaler
    return {
        "run": dataclasses.asdict(state),
        "schedule": trainer.schedule.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "auxiliary": trainer.auxiliary.state_dict() if trainer.auxiliary is not None else None,
        "memory": trainer.memory.state_dict() if trainer.memory is not None else None,
        "precision": trainer.accelerator.mixed_precision,
        "hyperparameters": dict(hyperparameters),
    }


def run_state(checkpoint: Checkpoint) -> RunState:
    """Return where a stopped run was. Raises ModelError for a checkpoint that training cannot go on from."""
    if checkpoint.training_state is None or checkpoint.optimizer_state_dict is None:
        raise ModelError(
            "This checkpoint holds no training state, so training cannot go on from it. Resume from last.pt."
        )
    return RunState(**checkpoint.training_state["run"])


def check_same_conditions(checkpoint: Checkpoint, precision: str, dataset_digest: str | None) -> None:
    """Raise UsageError when the dataset or the arithmetic is not that of the stopped run."""
    if checkpoint.metadata.dataset_digest != dataset_digest:
        raise UsageError(
            "--resume continues the same run, but the dataset has changed since it started. Start a new run "
            "under another --name."
        )
    stored = (checkpoint.training_state or {})["precision"]
    if stored != precision:
        raise UsageError(
            f"--resume continues the same run, which computes in {stored}; here it would compute in {precision}. "
            "Choose the same --device and --precision, or start a new run under another --name."
        )


def restore(checkpoint: Checkpoint, trainer: Trainer) -> None:
    """Bring optimizer and schedule to where the stopped run had them; weights are loaded when the model is created."""
    stored = checkpoint.training_state or {}
    trainer.optimizer.load_state_dict(checkpoint.optimizer_state_dict or {})
    trainer.schedule.load_state_dict(stored["schedule"])
    if trainer.auxiliary is not None:
        trainer.auxiliary.load_state_dict(stored["auxiliary"])
    if trainer.memory is not None and stored.get("memory"):
        trainer.memory.load_state_dict(stored["memory"])
    if trainer.accelerator.scaler is not None and stored["scaler"]:
        trainer.accelerator.scaler.load_state_dict(stored["scaler"])
