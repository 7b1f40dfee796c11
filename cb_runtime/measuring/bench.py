"""Speed and memory of artifacts on this machine; several of them run by turns, so that their ratios mean something."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.errors import UsageError
from cb_runtime.measuring.memory import Memory, peak_memory
from cb_runtime.measuring.random_inputs import random_inputs
from cb_runtime.measuring.timing import interleaved_seconds, median_ratio
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import Session, open_session

BATCHES = (1, 8, 32)
"""Batch sizes whose throughput is measured by default."""


@dataclass(frozen=True)
class BenchOptions:
    """What is measured, and how thoroughly."""

    batches: tuple[int, ...] = BATCHES
    """Batch sizes, each 1 or more."""
    runs: int = 100
    """Timed answers at batch 1, of which the percentiles are."""
    rounds: int = 10
    """Timed runs at each batch size."""
    warm_up: int = 5
    """Runs at each batch size before those that count."""
    memory: bool = True
    """Measure peak memory, for which each artifact is opened once more in a process of its own."""

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1:
            raise UsageError(f"Batch sizes must be 1 or more, got {self.batches}.")
        if self.runs < 1 or self.rounds < 1 or self.warm_up < 0:
            raise UsageError(
                f"Runs and rounds must be 1 or more and warm-up 0 or more, got {self.runs}, {self.rounds} and "
                f"{self.warm_up}."
            )


@dataclass(frozen=True)
class Latency:
    """Time from one pair to its answer, in milliseconds."""

    p50: float
    p90: float
    p99: float
    slowest: float
    runs: int


@dataclass(frozen=True)
class Throughput:
    """Pairs per second at one batch size, over rounds."""

    batch: int
    median: float
    slowest: float
    fastest: float
    ratio: float
    """How many times as fast as the first artifact: median over rounds; 1 for the first."""


@dataclass(frozen=True)
class BenchRow:
    """What was measured of one artifact."""

    artifact: Path
    size: int
    """Bytes of the file."""
    open_seconds: float
    engine: Mapping[str, Any]
    """What it ran on: backend, provider, device, threads, precision, versions."""
    latency_ms: Latency
    latency_ratio: float
    """How many times as fast as the first artifact at batch 1: median over runs; 1 for the first."""
    throughput: tuple[Throughput, ...]
    memory: Memory | None
    """None where it was not asked for, or the system does not tell."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "artifact": str(self.artifact), "engine": dict(self.engine)}


@dataclass(frozen=True)
class _Opened:
    artifact: Path
    session: Session
    seconds: float

    def run(self, feeds: Mapping[int, Mapping[str, NDArray[Any]]], batch: int) -> None:
        self.session.run(feeds[batch])


def bench_artifacts(
    artifacts: Sequence[Path],
    options: BenchOptions,
    session_options: Mapping[str, Any],
    progress: Progress = no_progress,
) -> list[BenchRow]:
    """Measure artifacts by turns.

    Args:
        artifacts: Models, the one that others are compared with first.
        options: What to measure.
        session_options: Keyword arguments of `open_session`, the same for all.
        progress: Told about every step.

    Raises:
        UsageError: No artifact, or an option that cannot be obeyed.
        ModelError: An artifact cannot be opened, or cannot run a batch size.
    """
    if not artifacts:
        raise UsageError("Nothing to measure: give at least one artifact.")
    how = {**session_options, "reuse": False}  # the whole graph: what a service calls for pairs
    opened = [_open(artifact, how) for artifact in artifacts]
    steps = len(options.batches) + 1
    progress("Measuring speed", 0, steps)
    latency = _times(opened, 1, options.runs, options.warm_up)
    rates: list[NDArray[np.float64]] = []
    for done, batch in enumerate(options.batches, 1):
        progress("Measuring speed", done, steps)
        rates.append(_times(opened, batch, options.rounds, options.warm_up))
    progress("Measuring speed", steps, steps)
    rows = [_row(number, one, options, latency, rates) for number, one in enumerate(opened)]
    return _with_memory(rows, options, how, progress) if options.memory else rows


def _open(artifact: Path, how: dict[str, Any]) -> _Opened:
    started = time.perf_counter()
    session = open_session(artifact, **how)
    return _Opened(artifact, session, time.perf_counter() - started)


def _times(opened: Sequence[_Opened], batch: int, rounds: int, warm_up: int) -> NDArray[np.float64]:
    runs = [partial(one.run, {batch: random_inputs(one.session.metadata, batch)}, batch) for one in opened]
    return interleaved_seconds(runs, rounds, warm_up)


def _row(
    number: int,
    one: _Opened,
    options: BenchOptions,
    latency: NDArray[np.float64],
    rates: Sequence[NDArray[np.float64]],
) -> BenchRow:
    return BenchRow(
        artifact=one.artifact,
        size=one.artifact.stat().st_size,
        open_seconds=round(one.seconds, 3),
        engine=one.session.describe(),
        latency_ms=_latency(latency[number] * 1000),
        latency_ratio=median_ratio(latency[number], latency[0]),
        throughput=tuple(
            _throughput(batch, seconds[number], seconds[0])
            for batch, seconds in zip(options.batches, rates, strict=True)
        ),
        memory=None,
    )


def _latency(milliseconds: NDArray[np.float64]) -> Latency:
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
    return Latency(p50, p90, p99, float(milliseconds.max()), len(milliseconds))


def _throughput(batch: int, seconds: NDArray[np.float64], first: NDArray[np.float64]) -> Throughput:
    rates = batch / seconds
    return Throughput(
        batch, float(np.median(rates)), float(rates.min()), float(rates.max()), median_ratio(seconds, first)
    )


def _with_memory(
    rows: Sequence[BenchRow], options: BenchOptions, how: dict[str, Any], progress: Progress
) -> list[BenchRow]:
    measured = []
    for number, row in enumerate(rows):
        progress("Measuring memory", number, len(rows))
        measured.append(replace(row, memory=peak_memory(row.artifact, max(options.batches), how)))
    progress("Measuring memory", len(rows), len(rows))
    return measured
