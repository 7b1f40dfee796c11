"""The parity gate: what an artifact must show before it is published.

Golden samples are real pairs, so they may leave an input at one value (a font embedding that is always zero) and never
notice that it is connected wrongly. Hence the gate also runs probes: constant inputs, and real pairs with one input
changed at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cb_export.judging import ENOUGH
from cb_runtime.backends import Feeds, Logits
from cb_runtime.contract import INPUT_NAMES, LABELS, ModelMetadata, TensorSpec
from cb_runtime.errors import ContractError, ModelError, ParityError
from cb_runtime.parity import (
    TOLERANCES,
    UNLABELLED,
    GoldenSamples,
    ParityReport,
    Tolerances,
    compare,
    verify_session,
)
from cb_runtime.parity_report import JudgedGraph
from cb_runtime.parity_runs import ParityRun
from cb_runtime.progress import Progress, no_progress

Run = Callable[[Feeds], Logits]

REFERENCE_BATCH = 16
"""Batch size at which PyTorch computes the reference."""

PLACE_SAMPLES = 4
"""Samples that PyTorch computes alone and in a batch, to see whether their place matters."""

LOGIT_SCALE = 10.0
"""Largest logits of real pairs, about. Probes may give far larger ones; they are judged as if brought down to this."""

NOISE = 1e-5
"""Logit difference, relative to the logits' scale, that is float32 rounding and not the effect of an input."""


class Artifact(Protocol):
    """What the gate needs of an opened artifact."""

    @property
    def metadata(self) -> ModelMetadata:
        """The contract inside the artifact."""
        ...

    def run(self, inputs: Feeds) -> Logits:
        """Return logits `(batch, 5)`."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return engine, device and versions."""
        ...


