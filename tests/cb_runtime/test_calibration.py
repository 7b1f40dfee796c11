"""Calibrated scores."""

import numpy as np
import pytest

from cb_runtime.calibration import calibrated, expected_calibration_error, fit_calibration
from cb_runtime.errors import UsageError


def overconfident(count=20000, scale=0.4, offset=0.3):
    """Return scores that claim too much, and what came true: the true logit is `scale * logit + offset`."""
    random = np.random.default_rng(0)
    logits = random.normal(3, 3, count)
    scores = 1 / (1 + np.exp(-logits))
    return scores, random.random(count) < 1 / (1 + np.exp(-(scale * logits + offset)))


def test_the_scale_and_offset_that_made_the_scores_are_found():
    scale, offset = fit_calibration(*overconfident())
    assert scale == pytest.approx(0.4, abs=0.02)
    assert offset == pytest.approx(0.3, abs=0.05)


def test_calibration_makes_scores_mean_what_they_say():
    scores, correct = overconfident()
    before = expected_calibration_error(scores, correct)
    after = expected_calibration_error(calibrated(scores, *fit_calibration(scores, correct)), correct)
    assert before > 0.1
    assert after < 0.02


def test_a_calibration_of_one_and_zero_changes_nothing():
    scores = np.array([0.0, 1e-12, 0.25, 1.0])
    assert calibrated(scores, 1.0, 0.0).tolist() == scores.tolist()


def test_order_is_kept_and_certainty_stays_inside_zero_and_one():
    values = calibrated([0.0, 0.1, 0.9, 1.0], 0.5, 1.0)
    assert (np.diff(values) > 0).all()
    assert values[0] > 0
    assert values[-1] < 1


@pytest.mark.parametrize("correct", [[True] * 5, [False] * 5])
def test_cases_that_are_all_right_or_all_wrong_give_finite_numbers(correct):
    scale, offset = fit_calibration([0.9, 0.99, 0.8, 1.0, 0.0], correct)
    assert np.isfinite([scale, offset]).all()
    assert scale > 0


def test_the_error_is_the_gap_between_claim_and_truth():
    assert expected_calibration_error([0.75] * 4, [1, 1, 1, 0]) == pytest.approx(0)
    assert expected_calibration_error([1.0] * 4, [1, 1, 0, 0]) == pytest.approx(0.5)
    # 2 cases claim 0.9 and are right, 2 claim 0.2 and one is right: (2 x 0.1 + 2 x 0.3) / 4
    assert expected_calibration_error([0.9, 0.9, 0.2, 0.2], [1, 1, 1, 0]) == pytest.approx(0.2)


def test_gaps_of_one_bin_cancel_and_those_of_two_do_not():
    scores, correct = [0.2, 0.8], [1, 0]
    assert expected_calibration_error(scores, correct, bins=1) == pytest.approx(0)
    assert expected_calibration_error(scores, correct, bins=2) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("scores", "correct"), [([], []), ([0.5], [True, False]), ([1.5], [True]), ([float("nan")], [True])]
)
def test_what_cannot_be_judged_is_refused(scores, correct):
    for judge in (fit_calibration, expected_calibration_error):
        with pytest.raises(UsageError, match=r"Calibration needs|Scores must be"):
            judge(scores, correct)


def test_less_than_one_bin_is_refused():
    with pytest.raises(UsageError, match="Bins"):
        expected_calibration_error([0.5], [True], bins=0)
