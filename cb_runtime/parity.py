"""Parity: does an artifact decide as the PyTorch model it came from?

The reference is PyTorch's own float32 logits on golden samples (`cb_runtime.golden`). Decisions are judged first:
argmax agreement, how sure the reference was where they differ, F1 on the labelled pairs. Logits come second, and never
a bare relative tolerance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Feeds, Logits
from cb_runtime.contract import INPUT_NAMES, LABELS, ModelMetadata
from cb_runtime.errors import ContractError, UsageError
from cb_runtime.golden import UNLABELLED, GoldenSamples, golden_path, load_golden_samples
from cb_runtime.parity_runs import OnRun, ParityRun, ignore_run
from cb_runtime.progress import Progress, no_progress

__all__ = [
    "BATCHES",
    "TOLERANCES",
    "UNLABELLED",
    "Flip",
    "GoldenSamples",
    "ParityReport",
    "Tolerances",
    "compare",
    "golden_path",
    "load_golden_samples",
    "macro_f1",
    "verify_session",
]

BATCHES = (1, 2, 3, 15, 16)
"""Batch sizes checked by default: engines have been seen correct at 1 and wrong at 2."""

NEAR_SAMPLES = 32
"""How many samples run at every batch size: those whose decision is nearest to flipping."""


@dataclass(frozen=True)
class Tolerances:
    """How far an artifact of one precision may be from the reference."""

    argmax_agreement: float
    """Share of samples, in [0, 1], whose top label must be the reference's."""
    flip_margin: float | None
    """Largest reference margin (top logit minus second) at which a different top label is forgiven; None where flips
    are only reported."""
    max_abs_difference: float | None
    """Largest absolute logit difference; None where it is only reported."""
    macro_f1_loss: float
    """Macro-F1 on labelled samples that may be lost, in points (hundredths)."""


TOLERANCES: Mapping[str, Tolerances] = {
    "fp32": Tolerances(1.0, 1e-3, 1e-3, 0.0),
    "tf32": Tolerances(0.9995, 5e-3, 1e-2, 0.0),
    "fp16": Tolerances(0.999, 0.05, 0.1, 0.1),
    "bf16": Tolerances(0.995, 0.2, 0.5, 0.3),
    "int8": Tolerances(0.99, 0.5, None, 0.5),
}
"""The thresholds of the parity gate, per precision of the artifact."""


@dataclass(frozen=True)
class Flip:
    """A sample on which artifact and reference decide differently."""

    sample: int
    reference: str
    """Label the reference gives."""
    candidate: str
    """Label the artifact gives."""
    margin: float
    """How sure the reference was: its top logit minus its second."""


