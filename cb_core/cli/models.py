"""`cb models`: which architectures there are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cb_runtime.cli.console import Report, reporting

if TYPE_CHECKING:
    from rich.table import Table

    from cb_core.registry import ModelInfo


@reporting("models")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Python file that registers architectures. Repeatable.",
)
def models(report: Report, plugins: tuple[Path, ...]) -> None:
    """List the architectures: name, design, parameters, trainable share, options."""
    from cb_core.registry import get_model_info, list_architectures, load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    infos = [get_model_info(name) for name in list_architectures()]
    report.print(_table(infos))
    report.result([{**dataclasses.asdict(info), "trainable_share": round(info.trainable_share, 4)} for info in infos])


def _table(infos: list[ModelInfo]) -> Table:
    from rich.table import Table

    table = Table("Architecture", "Design", box=None, pad_edge=False)
    table.add_column("Parameters", justify="right")
    table.add_column("Trainable", justify="right")
    for info in infos:
        table.add_row(info.name, info.description, f"{info.total_params:,}", f"{info.trainable_share:.1%}")
    return table
