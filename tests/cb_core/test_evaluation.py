"""Boundary scores: one-to-one, nearest first, any frame of a fade counts once."""

import json
from fractions import Fraction

import pytest

from cb_core.evaluation import Boundary, boundaries_from_truth, boundary_scores, predicted_boundaries
from cb_runtime.errors import InputError
from cb_runtime.spans import Span


def cut(frame):
    return Boundary(frame, frame, frame)


def span(start, end):
    return Span(start, end, Fraction(1, 25), start, end)


def test_exact_hits_score_one():
    scores = boundary_scores([cut(5), cut(9)], [5, 9])
    assert (scores.precision, scores.recall, scores.f1) == (1, 1, 1)


def test_one_frame_off_counts_only_with_tolerance():
    assert boundary_scores([cut(5)], [6]).f1 == 0
    assert boundary_scores([cut(5)], [6], tolerance=1).f1 == 1


def test_two_predictions_cannot_hit_one_boundary():
    scores = boundary_scores([cut(5)], [5, 6], tolerance=1)
    assert (scores.hits, scores.precision, scores.recall) == (1, 0.5, 1)


def test_the_nearest_prediction_is_matched_first():
    assert boundary_scores([cut(5), cut(7)], [6, 7], tolerance=1).hits == 2


def test_any_frame_of_a_fade_counts_once():
    fade = Boundary(10, 8, 12)
    assert boundary_scores([fade], [8]).hits == 1
    assert boundary_scores([fade], [8, 12]).to_dict()["precision"] == 0.5
    assert boundary_scores([fade], [7]).hits == 0


def test_nothing_true_and_nothing_predicted_is_perfect():
    assert boundary_scores([], []).f1 == 1
    assert boundary_scores([cut(3)], []).f1 == 0


def test_the_ends_of_the_video_are_no_boundaries_and_a_change_without_gap_is_one():
    assert predicted_boundaries([span(0, 5), span(5, 10)], frame_count=10) == [5]


def test_truth_is_read_with_its_fades(tmp_path):
    captions = [
        {"start_frame": 0, "end_frame": 4, "fade_in": None, "fade_out": None},
        {"start_frame": 4, "end_frame": 8, "fade_in": None, "fade_out": [7, 9]},
    ]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"pts": list(range(10)), "captions": captions}))
    assert boundaries_from_truth(path) == ([cut(4), Boundary(8, 7, 9)], 10)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pts": [], "captions": [{}]}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match="not a ground truth written by cb synth"):
        boundaries_from_truth(path)
