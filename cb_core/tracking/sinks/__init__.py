"""Write-only mirrors of a run: TensorBoard, Weights & Biases, MLflow.

The experiment's row in the dataset database is what counts; a sink only repeats it. So a sink that fails is told to the
user once and left alone, and the run goes on.

A sink module has `MODULE` (the package it needs) and `open_sink(run) -> Sink`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from cb_runtime.errors import UsageError, require

SINKS = {
    "tensorboard": "cb_core.tracking.sinks.tensorboard",
    "wandb": "cb_core.tracking.sinks.wandb",
    "mlflow": "cb_core.tracking.sinks.mlflow",
}
"""Name of each sink and its module."""

Warn = Callable[[str], None]


@dataclass(frozen=True)
class RunDescription:
    """What a sink is told when a run starts; architecture, model config and hyperparameters stay separate."""

    name: str
    folder: Path
    """The run's output folder."""
    architecture_name: str
    model_config: Mapping[str, Any]
    hyperparameters: Mapping[str, Any]
    dataset: str
    """Name of the dataset."""
    git_commit: str | None = None


class Sink(Protocol):
    """Where metrics are mirrored."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write one epoch's numbers."""
        ...

    def close(self, status: str) -> None:
        """Write how the run ended, one of `cb_core.tracking.experiment.STATUSES`."""
        ...


class Sinks:
    """All sinks of a run; failures stay inside."""

    def __init__(self, names: Iterable[str], run: RunDescription, warn: Warn) -> None:
        self._warn = warn
        self._open: dict[str, Sink] = {}
        for name in dict.fromkeys(names):
            module = import_module(_module_name(name))
            require(module.MODULE)
            self._guard(name, partial(self._start, name, module, run))

    def log(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Write one epoch's metrics; nested ones are flattened to `name/label`."""
        values = scalars(metrics)
        for name, sink in list(self._open.items()):
            self._guard(name, partial(sink.log, epoch, values))

    def close(self, status: str) -> None:
        """Close every sink."""
        for name, sink in list(self._open.items()):
            self._guard(name, partial(sink.close, status))
        self._open.clear()

    def _start(self, name: str, module: ModuleType, run: RunDescription) -> None:
        self._open[name] = module.open_sink(run)

    def _guard(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._open.pop(name, None)
            self._warn(
                f"Tracker {name} failed and is left out from here on ({type(error).__name__}: {error}). "
                "Training goes on; its metrics are in `cb experiments show`."
            )


def check_sinks(names: Iterable[str]) -> None:
    """Raise UsageError for an unknown sink and MissingPackageError for one whose package is not installed."""
    for name in names:
        require(import_module(_module_name(name)).MODULE)


def _module_name(name: str) -> str:
    if name not in SINKS:
        raise UsageError(f"Unknown tracker {name!r}. Known: {', '.join(SINKS)}.")
    return SINKS[name]


def scalars(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers among metrics, nested mappings flattened to `outer/inner`; lists and text are left out."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = float(value)
    return flat
