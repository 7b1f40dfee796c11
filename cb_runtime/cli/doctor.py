"""`cb doctor`: what works on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cb_runtime.cli.console import Report, reporting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from cb_runtime.doctor import Check


@reporting("doctor")
def doctor(report: Report) -> None:
    """Print what is installed, what works, why the rest does not, and what to install."""
    from cb_runtime.doctor import can_infer, check_machine

    checks = check_machine()
    ready = can_infer(checks)
    report.result({"can_infer": ready, "checks": [check.to_dict() for check in checks]})
    report.print(_table(checks))
    report.print("`cb infer` can run here." if ready else "`cb infer` cannot run here yet: see what is missing above.")


def _table(checks: Sequence[Check]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    for heading in ("", "what", "works", "found", "to do"):
        table.add_column(heading)
    for check in checks:
        row = (check.group, check.name, "yes" if check.ok else "no", check.detail, check.fix or "")
        table.add_row(*map(escape, row))
    return table
