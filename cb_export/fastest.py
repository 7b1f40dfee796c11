"""`--precision auto`: the fastest precision that passes the parity gate, measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cb_export.building import Built, build_and_gate
from cb_export.options import ExportOptions
from cb_export.source import Merged
from cb_export.targets import Target
from cb_runtime.backends import Feeds, Logits
from cb_runtime.contract import INPUT_NAMES
from cb_runtime.errors import ModelError, ParityError, UsageError
from cb_runtime.files import folder_beside
from cb_runtime.golden import GoldenSamples
from cb_runtime.measuring.timing import interleaved_seconds
from cb_runtime.progress import Progress, no_progress

ROUNDS = 9
"""Times that each candidate runs and is timed."""

SETTLE_SECONDS = 0.1
"""How long each runs untimed before that: longer than ONNX Runtime's threads spin after a run of another session."""


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


def build_fastest(
    merged: Merged, target: Target, options: ExportOptions, path: Path, progress: Progress = no_progress
) -> tuple[Choice, Built]:
    """Build every precision of a target, and keep the fastest of those that pass the gate: the file that was judged.

    Args:
        merged: What to build.
        target: Its artifacts run here.
        options: All but the precision, which is `auto`.
        path: The artifact; the others are built in a folder beside it, and removed.
        progress: Told about every build and comparison.

    Raises ParityError when none passes.
    """
    tried: dict[str, str] = {}
    passed: dict[str, Built] = {}
    with folder_beside(path) as folder:
        for name in target.PRECISIONS:
            place = folder / f"{name}{target.SUFFIX}"
            try:
                built = build_and_gate(merged, target, options.in_precision(name), place, progress)
            except (ModelError, ParityError, UsageError) as error:
                tried[name] = str(error)
                continue
            tried[name] = str(built.report.golden) if built.report else str(built.report)
            if built.report:
                passed[name] = built
            elif options.on_judged is not None:
                options.on_judged(built.report.judged(f"{name}, left out"))
        if not passed:
            told = "\n".join(f"{name}: {reason}" for name, reason in tried.items())
            raise ParityError(f"No precision passes the parity gate; nothing was published.\n{told}")
        batch = max(options.batches)
        sessions = {name: built.session for name, built in passed.items()}
        times = interleaved_ms(sessions, _batch_of(merged.source.golden, batch))
        engine = next(iter(sessions.values())).describe()
        winner = min(times, key=times.__getitem__)
        _move(passed[winner].path, path, target)
    candidates = tuple(Candidate(name, name in times, reason, times.get(name)) for name, reason in tried.items())
    return Choice(winner, batch, engine, candidates), replace(passed[winner], path=path)


def _move(built: Path, path: Path, target: Target) -> None:
    """Give an artifact, and what stands beside it, the name of another."""
    built.replace(path)
    beside, wanted = target.companion(built), target.companion(path)
    if beside is not None and wanted is not None:
        beside.replace(wanted)


def interleaved_ms(sessions: Mapping[str, Runs], inputs: Feeds, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median time of each session for the same inputs, in milliseconds, measured by turns."""
    runs = [partial(session.run, inputs) for session in sessions.values()]
    seconds = interleaved_seconds(runs, rounds, settle_seconds=SETTLE_SECONDS)
    return dict(zip(sessions, (1000 * np.median(seconds, axis=1)).tolist(), strict=True))


def _batch_of(golden: GoldenSamples, size: int) -> Feeds:
    rows = np.resize(np.arange(len(golden)), size)
    return {name: np.ascontiguousarray(golden.inputs[name][rows]) for name in INPUT_NAMES}
