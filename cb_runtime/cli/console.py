"""What all commands share: `--json`, `--quiet`, progress on stderr, errors with their exit code.

With `--json` stdout is exactly one JSON document, on success and on failure. Progress goes to stderr, and only when
that is a terminal.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from cb_runtime.errors import CbError, error_to_dict
from cb_runtime.interruption import sigterm_as_interrupt
from cb_runtime.progress import Progress, no_progress

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells use it: 128 + SIGINT."""

MOST_BARS = 8
"""Progress bars after which finished ones are no longer shown."""

PIPE_WIDTH = 200
"""Columns of tables that go to a file or a pipe, where nothing says how wide they may be."""

F = TypeVar("F", bound=Callable[..., Any])


class Report:
    """Where a command prints: for people, or one JSON document."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:  # the names of the options
        self.json = json
        self.quiet = quiet
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        self._out = Console(highlight=False, soft_wrap=True, width=width)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def print(self, content: RenderableType = "") -> None:
        """Print text or a table for people on stdout; nothing with `--json` or `--quiet`."""
        if not (self.json or self.quiet):
            self._out.print(content, markup=False) if isinstance(content, str) else self._out.print(content)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, always."""
        self._err.print(f"Warning: {text}", markup=False)

    def result(self, document: Any) -> None:  # noqa: ANN401  (any JSON value)
        """Print the command's one JSON document on stdout; nothing without `--json`."""
        if self.json:
            click.echo(json.dumps(document, indent=2, default=str))

    def finish(self, document: dict[str, Any], error: CbError | None = None) -> None:
        """Print the command's document and, when there is an error, add it and end with its exit code."""
        if error is None:
            self.result(document)
        else:
            self._fail(document | error_to_dict(error), str(error), error.exit_code)

    def interrupted(self) -> NoReturn:
        """End the command after Ctrl-C."""
        message = "Interrupted. What was done is kept."
        document = {"error": {"type": "Interrupted", "message": message, "exit_code": INTERRUPTED}}
        self._fail(document, message, INTERRUPTED)

    def _fail(self, document: dict[str, Any], message: str, exit_code: int) -> NoReturn:
        self.result(document)
        if not self.json:
            click.echo(f"Error: {message}", err=True)
        sys.exit(exit_code)

    @contextmanager
    def progress(self, unit: str = "") -> Iterator[Progress]:
        """Show progress bars on stderr while the block runs; yields the callback for library functions."""
        if self.quiet or not self._err.is_terminal:
            yield no_progress
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            _RateColumn(unit),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._err, transient=True) as bars:
            yield _Bars(bars)


class _Bars:
    """One progress bar per phase, or per subject where a phase is `subject: phase`; finished ones make place."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, tuple[TaskID, str]] = {}
        self._lock = threading.Lock()  # several videos at once are told of from several threads

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        with self._lock:
            subject = phase.rpartition(": ")[0] or phase
            task, shown = self._tasks.get(subject, (None, ""))
            if task is None:
                self._make_place()
                task = self._bars.add_task(phase, total=total)
            elif shown != phase:  # the speed of the phase before says nothing of this one's
                self._bars.reset(task, description=phase, total=total)
            self._tasks[subject] = (task, phase)
            self._bars.update(task, completed=done, total=total)

    def _make_place(self) -> None:
        shown = [task for task in self._bars.tasks if task.visible]
        over = len(shown) + 1 - MOST_BARS
        for task in [task for task in shown if task.finished][: max(0, over)]:
            self._bars.update(task.id, visible=False)


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self._unit}/s" if self._unit else f"{speed:.1f}/s")


class ReportingCommand(click.Command):
    """A command with `--json` and `--quiet`, whose function receives a `Report` as its first argument."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (passed on to click)
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document on stdout."))
        self.params.append(click.Option(["--quiet", "-q"], is_flag=True, help="Print no progress and no summary."))

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401  (passed on to click)
    ) -> click.Context:
        """Parse the arguments; with `--json`, a usage error is one JSON document too."""
        as_json = "--json" in args
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if as_json:
                message = {"type": "UsageError", "message": error.format_message(), "exit_code": error.exit_code}
                click.echo(json.dumps({"error": message}, indent=2))
                raise SystemExit(error.exit_code) from error
            raise

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (whatever the command returns)
        """Run the command; turn a `CbError` or an interruption into its message and exit code."""
        report = Report(json=ctx.params.pop("as_json"), quiet=ctx.params.pop("quiet"))
        ctx.params["report"] = report
        try:
            with sigterm_as_interrupt():
                return super().invoke(ctx)
        except CbError as error:
            report.finish({}, error)
        except KeyboardInterrupt:
            report.interrupted()


def reporting(*args: Any, **kwargs: Any) -> Callable[[F], click.Command]:  # noqa: ANN401  (passed on to click)
    """Make a function a command like `click.command`, with `--json`, `--quiet` and a `report` keyword argument."""
    return click.command(*args, cls=ReportingCommand, **kwargs)
