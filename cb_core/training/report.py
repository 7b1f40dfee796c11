"""What a run tells its caller: each epoch, and the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cb_core.training.loop import EpochStatistics
from cb_core.training.metrics import ValidationMetrics


@dataclass(frozen=True)
class EpochReport:
    """How one epoch went."""

    epoch: int
    epochs: int
    """Epochs asked for."""
    training: EpochStatistics
    validation: ValidationMetrics
    is_best: bool
    seconds: float
    """Time the epoch took, validation and files included."""
    seconds_left: float
    """Expected time until the last epoch is done, if nothing stops training before."""

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}/{self.epochs}  loss {self.training.loss:.4f}  val loss {self.validation.loss:.4f}  "
            f"F1 {self.validation.macro_f1:.4f}{' (best)' if self.is_best else ''}  "
            f"{self.training.samples_per_second:.1f} samples/s  {self.training.data_wait_share:.0%} waiting for data  "
            f"{_clock(self.seconds)}, {_clock(self.seconds_left)} left"
        )


def _clock(duration: float) -> str:
    minutes, seconds = divmod(round(duration), 60)
    return f"{minutes}:{seconds:02d}"


@dataclass(frozen=True)
class TrainingResult:
    """What a run that ended by itself has to show."""

    name: str
    status: str
    message: str
    """Why it ended."""
    epochs_done: int
    best_epoch: int
    best_val_f1: float
    best_val_accuracy: float
    best_checkpoint: Path
    last_checkpoint: Path
    device: str
    precision: str
    """Arithmetic of training: no (float32), bf16 or fp16."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
