"""`cb experiments`: what was trained on a dataset, and how well it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import require

if TYPE_CHECKING:
    from rich.table import Table
    from sqlalchemy.orm import Session


@click.group()
def experiments() -> None:
    """List, show and compare the experiments of a dataset."""


@reporting("list")
@click.argument("dataset")
def list_command(report: Report, dataset: str) -> None:
    """List the experiments of DATASET, newest first, and the average F1 of each architecture."""
    with _session(dataset) as db:
        from cb_core.tracking import queries

        found = [queries.experiment_to_dict(item) for item in queries.list_experiments(db)]
        averages = queries.average_f1_by_architecture(db)
    columns = ("name", "architecture_name", "status", "best_val_f1", "epochs_done", "started_at")
    report.print(_table(columns, [[item[column] for column in columns] for item in found]))
    for architecture, average in averages.items():
        report.print(f"{architecture}: average macro F1 {average:.4f}")
    report.result({"experiments": [_without_history(item) for item in found], "average_f1": averages})


@reporting("show")
@click.argument("dataset")
@click.argument("name")
def show_command(report: Report, dataset: str, name: str) -> None:
    """Show everything known of experiment NAME (the newest of that name)."""
    with _session(dataset) as db:
        from cb_core.tracking import queries

        found = queries.experiment_to_dict(queries.find_experiment(db, name))
    _print_experiment(report, found)
    report.result(found)


@reporting("compare")
@click.argument("dataset")
@click.argument("names", nargs=-1, required=True)
def compare_command(report: Report, dataset: str, names: tuple[str, ...]) -> None:
    """Set experiments NAMES side by side: results, and every option in which they differ."""
    with _session(dataset) as db:
        from cb_core.tracking import queries

        rows = queries.compare_experiments([queries.find_experiment(db, name) for name in names])
    report.print(_table(("", *names), [[title, *values] for title, values in rows.items()]))
    report.result({"names": list(names), "rows": rows})


@reporting("best")
@click.argument("dataset")
@click.option("--architecture", help="Only experiments with this architecture.")
def best_command(report: Report, dataset: str, architecture: str | None) -> None:
    """Show the experiment with the highest macro F1."""
    with _session(dataset) as db:
        from cb_core.tracking import queries

        found = queries.experiment_to_dict(queries.best_experiment(db, architecture))
    _print_experiment(report, found)
    report.result(found)


@reporting("curves")
@click.argument("dataset")
@click.argument("name")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="PNG file.")
def curves_command(report: Report, dataset: str, name: str, output: Path) -> None:
    """Draw the learning curves of experiment NAME."""
    require("sqlalchemy")
    from cb_core.tracking.curves import save_learning_curves

    save_learning_curves(dataset, name, output)
    report.print(f"Learning curves of {name}: {output}")
    report.result({"name": name, "output": str(output)})


for command in (list_command, show_command, compare_command, best_command, curves_command):
    experiments.add_command(command)


def _session(dataset: str) -> Session:
    require("sqlalchemy")
    from cb_core.data import get_dataset_db

    return next(get_dataset_db(dataset))


def _print_experiment(report: Report, experiment: Mapping[str, Any]) -> None:
    facts = _without_history(experiment)
    report.print(_table(("", experiment["name"]), [[name, value] for name, value in facts.items()]))
    if experiment["history"]:
        columns = ("epoch", "train_loss", "val_loss", "val_f1", "val_accuracy")
        report.print(_table(columns, [[entry[column] for column in columns] for entry in experiment["history"]]))


def _without_history(experiment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in experiment.items() if name != "history"}


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    from rich.table import Table

    table = Table(*titles)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: Any) -> str:  # noqa: ANN401  (any column)
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
