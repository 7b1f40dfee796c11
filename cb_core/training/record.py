"""What a run leaves behind: checkpoints, golden samples, the experiment's row, tracker entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cb_core.checkpoint import load_checkpoint, model_from_checkpoint, save_checkpoint
from cb_core.tracking.recorder import ExperimentRecorder
from cb_core.tracking.sinks import RunDescription, Sinks
from cb_core.training.data import Splits
from cb_core.training.golden import make_golden_samples
from cb_core.training.loop import Trainer
from cb_core.training.state import RunState, training_state
from cb_runtime.contract import ModelMetadata
from cb_runtime.files import atomic_path
from cb_runtime.golden import GoldenSamples, golden_path

BEST, LAST = "best.pt", "last.pt"
"""File names of the checkpoints in a run's folder."""

METRICS_IN_METADATA = ("val_loss", "val_f1", "val_accuracy", "val_f1_by_label", "val_support")
"""Metrics that travel with the model."""


def _remove_left_over(folder: Path) -> None:
    """Remove what killed runs were writing in their folder, which has one writer only: files of `atomic_path`."""
    finals = [folder / BEST, folder / LAST, golden_path(folder / BEST)]
    names = "|".join(rf"{re.escape(file.stem)}(\.cb-tmp-\w+)+{re.escape(file.suffix)}" for file in finals)
    for file in folder.glob(".*"):
        if re.fullmatch(rf"\.+({names})", file.name):
            file.unlink()


class RunRecord:
    """Everything written of one run, by one process."""

    def __init__(
        self,
        folder: Path,
        metadata: ModelMetadata,
        splits: Splits,
        hyperparameters: Mapping[str, Any],
        recorder: ExperimentRecorder,
    ) -> None:
        self.folder = folder
        _remove_left_over(folder)
        self._metadata = metadata
        self._splits = splits
        self._hyperparameters = hyperparameters
        self._recorder = recorder
        self._sinks: Sinks | None = None

    def open_sinks(self, names: Sequence[str], run: RunDescription, warn: Callable[[str], None]) -> None:
        """Start mirroring to trackers."""
        self._sinks = Sinks(names, run, warn)

    def epoch_done(self, state: RunState, trainer: Trainer, *, is_best: bool) -> None:
        """Write an epoch: its checkpoints first, so that the row never names a file that is not there."""
        entry = state.history[-1]
        content: dict[str, Any] = {
            "epoch": state.epoch,
            "model": trainer.architecture,
            "metadata": self._metadata.replace(validation_metrics={name: entry[name] for name in METRICS_IN_METADATA}),
            "metrics": entry,
            "optimizer_state_dict": trainer.optimizer.state_dict(),
        }
        # Best before last: a kill between the two repeats this epoch and writes the same best again.
        if is_best:
            self._save_best(content, trainer)
        save_checkpoint(
            self.folder / LAST, **content, training_state=training_state(state, trainer, self._hyperparameters)
        )
        self._recorder.update(**state.to_columns(), **self._paths())
        if self._sinks is not None:
            self._sinks.log(state.epoch, entry)

    def _save_best(self, content: dict[str, Any], trainer: Trainer) -> None:
        best = self.folder / BEST
        golden = golden_path(best)
        # Leaving the block gives the checkpoint its name first, then the golden samples theirs.
        with atomic_path(golden) as new_golden, atomic_path(best) as new_best:
            save_checkpoint(new_best, **content)
            self._golden(trainer.architecture, trainer).save(new_golden)
            # Both are whole and on the disk; a full one has left the old pair as it was. A kill from here on leaves
            # best.pt, old or new, without golden samples, which export tells and --resume mends; never with those of
            # other weights, which would fail every parity check.
            golden.unlink(missing_ok=True)

    def complete_golden_samples(self, trainer: Trainer) -> None:
        """Make the golden samples of `best.pt` when a kill came between the two files."""
        best = self.folder / BEST
        if best.is_file() and not golden_path(best).is_file():
            model = model_from_checkpoint(load_checkpoint(best)).to(trainer.accelerator.device)
            self._golden(model, trainer).save(golden_path(best))

    def _golden(self, model: nn.Module, trainer: Trainer) -> GoldenSamples:
        pairs = self._splits.val
        return make_golden_samples(
            model, self._metadata.preprocessing, pairs, pairs.labels.tolist(), trainer.accelerator.device
        )

    def _paths(self) -> dict[str, str]:
        return {
            "best_checkpoint": str((self.folder / BEST).resolve()),
            "last_checkpoint": str((self.folder / LAST).resolve()),
        }

    def end(self, status: str, message: str) -> None:
        """Write how the run ended."""
        self._recorder.end(status, message)
        if self._sinks is not None:
            self._sinks.close(status)
