"""`cb bench`: how fast is an artifact on this machine, and what memory does it take?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.cli.engine_options import engine_options
from cb_runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from cb_runtime.measuring.bench import BenchRow


@reporting("bench")
@click.argument("artifacts", nargs=-1, type=click.Path(path_type=Path))
@click.option("--batch", "batches", default="1,8,32", show_default=True, help="Batch sizes for throughput.")
@click.option("--runs", type=int, default=100, show_default=True, help="Timed answers at batch 1.")
@click.option("--rounds", type=int, default=10, show_default=True, help="Timed runs at each batch size.")
@click.option("--warm-up", type=int, default=5, show_default=True, help="Runs before those that count.")
@click.option(
    "--memory/--no-memory", default=True, show_default=True, help="Measure peak memory, in a process of its own."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@engine_options
@click.option("--threads", type=int, help="CPU threads for arithmetic.  [default: the engine's choice]")
@click.option(
    "--plugin", "plugins", multiple=True, help="Python file that registers architectures, for a .pt. Repeatable."
)
def bench(
    report: Report,
    artifacts: tuple[Path, ...],
    batches: str,
    runs: int,
    rounds: int,
    warm_up: int,
    memory: bool,
    **options: Any,  # noqa: ANN401  (how to open them)
) -> None:
    """Measure ARTIFACTS (.onnx, .engine, .cbx, .pt; the model in the box when left out).

    Latency at batch 1, throughput by batch size, peak host memory. Several artifacts run by turns and are compared with
    the first one. The five-input graph is measured: pairs, not videos.
    """
    from cb_runtime.measuring.bench import BenchOptions, bench_artifacts
    from cb_runtime.models import default_model_path

    wanted = BenchOptions(_batch_sizes(batches), runs, rounds, warm_up, memory)
    with report.progress() as progress:
        rows = bench_artifacts(artifacts or (default_model_path(),), wanted, options, progress)
    report.result({"artifacts": [row.to_dict() for row in rows]})
    for row in rows:
        report.print(_opened(row))
    report.print(_table(rows))


def _batch_sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--batch must be batch sizes like 1,8,32, got '{text}'.") from error


def _opened(row: BenchRow) -> str:
    engine = row.engine
    threads = f"{engine['threads']} threads" if engine.get("threads") else "threads as the engine chooses"
    where = f"{engine['backend']} on {engine['device']}, provider {engine.get('provider', 'its own')}, {threads}"
    return f"{row.artifact}: {engine['precision']}, {row.size / 2**20:.1f} MiB, {where}; {engine['reason']}"


def _table(rows: Sequence[BenchRow]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    for heading in ("", *(row.artifact.name for row in rows)):
        table.add_column(escape(heading))
    for name in ("p50", "p90", "p99", "slowest"):
        table.add_row(
            f"latency {name}, ms",
            *(
                f"{getattr(row.latency_ms, name):.2f}{_ratio(row.latency_ratio if name == 'p50' else None, rows)}"
                for row in rows
            ),
        )
    for number, first in enumerate(rows[0].throughput):
        measured = [row.throughput[number] for row in rows]
        table.add_row(
            f"pairs/s at batch {first.batch}",
            *(
                f"{one.median:.1f} ({one.slowest:.1f} to {one.fastest:.1f}){_ratio(one.ratio, rows)}"
                for one in measured
            ),
        )
    table.add_row("open, s", *(f"{row.open_seconds:.2f}" for row in rows))
    if any(row.memory for row in rows):
        table.add_row("peak host memory, MiB", *(f"{row.memory.peak_mib:.0f}" if row.memory else "-" for row in rows))
        table.add_row("  before opening it", *(f"{row.memory.before_mib:.0f}" if row.memory else "-" for row in rows))
    return table


def _ratio(value: float | None, rows: Sequence[BenchRow]) -> str:
    return "" if value is None or len(rows) == 1 else f", {value:.2f} x"
