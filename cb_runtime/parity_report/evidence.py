"""One graph's comparison with PyTorch, with every run it went through, and what can be told from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Logits
from cb_runtime.contract import ModelMetadata
from cb_runtime.golden import GoldenSamples
from cb_runtime.parity import ParityReport
from cb_runtime.parity_runs import ParityRun


@dataclass(frozen=True)
class Stand:
    """How samples fared at one batch size, or at one place of it."""

    batch: int
    place: int | None
    """Place in the batch, from 0; None over all places."""
    answers: int
    """Answers that were looked at; a sample that ran twice counts twice."""
    agreement: float
    """Share of them, in [0, 1], that decide as the reference does."""
    max_abs_difference: float
    """Largest absolute logit difference; infinite when a logit is not finite."""


@dataclass(frozen=True)
class JudgedGraph:
    """A graph that was compared with PyTorch."""

    title: str
    """What it is, e.g. `Artifact` or `Staged graph`."""
    report: ParityReport
    """Outcome on golden samples."""
    golden: GoldenSamples
    """The samples it was judged on."""
    runs: Sequence[ParityRun]
    """All runs; the first is of all samples, in their order."""
    metadata: ModelMetadata
    engine: Mapping[str, Any]
    """What it ran on: `describe()` of its session."""
    probes: ParityReport | None = None
    """Outcome on constants and on pairs with one input changed; None where none were run."""
    effects: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Largest logit change that changing one input makes: in PyTorch, in the artifact."""
    failures: tuple[str, ...] = ()
    """What is wrong beyond golden samples and probes."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Every tolerance that was broken, one sentence each; none when the graph passed."""
        probes = () if self.probes is None else tuple(f"Probes: {failure}" for failure in self.probes.failures)
        return (*self.report.failures, *probes, *self.failures)

    @cached_property
    def _furthest(self) -> tuple[Logits, NDArray[np.float64], NDArray[np.int64]]:
        """Of each sample: the answer that is furthest off, how far, and the batch size it was given at."""
        logits = self.runs[0].logits.copy()
        furthest = np.full(len(self.golden), -1.0)
        batches = np.zeros(len(self.golden), np.int64)
        for run in self.runs:
            found = largest_differences(self.golden.logits[run.samples], run.logits)
            further = found > furthest[run.samples]
            rows = run.samples[further]
            logits[rows], furthest[rows], batches[rows] = run.logits[further], found[further], run.batch
        return logits, furthest, batches

    @property
    def logits(self) -> Logits:
        """The artifact's answers `(n, 5)`: of each sample the one that is furthest from the reference's."""
        return self._furthest[0]

    @property
    def differences(self) -> NDArray[np.float64]:
        """Largest absolute logit difference `(n,)` of each of them; infinite where a logit is not finite."""
        return self._furthest[1]

    @property
    def batches(self) -> NDArray[np.int64]:
        """Batch size `(n,)` at which each of them was given."""
        return self._furthest[2]

    @cached_property
    def margins(self) -> NDArray[np.float64]:
        """The reference's top logit minus its second `(n,)`."""
        return margins_of(self.golden.logits, self.golden.logits.argmax(axis=1))

    @cached_property
    def kept_margins(self) -> NDArray[np.float64]:
        """What the artifact makes of these margins `(n,)`: below 0 it decides differently."""
        return margins_of(self.logits, self.golden.logits.argmax(axis=1))

    def worst(self, count: int) -> list[int]:
        """Return samples, at most `count`: surest decisions that flipped first, then those furthest off."""
        flipped = self.logits.argmax(axis=1) != self.golden.logits.argmax(axis=1)
        order = np.lexsort((-self.differences, np.where(flipped, -self.margins, 0.0), ~flipped))
        return [int(sample) for sample in order[:count]]

    def by_batch(self) -> list[Stand]:
        """Return how samples fared at each batch size, smallest first."""
        return [self._stand(batch, None) for batch in sorted({run.batch for run in self.runs})]

    def by_place(self) -> list[Stand]:
        """Return how samples fared at each place of each batch size."""
        return [
            self._stand(stand.batch, place)
            for stand in self.by_batch()
            for place in range(stand.batch)
            if any(run.batch == stand.batch and place < len(run.samples) for run in self.runs)
        ]

    def _stand(self, batch: int, place: int | None) -> Stand:
        pairs = [self._answers(run, place) for run in self.runs if run.batch == batch]
        wanted, got = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        alike = float(np.mean(wanted.argmax(axis=1) == got.argmax(axis=1)))
        return Stand(batch, place, len(wanted), alike, float(largest_differences(wanted, got).max()))

    def _answers(self, run: ParityRun, place: int | None) -> tuple[Logits, Logits]:
        chosen = slice(None) if place is None else run.places == place
        return self.golden.logits[run.samples][chosen], run.logits[chosen]


def largest_differences(wanted: NDArray[Any], got: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest absolute difference of each row; infinite where a value is not finite."""
    differences: NDArray[np.float64] = np.abs(got.astype(np.float64) - wanted).max(axis=1)
    differences[~np.isfinite(differences)] = math.inf
    return differences


def margins_of(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return by how much each row's logit of its label is above the largest other one; below 0 where it is not."""
    rows = np.arange(len(logits))
    others = logits.astype(np.float64).copy()
    others[rows, labels] = -math.inf
    with np.errstate(invalid="ignore"):  # infinity less infinity
        margins: NDArray[np.float64] = logits[rows, labels] - others.max(axis=1)
    return margins


def finite_or_none(values: Iterable[float]) -> list[float | None]:
    """Return numbers as JSON has them: it knows neither infinity nor nan."""
    return [float(value) if math.isfinite(value) else None for value in values]