@dataclass(frozen=True)
class ParityReport:
    """Outcome of a comparison; true when every tolerance is kept."""

    precision: str
    tolerances: Tolerances
    samples: int
    argmax_agreement: float
    flips: tuple[Flip, ...]
    """Surest reference decision first."""
    max_abs_difference: float
    """Largest absolute logit difference; infinite when a logit is not finite."""
    worst_sample: int
    """Index of the sample with that difference."""
    worst_margin: float
    """The reference's margin at that sample."""
    macro_f1_reference: float | None
    """On labelled samples, in [0, 1]; None when there are none."""
    macro_f1_candidate: float | None
    failures: tuple[str, ...]
    """One sentence for each tolerance that was broken."""
    batches: tuple[int, ...] = ()
    """Batch sizes that were run; empty for a bare comparison of logits."""
    only_shares_failed: bool = False
    """Whether tolerances were broken, and all of them are shares of the samples: agreement or macro F1."""

    def __bool__(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        agreement = f"{self.argmax_agreement:.2%} of {self.samples} samples decided alike"
        logits = f"largest logit difference {self.max_abs_difference:.3g} at sample {self.worst_sample}"
        batches = f", batches {', '.join(map(str, self.batches))}" if self.batches else ""
        head = f"Parity {'holds' if self else 'FAILED'} at {self.precision}: {agreement}, {logits}{batches}."
        return "\n".join([head, *(f"  - {failure}" for failure in self.failures)])

    @property
    def macro_f1_loss(self) -> float | None:
        """Points (hundredths) of macro F1 lost against the reference; None without labels."""
        if self.macro_f1_reference is None or self.macro_f1_candidate is None:
            return None
        return 100 * (self.macro_f1_reference - self.macro_f1_candidate)

    def to_dict(self, flips: int = 10) -> dict[str, Any]:
        """Return plain JSON types, with at most `flips` flips (their number is always there)."""
        values = dataclasses.asdict(self)
        values["flips"] = values["flips"][:flips]
        values |= {"ok": bool(self), "flip_count": len(self.flips), "macro_f1_loss": self.macro_f1_loss}
        values |= {"failures": list(self.failures), "batches": list(self.batches)}
        if not math.isfinite(self.max_abs_difference):
            values["max_abs_difference"] = None  # JSON has no infinity
        return values


def compare(
    reference_logits: NDArray[Any],
    candidate_logits: NDArray[Any],
    labels: NDArray[Any],
    precision: str,
    tolerances: Tolerances | None = None,
) -> ParityReport:
    """Judge an artifact's logits against the reference's.

    Args:
        reference_logits: float32 `(n, 5)` of PyTorch.
        candidate_logits: float32 `(n, 5)` of the artifact for the same samples.
        labels: int64 `(n,)`, true labels, or `UNLABELLED`.
        precision: A key of `TOLERANCES`: the arithmetic of the artifact.
        tolerances: Others than that precision's.

    Raises:
        ContractError: Shapes that do not match, no samples, or an unknown precision.
    """
    _check_shapes(reference_logits, candidate_logits, labels)
    tolerances = tolerances or _tolerances(precision)
    margins = _margins(reference_logits)
    differences = np.abs(candidate_logits.astype(np.float64) - reference_logits).max(axis=1)
    differences[~np.isfinite(differences)] = math.inf
    worst = int(differences.argmax())
    flips = _flips(reference_logits, candidate_logits, margins)
    report = ParityReport(
        precision=precision,
        tolerances=tolerances,
        samples=len(labels),
        argmax_agreement=1 - len(flips) / len(labels),
        flips=flips,
        max_abs_difference=float(differences[worst]),
        worst_sample=worst,
        worst_margin=float(margins[worst]),
        macro_f1_reference=macro_f1(labels, reference_logits.argmax(axis=1)),
        macro_f1_candidate=macro_f1(labels, candidate_logits.argmax(axis=1)),
        failures=(),
    )
    of_one, shares = tuple(_failures_of_one(report)), tuple(_failed_shares(report))
    return dataclasses.replace(report, failures=(*of_one, *shares), only_shares_failed=bool(shares) and not of_one)


def _check_shapes(reference: NDArray[Any], candidate: NDArray[Any], labels: NDArray[Any]) -> None:
    wanted = (len(labels), len(LABELS))
    if not len(labels) or reference.shape != wanted or candidate.shape != wanted:
        raise ContractError(
            f"Parity needs logits (n, {len(LABELS)}) for n > 0 labels, got reference {reference.shape}, "
            f"candidate {candidate.shape}, labels {labels.shape}."
        )


def _tolerances(precision: str) -> Tolerances:
    if precision not in TOLERANCES:
        raise ContractError(f"No parity tolerances for precision {precision!r}. Known: {', '.join(TOLERANCES)}.")
    return TOLERANCES[precision]


def _margins(logits: NDArray[Any]) -> NDArray[Any]:
    ordered = np.sort(logits, axis=1)
    margins: NDArray[Any] = ordered[:, -1] - ordered[:, -2]
    return margins


def _flips(reference: NDArray[Any], candidate: NDArray[Any], margins: NDArray[Any]) -> tuple[Flip, ...]:
    wanted, got = reference.argmax(axis=1), candidate.argmax(axis=1)
    flips = (Flip(int(i), LABELS[wanted[i]], LABELS[got[i]], float(margins[i])) for i in np.flatnonzero(wanted != got))
    return tuple(sorted(flips, key=lambda flip: -flip.margin))


def macro_f1(labels: NDArray[Any], predicted: NDArray[Any]) -> float | None:
    """Return the mean F1 over the classes among the true labels, in [0, 1]; None when no sample is labelled."""
    known = labels != UNLABELLED
    labels, predicted = labels[known], predicted[known]
    classes = np.unique(labels)
    if not len(classes):
        return None
    hits = [np.sum((labels == c) & (predicted == c)) for c in classes]
    found = [np.sum(labels == c) + np.sum(predicted == c) for c in classes]
    return float(np.mean([2 * hit / total for hit, total in zip(hits, found, strict=True)]))


def _failures_of_one(report: ParityReport) -> Iterable[str]:
    """Tell what is wrong with one sample, however many there are."""
    allowed = report.tolerances
    if not math.isfinite(report.max_abs_difference):
        yield f"Logits of sample {report.worst_sample} are not finite."
    elif allowed.max_abs_difference is not None and report.max_abs_difference > allowed.max_abs_difference:
        yield (
            f"Logits of sample {report.worst_sample} differ by {report.max_abs_difference:.3g}, allowed "
            f"{allowed.max_abs_difference:g} (the reference's margin there is {report.worst_margin:.3g})."
        )
    if allowed.flip_margin is not None and report.flips and report.flips[0].margin > allowed.flip_margin:
        flip = report.flips[0]
        yield (
            f"Sample {flip.sample} became {flip.candidate} instead of {flip.reference}, where the reference's "
            f"margin is {flip.margin:.3g}, allowed {allowed.flip_margin:g}."
        )


def _failed_shares(report: ParityReport) -> Iterable[str]:
    """Tell which shares of the samples are too small."""
    allowed = report.tolerances
    if report.argmax_agreement < allowed.argmax_agreement:
        yield f"{report.argmax_agreement:.2%} of samples decided alike, needed {allowed.argmax_agreement:.2%}."
    if report.macro_f1_loss is not None and report.macro_f1_loss > allowed.macro_f1_loss + 1e-9:
        yield f"Macro F1 lost {report.macro_f1_loss:.2f} points, allowed {allowed.macro_f1_loss:g}."


class Runs(Protocol):
    """What `verify_session` needs of a session."""

    @property
    def metadata(self) -> ModelMetadata:
        """The contract of the artifact; its precision chooses the tolerances."""
        ...

    def run(self, inputs: Feeds) -> Logits:
        """Return logits `(batch, 5)`."""
        ...


def verify_session(
    session: Runs,
    golden: GoldenSamples,
    batches: Sequence[int] = BATCHES,
    *,
    precision: str | None = None,
    progress: Progress = no_progress,
    on_run: OnRun = ignore_run,
) -> ParityReport:
    """Run golden samples through a session at several batch sizes and judge the logits.

    All samples run at the largest batch size. The `NEAR_SAMPLES` samples that are nearest to flipping run at every
    batch size, in both orders, so that each stands at several places of a batch; every run must keep the tolerances,
    and so must the difference between two runs of one sample. Each batch is full: a last one is filled up with the
    first samples.

    Args:
        session: The artifact, opened.
        golden: Samples with the reference's logits.
        batches: Batch sizes, each 1 or more.
        precision: Chooses the tolerances; the metadata's precision when left out.
        progress: Told about every batch size.
        on_run: Told of every run; the first one is of all samples, in their order.

    Returns:
        The report of the worst run; its failures name the batch size.

    Raises:
        UsageError: A batch size below 1, or none.
        ContractError: The session does not take the samples, or a precision without tolerances.
    """
    sizes = tuple(sorted(set(batches)))
    if not sizes or sizes[0] < 1:
        raise UsageError(f"Batch sizes must be 1 or more, got {tuple(batches)}.")
    wanted = precision or session.metadata.precision
    full = _run_batches(session, golden, np.arange(len(golden)), sizes[-1])
    on_run(ParityRun(sizes[-1], np.arange(len(golden)), full))
    reports = [_named(compare(golden.logits, full, golden.labels, wanted), sizes[-1])]
    near = np.argsort(_margins(golden.logits), kind="stable")[:NEAR_SAMPLES]
    for done, size in enumerate(sizes):
        progress("Verifying", done, len(sizes))
        for order in (near, near[::-1]):
            logits = full.copy()
            logits[order] = _run_batches(session, golden, order, size)
            on_run(ParityRun(size, order, logits[order]))
            reports.append(_named(compare(golden.logits, logits, golden.labels, wanted), size))
            reports.append(_consistency(reports[0], full, logits, size))
    progress("Verifying", len(sizes), len(sizes))
    worst = max(reports, key=lambda report: (len(report.failures), report.max_abs_difference))
    failures = dict.fromkeys(failure for report in reports for failure in report.failures)
    only_shares = all(report.only_shares_failed for report in reports if report.failures)
    return dataclasses.replace(
        worst, failures=tuple(failures), batches=sizes, only_shares_failed=bool(failures) and only_shares
    )


def _run_batches(session: Runs, golden: GoldenSamples, order: NDArray[np.intp], size: int) -> Logits:
    parts = []
    for start in range(0, len(order), size):
        chosen = np.take(order, range(start, start + size), mode="wrap")
        parts.append(session.run({name: golden.inputs[name][chosen] for name in INPUT_NAMES}))
    return np.concatenate(parts)[: len(order)]


def _named(report: ParityReport, size: int) -> ParityReport:
    return dataclasses.replace(report, failures=tuple(f"Batch {size}: {failure}" for failure in report.failures))


def _consistency(report: ParityReport, full: Logits, logits: Logits, size: int) -> ParityReport:
    """Return `report` with a failure when two runs of the same samples differ by more than the tolerance."""
    difference = float(np.abs(full - logits).max())
    allowed = report.tolerances.max_abs_difference or report.tolerances.flip_margin
    if allowed is None or difference <= allowed or not math.isfinite(difference):
        return dataclasses.replace(report, failures=(), only_shares_failed=False)
    message = f"Batch {size}: the same sample differs by {difference:.3g} from the run at another batch size or place."
    return dataclasses.replace(report, failures=(message,), only_shares_failed=False)
