"""Which of several ways is taken: the fastest that agrees, and the plain one where it makes no difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cb_runtime.backends import Executor
from cb_runtime.engine_choice.ways import Choice, Trial, Way
from cb_runtime.errors import CbError, ContractError, MissingPackageError, ModelError, UsageError

TIE = 1.05
"""Least ratio to the plain way at which another is taken."""

QUICK_SECONDS = 0.01
"""Time of one batch of the plain way under which no other is tried: then the model is not what a video waits for."""


@dataclass(frozen=True)
class Measures:
    """How ways are opened, judged and timed."""

    open: Callable[[Way], Executor]
    problem: Callable[[Executor], str | None]
    """Why a way's answers cannot be accepted; None when they can."""
    seconds: Callable[[Executor], float]
    """Time of one batch."""
    ratio: Callable[[Executor, Executor], float]
    """How many times as fast the second is, measured by turns."""


def choose(ways: Sequence[Way], measures: Measures) -> tuple[Executor, Choice]:
    """Return the fastest way that agrees, opened, and what the others reached.

    Args:
        ways: At least one, the plain one first. At most three are open at once.
        measures: How they are opened, judged and timed.

    Raises what opening the plain one raises, where none can be opened, the file is no artifact of ours, or the plain
    one cannot be had as it was asked for.
    """
    race = _Race(measures)
    failures: list[CbError] = []
    for way in ways:
        try:
            race.enter(way, measures.open(way), as_asked=way.precision == ways[0].precision)
        except ContractError:
            raise
        except (ModelError, MissingPackageError, UsageError) as error:
            if isinstance(error, UsageError) and way is ways[0]:
                raise  # it is what the user asked for; that of another way is only that it cannot be had
            failures.append(error)
            race.trials.append(Trial(str(way), None, str(error)))
        if race.is_over:
            break
    if race.opened is None and race.best is None:
        raise failures[0]
    return race.result()


@dataclass(frozen=True)
class _Runner:
    way: Way
    executor: Executor
    ratio: float = 1.0


class _Race:
    """Ways one after another, each against the first that agreed."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self.opened: _Runner | None = None
        """The first that could be opened, in no lower precision than the plain way: taken where none agrees."""
        self.base: _Runner | None = None
        self.best: _Runner | None = None
        self.is_over = False
        self.trials: list[Trial] = []

    def enter(self, way: Way, executor: Executor, *, as_asked: bool) -> None:
        """Judge and time a way; `as_asked` tells whether its precision is the plain way's."""
        if as_asked and self.opened is None:
            self.opened = _Runner(way, executor)
        problem = self._measures.problem(executor)
        if problem is not None:
            self.trials.append(Trial(str(way), None, problem))
            return
        if self.base is None:
            self.base = self.best = _Runner(way, executor)
            self.is_over = self._measures.seconds(executor) < QUICK_SECONDS
        else:
            self._time(way, executor, self.base)

    def _time(self, way: Way, executor: Executor, base: _Runner) -> None:
        ratio = round(self._measures.ratio(base.executor, executor), 3)
        self.trials.append(Trial(str(way), ratio))
        if self.best is not None and ratio > max(self.best.ratio, TIE):
            self.best = _Runner(way, executor, ratio)

    def result(self) -> tuple[Executor, Choice]:
        """Return what is taken."""
        taken = self.best or self.opened
        assert taken is not None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        base = self.base or taken
        return taken.executor, Choice(taken.way, self._why(taken), str(base.way), tuple(self.trials), now)

    def _why(self, taken: _Runner) -> str:
        if self.base is None:
            return f"{taken.way} is taken although none could be proven to answer rightly, see `cb verify`"
        if self.is_over:
            return f"{taken.way} takes less than {1000 * QUICK_SECONDS:g} ms a batch, so no other was tried"
        if taken is self.base:
            return f"{taken.way} is taken, no other being more than {100 * (TIE - 1):.0f} % faster"
        return f"{taken.way} is {taken.ratio:.2f} times as fast as {self.base.way}"
