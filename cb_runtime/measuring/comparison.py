"""Two artifacts on the same pairs: where they decide differently, how far their logits are apart, which is faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Logits
from cb_runtime.contract import INPUT_NAMES, LABELS, ModelMetadata
from cb_runtime.errors import ContractError
from cb_runtime.golden import UNLABELLED
from cb_runtime.measuring.pairs import Pairs
from cb_runtime.measuring.timing import interleaved_seconds, median_ratio
from cb_runtime.parity import Runs, macro_f1
from cb_runtime.parity_report.evidence import largest_differences, margins_of

SAME_INPUTS = ("preprocessing", "ocr_viz_variant", "use_font_embedding", "fontclip_model_version")
"""Fields of the contract in which two artifacts must agree to be fed the same."""


@dataclass(frozen=True)
class Disagreement:
    """A pair on which two artifacts decide differently."""

    pair: int
    """Index among the pairs compared."""
    label: str | None
    """The true label; None where it is unknown."""
    first: str
    """Label the first artifact gives."""
    second: str
    first_margin: float
    """How sure the first one is: its top logit minus its second."""
    second_margin: float


@dataclass(frozen=True)
class Speed:
    """How fast two artifacts are, measured by turns."""

    batch: int
    rounds: int
    pairs_per_second: tuple[float, float]
    """Median over rounds, of each."""
    ratio: float
    """How many times as fast as the first the second is: median over rounds."""


@dataclass(frozen=True)
class Comparison:
    """Outcome of comparing two artifacts."""

    pairs: int
    labelled: int
    """Pairs whose true label is known."""
    agreement: float
    """Share of pairs, in [0, 1], that both decide alike."""
    max_abs_difference: float
    """Largest absolute logit difference; infinite when a logit is not finite."""
    furthest_pair: int
    """The pair with that difference."""
    disagreements: tuple[Disagreement, ...]
    """Surest decision of the first artifact first."""
    macro_f1: tuple[float, float] | None
    """Of each, on labelled pairs, in [0, 1]; None when there are none."""
    speed: Speed

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain = asdict(self)
        plain["max_abs_difference"] = self.max_abs_difference if math.isfinite(self.max_abs_difference) else None
        return plain


def check_same_inputs(first: ModelMetadata, second: ModelMetadata) -> None:
    """Raise ContractError when two artifacts take different inputs."""
    for name in SAME_INPUTS:
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            raise ContractError(
                f"The artifacts cannot be fed the same pairs: {name} is {one} in the first and {other} in the second. "
                "Compare each with the truth instead: cb evaluate --videos DIR --checkpoint FILE"
            )


def compare_artifacts(first: Runs, second: Runs, pairs: Pairs, batch: int, rounds: int) -> Comparison:
    """Run pairs through two opened artifacts, then time them by turns.

    Args:
        first: An opened artifact.
        second: Another one, that takes the same inputs.
        pairs: What to run.
        batch: Pairs that run together.
        rounds: Timed runs of one batch, of each.

    Raises:
        ContractError: The artifacts do not take the same inputs, or not these.
        ModelError: An engine failed.
    """
    check_same_inputs(first.metadata, second.metadata)
    one, other = (run_all(session, pairs, batch) for session in (first, second))
    differences = largest_differences(one, other)
    disagreements = _disagreements(one, other, pairs.labels)
    return Comparison(
        pairs=len(pairs),
        labelled=int((pairs.labels != UNLABELLED).sum()),
        agreement=1 - len(disagreements) / len(pairs),
        max_abs_difference=float(differences.max()),
        furthest_pair=int(differences.argmax()),
        disagreements=disagreements,
        macro_f1=_macro_f1(one, other, pairs.labels),
        speed=_speed((first, second), pairs, batch, rounds),
    )


def run_all(session: Runs, pairs: Pairs, batch: int) -> Logits:
    """Return logits `(n, 5)` of all pairs; every batch is full, the last one filled up with the first pairs."""
    return np.concatenate([session.run(_rows(pairs, start, batch)) for start in range(0, len(pairs), batch)])[
        : len(pairs)
    ]


def _rows(pairs: Pairs, start: int, batch: int) -> dict[str, NDArray[Any]]:
    rows = np.arange(start, start + batch) % len(pairs)
    return {name: np.ascontiguousarray(pairs.inputs[name][rows]) for name in INPUT_NAMES}


def _disagreements(one: Logits, other: Logits, labels: NDArray[np.int64]) -> tuple[Disagreement, ...]:
    first, second = one.argmax(axis=1), other.argmax(axis=1)
    first_margins, second_margins = margins_of(one, first), margins_of(other, second)
    found = [
        Disagreement(
            pair=int(pair),
            label=None if labels[pair] == UNLABELLED else LABELS[labels[pair]],
            first=LABELS[first[pair]],
            second=LABELS[second[pair]],
            first_margin=float(first_margins[pair]),
            second_margin=float(second_margins[pair]),
        )
        for pair in np.flatnonzero(first != second)
    ]
    return tuple(sorted(found, key=lambda one: -one.first_margin))


def _macro_f1(one: Logits, other: Logits, labels: NDArray[np.int64]) -> tuple[float, float] | None:
    scores = [macro_f1(labels, logits.argmax(axis=1)) for logits in (one, other)]
    first, second = scores
    return None if first is None or second is None else (first, second)


def _speed(sessions: Sequence[Runs], pairs: Pairs, batch: int, rounds: int) -> Speed:
    feeds = _rows(pairs, 0, batch)
    first, second = interleaved_seconds([lambda one=one: one.run(feeds) for one in sessions], rounds)  # type: ignore[misc]
    rates = (batch / float(np.median(first)), batch / float(np.median(second)))
    return Speed(batch, rounds, rates, median_ratio(second, first))
