"""Scores that mean what they say: of the boundaries with score 0.9, nine of ten should be right.

Pairs that share frames err together, so probabilities over them are surer than they should be. Two numbers mend that:
a factor and an offset of the logit (J. Platt, "Probabilistic outputs for support vector machines", 1999).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cb_runtime.errors import UsageError

CERTAIN = 1e-9
"""Scores closer than this to 0 or 1 are taken to be this close: beyond it, rounding decides."""

_RIDGE = 1e-2
"""Weight of staying near scale 1 and offset 0: decides where the cases do not, e.g. when all are right."""

Array = NDArray[np.float64]


def calibrated(scores: ArrayLike, scale: float, offset: float) -> Array:
    """Return scores in [0, 1] whose logits are `scale * logit + offset`; scale 1 and offset 0 leave all as it was."""
    values = np.clip(np.asarray(scores, np.float64), 0, 1)
    if (scale, offset) == (1, 0):
        return values
    return _logistic(scale * _logit(values) + offset)


def fit_calibration(scores: ArrayLike, correct: ArrayLike) -> tuple[float, float]:
    """Return the scale and offset that make scores of boundaries as probable as they say.

    Logistic regression by Newton's method, held near scale 1 and offset 0 where cases are few.

    Args:
        scores: Uncalibrated scores in [0, 1], one per boundary found.
        correct: Whether each of these boundaries was right.

    Raises:
        UsageError: No scores, other numbers of both, or scores outside [0, 1].
    """
    values, right = _cases(scores, correct)
    logits = np.stack([_logit(values), np.ones(len(values))])
    parameters: Array = np.array([1.0, 0.0], np.float64)
    for _ in range(100):
        change = _newton_step(parameters, logits, right)
        parameters -= change
        if np.abs(change).max() < 1e-10:
            break
    return float(max(parameters[0], 1e-3)), float(parameters[1])


def _newton_step(parameters: Array, logits: Array, right: Array) -> Array:
    """Return what a step of Newton's method takes from scale and offset; never far, so that it cannot overshoot."""
    expected = _logistic(parameters @ logits)
    slope = logits @ (expected - right) + _RIDGE * (parameters - np.array([1.0, 0.0]))
    curvature = (logits * (expected * (1 - expected))) @ logits.T + _RIDGE * np.eye(2)
    change: Array = np.linalg.solve(curvature, slope)
    change /= max(1.0, float(np.abs(change).max()))
    return change


def expected_calibration_error(scores: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """Return the mean difference, in [0, 1], between what scores say and how often they are right.

    Cases are sorted by score into `bins` bins of equal width; each bin counts by its cases (M. Naeini and others,
    "Obtaining well calibrated probabilities using Bayesian binning", 2015).

    Raises:
        UsageError: No scores, other numbers of both, scores outside [0, 1], or less than one bin.
    """
    if bins < 1:
        raise UsageError(f"Bins must be 1 or more, got {bins}.")
    values, right = _cases(scores, correct)
    places = np.minimum((values * bins).astype(np.intp), bins - 1)
    gaps = np.bincount(places, weights=values - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))


def _cases(scores: ArrayLike, correct: ArrayLike) -> tuple[Array, Array]:
    values, right = np.asarray(scores, np.float64), np.asarray(correct, np.float64)
    if values.ndim != 1 or values.shape != right.shape or not len(values):
        raise UsageError(f"Calibration needs as many scores as answers, got {values.shape} and {right.shape}.")
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError(f"Scores must be in [0, 1], got {values.min()} to {values.max()}.")
    return values, right


def _logit(values: Array) -> Array:
    inside = np.clip(values, CERTAIN, 1 - CERTAIN)
    logits: Array = np.log(inside) - np.log1p(-inside)
    return logits


def _logistic(logits: Array) -> Array:
    values: Array = 1 / (1 + np.exp(-logits))
    return values
