"""Ways to run an artifact, and which of them was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from cb_runtime.backends import OpenOptions


@dataclass(frozen=True)
class Way:
    """An engine, its arithmetic, and how it uses the machine."""

    backend: str
    precision: str
    threads: int | None = None
    """None lets the engine choose."""
    streams: int | None = None
    """None where the engine has none."""

    def __str__(self) -> str:
        streams = "" if self.streams in (None, 1) else f" in {self.streams} streams"
        return f"{self.backend} {self.precision}{streams}"

    def options(self, asked: OpenOptions) -> OpenOptions:
        """Return how to open an artifact in this way."""
        return replace(asked, precision=self.precision, threads=self.threads, streams=self.streams)


@dataclass(frozen=True)
class Trial:
    """What was found of one way."""

    way: str
    ratio: float | None
    """How many times as fast as the plain way; None where it was not timed."""
    refused: str | None = None
    """Why it was not timed."""

    def __str__(self) -> str:
        return f"{self.way} {f'{self.ratio:.2f} times' if self.refused is None else f'left out: {self.refused}'}"


@dataclass(frozen=True)
class Choice:
    """The way that was taken, and what the others reached."""

    way: Way
    why: str
    """Why this one, as a phrase."""
    base: str
    """The plain way, with which the others were compared."""
    trials: tuple[Trial, ...]
    """What the others reached, and those that were left out."""
    measured_at: str
    """UTC, ISO 8601."""
    from_cache: bool = False
    """Whether an earlier session measured it."""
    not_kept: str | None = None
    """Why the next session will measure again."""

    def __str__(self) -> str:
        others = "; ".join(str(trial) for trial in self.trials if trial.way != str(self.way) or trial.refused)
        told = f"{self.why}{f' ({others})' if others else ''}, measured {self.measured_at[:10]}"
        return told if self.not_kept is None else f"{told}, could not be kept: {self.not_kept}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "trials": [asdict(trial) for trial in self.trials]}


def choice_from_dict(values: Mapping[str, Any]) -> Choice:
    """Read what `to_dict` gave. Raises KeyError, TypeError or AttributeError for anything else."""
    return Choice(
        Way(**values["way"]),
        str(values["why"]),
        str(values["base"]),
        tuple(Trial(**trial) for trial in values["trials"]),
        str(values["measured_at"]),
    )