@dataclass(frozen=True)
class GateReport:
    """Outcome of the gate; true when the artifact may be published."""

    golden: ParityReport
    """Real pairs, at several batch sizes and places."""
    probes: ParityReport
    """Constant inputs and pairs with one input changed."""
    effects: Mapping[str, tuple[float, float]]
    """Largest logit change that changing one input makes: in PyTorch, in the artifact."""
    failures: tuple[str, ...]
    """One sentence for each input that lost its effect, and for each other engine that answers otherwise."""
    engine: Mapping[str, Any]
    """What the artifact ran on."""
    metadata: ModelMetadata
    samples: GoldenSamples
    """The golden samples it was judged on."""
    runs: tuple[ParityRun, ...]
    """Every run of them; the first is of all, in their order."""

    def __bool__(self) -> bool:
        return bool(self.golden) and bool(self.probes) and not self.failures

    def __str__(self) -> str:
        lines = [f"Golden samples: {self.golden}", f"Probes: {self.probes}"]
        return "\n".join([*lines, *(f"  - {failure}" for failure in self.failures)])

    @property
    def compared(self) -> GateReport:
        """What was compared with PyTorch: this."""
        return self

    @property
    def in_short(self) -> str:
        """The outcome in one line."""
        return str(self.golden)

    @property
    def is_near_ties_of_few(self) -> bool:
        """Whether too few samples were judged for shares in percent, and nothing but shares failed.

        Every sample that flipped is then one that the reference hardly decides.
        """
        others = bool(self.probes) and not self.failures
        return others and self.golden.only_shares_failed and self.golden.samples < ENOUGH

    def judged(self, title: str) -> JudgedGraph:
        """Return what a report shows of it."""
        return JudgedGraph(
            title=title,
            report=self.golden,
            golden=self.samples,
            runs=self.runs,
            metadata=self.metadata,
            engine=self.engine,
            probes=self.probes,
            effects=self.effects,
            failures=self.failures,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: the parity summary that an artifact carries, with the thresholds used."""
        return {
            "ok": bool(self),
            "golden": self.golden.to_dict(flips=3),
            "probes": self.probes.to_dict(flips=3),
            "effects": {name: [_json_number(value) for value in pair] for name, pair in self.effects.items()},
            "failures": list(self.failures),
            "engine": dict(self.engine),
        }


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has neither infinity nor nan


def reference_from_model(model: nn.Module) -> Run:
    """Return a function from graph inputs to the float32 logits of a PyTorch model on the CPU."""

    @torch.inference_mode()
    def run(inputs: Feeds) -> Logits:
        logits: Logits = model(**{name: torch.from_numpy(inputs[name]) for name in INPUT_NAMES}).numpy()
        return logits

    return run


def check_reference(reference: Run, golden: GoldenSamples, specs: Sequence[TensorSpec]) -> None:
    """Check that golden samples are this model's, and that a pair's logits do not depend on its place in the batch.

    Raises:
        ContractError: The samples' inputs are not what the model takes.
        ParityError: The PyTorch model itself mixes the pairs of a batch.
        ModelError: The logits kept with the samples are those of another model.
    """
    for spec in specs:
        values = golden.inputs[spec.name]
        wrong = spec.mismatch(values.dtype.name, values.shape)
        if wrong:
            raise ContractError(
                f"The golden samples do not fit the model: {wrong} Give this checkpoint's with --golden."
            )
    _check_places(reference, golden)
    report = compare(golden.logits, run_in_batches(reference, golden.inputs), golden.labels, "fp32")
    if not report:
        raise ModelError(
            "The golden samples were not written by this model: their logits differ from the checkpoint's by "
            f"{report.max_abs_difference:.3g}. Give this checkpoint's own with --golden (`cb train` writes them)."
        )


def _check_places(reference: Run, golden: GoldenSamples) -> None:
    few = np.arange(min(PLACE_SAMPLES, len(golden)))
    # Twice the samples, so that a single golden sample stands at two places as well.
    order = np.concatenate([few, few[::-1]])
    together = reference(_rows(golden.inputs, order))
    alone = np.concatenate([reference(_rows(golden.inputs, [index])) for index in order])
    report = compare(alone, together, np.full(len(order), UNLABELLED), "fp32")
    if not report:
        raise ParityError(
            "The PyTorch model gives one pair different logits at different places of a batch (by "
            f"{report.max_abs_difference:.3g}). Pairs must not influence each other: look for an operation over the "
            "batch axis in forward, or a BatchNorm without running statistics."
        )


def run_gate(
    artifact: Artifact,
    reference: Run,
    golden: GoldenSamples,
    batches: Sequence[int],
    progress: Progress = no_progress,
) -> GateReport:
    """Compare an artifact with the PyTorch model on golden samples and on probes."""
    runs: list[ParityRun] = []
    report = verify_session(artifact, golden, batches, progress=progress, on_run=runs.append)
    probes = probe_inputs(golden)
    wanted = run_in_batches(reference, probes.inputs, max(batches))
    got = run_in_batches(artifact.run, probes.inputs, max(batches))
    effects = {name: (probes.effect(name, wanted), probes.effect(name, got)) for name in INPUT_NAMES}
    return GateReport(
        golden=report,
        probes=_compare_probes(wanted, got, artifact.metadata.precision),
        effects=effects,
        failures=tuple(_lost_effects(effects, _noise(artifact.metadata.precision) * _scale(wanted))),
        engine=artifact.describe(),
        metadata=artifact.metadata,
        samples=golden,
        runs=tuple(runs),
    )


def _compare_probes(wanted: Logits, got: Logits, precision: str) -> ParityReport:
    scale = _scale(wanted)
    unlabelled = np.full(len(wanted), UNLABELLED)
    return compare(wanted / scale, got / scale, unlabelled, precision, probe_tolerances(precision))


def probe_tolerances(precision: str) -> Tolerances:
    """Return how far probes may be off.

    They are a few dozen, of which one that flips where the reference hardly decides is already several percent: below
    float32 margins are judged, not shares. For int8 they lie outside the ranges that were calibrated on real pairs, so
    their logits are only reported; that each input has its effect is judged all the same.
    """
    allowed = TOLERANCES[precision]
    if precision in ("fp32", "tf32"):
        return allowed
    margin = None if allowed.max_abs_difference is None else allowed.flip_margin
    return replace(allowed, argmax_agreement=0.0, flip_margin=margin)


def _scale(logits: Logits) -> float:
    return max(1.0, float(np.abs(logits).max()) / LOGIT_SCALE)


def _noise(precision: str) -> float:
    """Return the logit difference that is rounding and not the effect of an input."""
    if precision in ("fp32", "tf32"):
        return NOISE
    allowed = TOLERANCES[precision]
    return (allowed.max_abs_difference or allowed.flip_margin or 0.0) / 10


def _lost_effects(effects: Mapping[str, tuple[float, float]], noise: float) -> Sequence[str]:
    return [
        f"Changing '{name}' changes PyTorch's logits by {wanted:.3g} and the artifact's by {got:.3g}: the input is not "
        "connected as it should be."
        for name, (wanted, got) in effects.items()
        if wanted > noise and got < wanted / 10
    ]


@dataclass(frozen=True)
class Probes:
    """Inputs that show how each input is connected."""

    inputs: Mapping[str, NDArray[Any]]
    """Rows: constants, then unchanged pairs, then the same pairs once for each changed input."""
    base: slice
    """Rows of the unchanged pairs."""
    changed: Mapping[str, slice]
    """Rows in which only this input is changed."""

    def effect(self, name: str, logits: Logits) -> float:
        """Return the largest logit change that changing one input makes."""
        return float(np.abs(logits[self.changed[name]] - logits[self.base]).max())


def probe_inputs(golden: GoldenSamples) -> Probes:
    """Return probes: all zeros, all ones, extremes, and one pair per label with each input changed in turn."""
    chosen = [int(np.flatnonzero(golden.labels == label)[0]) for label in np.unique(golden.labels)][: len(LABELS)]
    pairs = _rows(golden.inputs, chosen)
    parts = [_constants(pairs), pairs]
    parts += [{**pairs, name: _changed(pairs[name])} for name in INPUT_NAMES]
    starts = np.cumsum([0, *(len(part[INPUT_NAMES[0]]) for part in parts)]).tolist()
    slices = [slice(start, stop) for start, stop in pairwise(starts)]
    inputs = {name: np.concatenate([part[name] for part in parts]) for name in INPUT_NAMES}
    return Probes(inputs, slices[1], dict(zip(INPUT_NAMES, slices[2:], strict=True)))


def _constants(like: Feeds) -> dict[str, NDArray[Any]]:
    return {name: np.stack([_filled(values, level) for level in range(3)]) for name, values in like.items()}


def _filled(values: NDArray[Any], level: int) -> NDArray[Any]:
    """Return one sample of all zeros, all ones, or the largest values the input takes."""
    largest = 255 if values.dtype == np.uint8 else 1
    return np.full(values.shape[1:], (0, 1, largest)[level], values.dtype)


def _changed(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype == np.uint8:
        return 255 - values
    noise = np.random.default_rng(0).standard_normal(values.shape)
    return (values + noise).astype(values.dtype)


def run_in_batches(run: Run, inputs: Feeds, size: int = REFERENCE_BATCH) -> Logits:
    """Return the logits of all rows, computed `size` rows at a time."""
    rows = np.arange(len(inputs[INPUT_NAMES[0]]))
    return np.concatenate([run(_rows(inputs, rows[start : start + size])) for start in range(0, len(rows), size)])


def _rows(inputs: Feeds, rows: Sequence[int] | NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(inputs[name][rows]) for name in INPUT_NAMES}
