"""`--precision auto`: the fastest precision that passes the parity gate, measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from cb_export.building import build_and_gate
from cb_export.options import ExportOptions
from cb_export.source import Merged
from cb_export.targets import Target
from cb_runtime.backends import Feeds, Logits
from cb_runtime.contract import INPUT_NAMES
from cb_runtime.errors import ModelError, ParityError, UsageError
from cb_runtime.golden import GoldenSamples
from cb_runtime.measuring.timing import interleaved_seconds
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import Session

ROUNDS = 9
"""Times that each candidate runs and is timed."""


class Runs(Protocol):
    """What is timed."""

    def run(self, inputs: Feeds) -> Logits:
        """Return logits."""
        ...


@dataclass(frozen=True)
class Candidate:
    """A precision that was tried."""

    precision: str
    passes: bool
    reason: str
    """Outcome of its gate, or why it could not be built."""
    latency_ms: float | None
    """Median time of one batch, in milliseconds; None when it does not pass."""

    def __str__(self) -> str:
        time_taken = "" if self.latency_ms is None else f"{self.latency_ms:.1f} ms. "
        return f"{self.precision}: {time_taken}{self.reason}"


@dataclass(frozen=True)
class Choice:
    """The precision that was chosen, and the others."""

    precision: str
    batch: int
    """Pairs in the batch whose time was taken."""
    engine: Mapping[str, Any]
    """What they ran on."""
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        lines = [f"{self.precision} was chosen: the fastest that passes the gate, in batches of {self.batch} here."]
        return "\n".join([*lines, *(f"  {candidate}" for candidate in self.candidates)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        candidates = [dict(vars(candidate)) for candidate in self.candidates]
        return {
            "precision": self.precision,
            "batch": self.batch,
            "engine": dict(self.engine),
            "candidates": candidates,
        }


def choose_precision(
    merged: Merged, target: Target, options: ExportOptions, progress: Progress = no_progress
) -> Choice:
    """Build every precision of a target, and return the fastest of those that pass the gate.

    Args:
        merged: What to build.
        target: Its artifacts run here.
        options: All but the precision, which is `auto`.
        progress: Told about every build and comparison.

    Raises ParityError when none passes.
    """
    tried: dict[str, str] = {}
    sessions: dict[str, Session] = {}
    with TemporaryDirectory(prefix="cb-auto-") as folder:
        for name in target.PRECISIONS:
            path = Path(folder) / f"{name}{target.SUFFIX}"
            try:
                _, report, session = build_and_gate(merged, target, options.in_precision(name), path, progress)
            except (ModelError, ParityError, UsageError) as error:
                tried[name] = str(error)
                continue
            tried[name] = str(report.golden) if report else str(report)
            if report:
                sessions[name] = session
        if not sessions:
            told = "\n".join(f"{name}: {reason}" for name, reason in tried.items())
            raise ParityError(f"No precision passes the parity gate; nothing was published.\n{told}")
        batch = max(options.batches)
        times = interleaved_ms(sessions, _batch_of(merged.source.golden, batch))
        engine = next(iter(sessions.values())).describe()
    candidates = tuple(Candidate(name, name in times, reason, times.get(name)) for name, reason in tried.items())
    return Choice(min(times, key=times.__getitem__), batch, engine, candidates)


def interleaved_ms(sessions: Mapping[str, Runs], inputs: Feeds, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median time of each session for the same inputs, in milliseconds, measured by turns."""
    seconds = interleaved_seconds([partial(session.run, inputs) for session in sessions.values()], rounds)
    return dict(zip(sessions, (1000 * np.median(seconds, axis=1)).tolist(), strict=True))


def _batch_of(golden: GoldenSamples, size: int) -> Feeds:
    rows = np.resize(np.arange(len(golden)), size)
    return {name: np.ascontiguousarray(golden.inputs[name][rows]) for name in INPUT_NAMES}
