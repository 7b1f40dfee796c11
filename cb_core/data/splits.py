"""Divide videos among train, val and test: by video, alike in labels, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cb_core.data.schema import SPLITS
from cb_runtime.contract import LABELS

CANDIDATES = 256
"""Random divisions that are compared; the one most alike in labels is taken."""

_MISSING_PENALTY = 10.0
"""What a split that lacks a label costs, against a share that is off by 1."""


def assign_splits(
    counts: Mapping[str, Sequence[int]], shares: tuple[float, float], seed: int, fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the split of every video.

    Args:
        counts: Video's key -> pairs per label.
        shares: Share of videos for val and for test.
        seed: Decides among equally good divisions.
        fixed: Splits that videos already have; they keep them, so that what was validated on is never trained on.
    """
    kept = dict(fixed or {})
    free = sorted(counts.keys() - kept.keys())
    quotas = _free_places(len(counts), shares, kept)
    names = np.repeat(SPLITS, quotas)[: len(free)]
    weights = np.array([counts[key] for key in free], float).reshape(len(free), len(LABELS))
    base = {split: _total(counts, kept, split) for split in SPLITS}
    rng = np.random.default_rng(seed)
    divisions = [rng.permutation(names) for _ in range(CANDIDATES if len(free) else 0)]
    best = min(divisions, key=lambda division: _unlikeness(division, weights, base), default=names)
    return kept | dict(zip(free, best.tolist(), strict=True))


def _free_places(videos: int, shares: tuple[float, float], kept: Mapping[str, str]) -> list[int]:
    # At least one video to train on, then one to validate on, then one to test on.
    val = max(1, round(shares[0] * videos)) if shares[0] and videos > 1 else 0
    test = max(1, round(shares[1] * videos)) if shares[1] and videos > 2 else 0
    taken = {split: list(kept.values()).count(split) for split in SPLITS}
    free = videos - len(kept)
    free_val = min(free, max(0, val - taken["val"]))
    free_test = min(free - free_val, max(0, test - taken["test"]))
    return [free - free_val - free_test, free_val, free_test]


def _total(counts: Mapping[str, Sequence[int]], kept: Mapping[str, str], split: str) -> NDArray[np.float64]:
    rows = [counts[key] for key in kept if kept[key] == split]
    total: NDArray[np.float64] = np.array(rows, float).reshape(len(rows), len(LABELS)).sum(0)
    return total


def _unlikeness(
    division: NDArray[np.str_], weights: NDArray[np.float64], base: Mapping[str, NDArray[np.float64]]
) -> float:
    totals = {split: base[split] + weights[division == split].sum(0) for split in SPLITS}
    everything = sum(totals.values(), np.zeros(len(LABELS)))
    present = everything > 0
    wanted = everything / max(1.0, everything.sum())
    score = 0.0
    for total in totals.values():
        if total.sum() > 0:
            score += float(np.abs(total / total.sum() - wanted).sum())
            score += _MISSING_PENALTY * float((present & (total == 0)).sum())
    return score
