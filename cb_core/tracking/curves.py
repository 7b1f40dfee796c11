"""Learning curves of an experiment as a picture."""

from __future__ import annotations

from pathlib import Path

from cb_core.data.database import get_dataset_db
from cb_core.tracking.queries import find_experiment
from cb_runtime.errors import InputError, require
from cb_runtime.files import atomic_path


def save_learning_curves(dataset: str, name: str, path: Path) -> None:
    """Draw losses, macro F1 and the F1 of each label over the epochs of an experiment (the newest of that name).

    Raises InputError when there is no such experiment or it has no finished epoch, and MissingPackageError without
    matplotlib.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    with next(get_dataset_db(dataset)) as db:
        experiment = find_experiment(db, name)
        history, architecture = list(experiment.history), experiment.architecture_name
    if not history:
        raise InputError(f"Experiment {name} has no finished epoch, so there is nothing to draw yet.")
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for key, label in (("train_loss", "training"), ("val_loss", "validation")):
        losses.plot(epochs, [entry[key] for entry in history], marker=".", label=label)
    losses.set(title=f"{name}: {architecture}", xlabel="epoch", ylabel="loss", ylim=(0, None))
    scores.plot(epochs, [entry["val_f1"] for entry in history], color="black", marker=".", label="macro F1")
    for label in history[-1]["val_f1_by_label"]:
        scores.plot(epochs, [entry["val_f1_by_label"][label] for entry in history], linewidth=1, label=label)
    scores.set(title="validation F1", xlabel="epoch", ylabel="F1")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
