"""TensorBoard: event files in `<output>/tensorboard`; look at them with `tensorboard --logdir runs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cb_core.tracking.sinks import RunDescription

MODULE = "tensorboard"


def open_sink(run: RunDescription) -> TensorBoardSink:
    """Open event files in the run's folder; a resumed run adds to them."""
    return TensorBoardSink(run)


class TensorBoardSink:
    """Scalars by epoch, and how the run was configured as text."""

    def __init__(self, run: RunDescription) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run.folder / "tensorboard"))
        self._writer.add_text("architecture_name", run.architecture_name)
        for name, values in (("model_config", run.model_config), ("hyperparameters", run.hyperparameters)):
            self._writer.add_text(name, f"```json\n{json.dumps(dict(values), indent=2)}\n```")

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write one epoch's scalars, so that they can be watched at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self, status: str) -> None:
        """Write the status and close the files."""
        self._writer.add_text("status", status)
        self._writer.close()
