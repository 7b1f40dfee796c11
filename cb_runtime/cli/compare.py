"""`cb compare`: do two artifacts decide alike, and which is faster?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import ParityError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from cb_runtime.measuring.comparison import Comparison, Disagreement
    from cb_runtime.session import Session

FILE = click.Path(path_type=Path)
LISTED = 10
"""Disagreements that are printed; `--json` has all."""


@reporting("compare")
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@click.option("--data", type=FILE, required=True, help="Golden samples (.npz) or a dataset file (.db).")
@click.option("--split", default="test", show_default=True, help="Split of a dataset: train, val or test.")
@click.option("--pairs", "limit", type=int, default=500, show_default=True, help="Pairs of a dataset at most.")
@click.option("--min-agreement", type=float, help="Least share of equal decisions, e.g. 0.99: less ends with code 7.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--batch", type=int, default=16, show_default=True, help="Pairs that run together.")
@click.option("--rounds", type=int, default=10, show_default=True, help="Timed runs of each.")
@click.option("--threads", type=int, help="CPU threads for arithmetic.  [default: the engine's choice]")
@click.option(
    "--plugin", "plugins", multiple=True, help="Python file that registers architectures, for a .pt. Repeatable."
)
def compare(
    report: Report,
    first: Path,
    second: Path,
    data: Path,
    split: str,
    limit: int,
    min_agreement: float | None,
    batch: int,
    rounds: int,
    **options: Any,  # noqa: ANN401  (how to open both)
) -> None:
    """Run the same pairs through two artifacts (.onnx, .engine, .cbx, .pt): FIRST, and SECOND beside it.

    Tells how many decisions agree, the largest logit difference, where they differ and how sure each was, macro F1 of
    each where labels are known, and their speed, measured by turns.
    """
    from cb_runtime.measuring.comparison import compare_artifacts
    from cb_runtime.measuring.pairs import read_pairs
    from cb_runtime.session import open_session

    _check(batch, rounds, limit, min_agreement)
    one, other = (open_session(path, reuse=False, measure=False, **options) for path in (first, second))
    pairs = read_pairs(data, one.metadata, split, limit)
    outcome = compare_artifacts(one, other, pairs, batch, rounds)
    document: dict[str, Any] = {
        "first": {"artifact": str(first), "session": one.describe()},
        "second": {"artifact": str(second), "session": other.describe()},
        "data": {"path": str(data), "source": pairs.source},
        "comparison": outcome.to_dict(),
    }
    for path, session in ((first, one), (second, other)):
        report.print(_opened(path, session))
    report.print(_summary(outcome, pairs.source))
    if outcome.disagreements:
        report.print(_table(outcome.disagreements[:LISTED]))
    report.finish(document, _failure(outcome, min_agreement))


def _check(batch: int, rounds: int, limit: int, min_agreement: float | None) -> None:
    if min(batch, rounds, limit) < 1:
        raise UsageError(f"--batch, --rounds and --pairs must be 1 or more, got {batch}, {rounds} and {limit}.")
    if min_agreement is not None and not 0 <= min_agreement <= 1:
        raise UsageError(f"--min-agreement is a share from 0 to 1, e.g. 0.99, got {min_agreement:g}.")


def _failure(outcome: Comparison, min_agreement: float | None) -> ParityError | None:
    if min_agreement is None or outcome.agreement >= min_agreement:
        return None
    return ParityError(
        f"{outcome.agreement:.2%} of {outcome.pairs} pairs are decided alike, --min-agreement asks for "
        f"{min_agreement:.2%}."
    )


def _opened(path: Path, session: Session) -> str:
    ran = session.describe()
    return f"{path}: {session.metadata.architecture_name}, {ran['precision']}, {ran['backend']} on {ran['device']}"


def _summary(outcome: Comparison, source: str) -> str:
    lines = [
        f"{outcome.agreement:.2%} of {outcome.pairs} pairs decided alike ({source}), largest logit difference "
        f"{outcome.max_abs_difference:.3g} at pair {outcome.furthest_pair}"
    ]
    if outcome.macro_f1 is not None:
        one, other = outcome.macro_f1
        lines.append(f"Macro F1 on {outcome.labelled} labelled pairs: first {one:.4f}, second {other:.4f}")
    one, other = outcome.speed.pairs_per_second
    lines.append(
        f"Pairs per second at batch {outcome.speed.batch}: first {one:.1f}, second {other:.1f}; the second is "
        f"{outcome.speed.ratio:.2f} times as fast ({outcome.speed.rounds} rounds by turns)"
    )
    return "\n".join(lines)


def _table(disagreements: tuple[Disagreement, ...]) -> Table:
    from rich.table import Table

    table = Table("pair", "true label", "first", "margin", "second", "margin", box=None)
    for one in disagreements:
        margins = (f"{one.first_margin:.3g}", f"{one.second_margin:.3g}")
        table.add_row(str(one.pair), one.label or "unknown", one.first, margins[0], one.second, margins[1])
    return table
