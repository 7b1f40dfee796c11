"""Predictions beside the truth: what counts as found, missed, false, split and merged, and by how much it is off."""

import numpy as np
import pytest
from evaluation_truths import captions_at, spans_at, truth_of

from cb_core.data.timeline import UNKNOWN
from cb_core.evaluation.metrics import (
    boundary_scores_of,
    calibration_of,
    error_statistics,
    hard_cuts_of,
    macro_f1,
)
from cb_core.evaluation.outcomes import boundary_outcomes, caption_outcomes, pair_confusion
from cb_core.evaluation.slices import video_slices
from cb_core.evaluation.truth import TrueCaption
from cb_runtime.contract import LABELS
from cb_runtime.scoring import PairScores


def problems(truth, spans):
    return [outcome.problem for outcome in boundary_outcomes(truth, spans, None)]


def kinds_of(*captions):
    return {boundary.frame: set(boundary.kinds) for boundary in truth_of(captions).boundaries()}


def test_boundaries_found_missed_shifted_and_false_are_told_apart():
    truth = truth_of(captions_at((10, 30), (50, 70)))
    assert problems(truth, spans_at((10, 31), (85, 95))) == [None, "shifted", "missed", "missed", "phantom", "phantom"]


def test_a_larger_tolerance_counts_what_is_shifted_by_no_more():
    outcomes = boundary_outcomes(truth_of(captions_at((10, 30))), spans_at((11, 32)), None)
    assert [scores.hits for scores in boundary_scores_of(outcomes)] == [0, 1, 2]


def test_further_hits_within_a_fade_are_false():
    fade = TrueCaption(20, 60, "a", fade_in=(16, 24))
    found = boundary_outcomes(truth_of([fade]), spans_at((17, 19), (23, 60)), None)
    assert sorted(str(outcome.problem) for outcome in found) == ["None", "None", "phantom", "phantom"]


def test_hard_cuts_leave_out_fades_and_the_false_boundaries_beside_them():
    fade = TrueCaption(20, 60, "a", fade_in=(16, 24))
    outcomes = boundary_outcomes(truth_of([fade]), spans_at((17, 19), (23, 60)), None)
    exact = boundary_scores_of(hard_cuts_of(outcomes))[0]
    assert (exact.predicted, exact.true, exact.hits) == (1, 1, 1)


def test_errors_in_time_come_from_the_frames_times_at_a_variable_rate():
    pts = [0, 40, 80, 200, 320, 330, 340, 350, 360, 370]
    truth = truth_of(captions_at((2, 6)), pts)
    _, errors = caption_outcomes(truth, spans_at((3, 7)))
    assert [(error.start, error.error_ms) for error in errors] == [
        (True, pytest.approx(120)),
        (False, pytest.approx(10)),
    ]


def test_error_statistics_are_signed_absolute_and_at_the_95th_percentile():
    truth = truth_of(captions_at((10, 30), (50, 70)))
    _, errors = caption_outcomes(truth, spans_at((9, 30), (52, 70)))
    onset = error_statistics(errors, start=True)
    assert (onset.count, onset.mean_ms, onset.mean_absolute_ms) == (2, pytest.approx(20), pytest.approx(60))
    assert onset.p95_ms == pytest.approx(78)
    assert error_statistics([], start=True).mean_ms is None


def test_the_ends_of_the_video_have_no_error():
    _, errors = caption_outcomes(truth_of(captions_at((0, 100))), spans_at((3, 90)))
    assert errors == []


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ([(10, 30)], [(11, 30)], {"matched": 1}),
        ([(10, 30)], [], {"missed": 1}),
        ([], [(10, 30)], {"phantom": 1}),
        ([(10, 30)], [(60, 70)], {"missed": 1, "phantom": 1}),
        ([(10, 30)], [(10, 20), (20, 30)], {"split": 1}),
        ([(10, 20), (20, 30)], [(10, 30)], {"merged": 1}),
        ([(10, 30)], [(28, 60)], {"missed": 1, "phantom": 1}),
    ],
)
def test_captions_are_matched_missed_phantom_split_or_merged(true, predicted, expected):
    counts, _ = caption_outcomes(truth_of(captions_at(*true)), spans_at(*predicted))
    names = ("matched", "missed", "phantom", "split", "merged")
    assert {name: getattr(counts, name) for name in names if getattr(counts, name)} == expected


def test_spans_count_from_their_overlap_in_time():
    counts, _ = caption_outcomes(truth_of(captions_at((10, 30), (50, 70))), spans_at((10, 29), (50, 62)))
    assert counts.spans == (2, 1)


def test_what_nobody_annotated_is_not_judged():
    truth = truth_of(captions_at((10, 30)))
    truth.states[60:] = UNKNOWN
    spans = spans_at((10, 30), (70, 80))
    assert problems(truth, spans) == [None, None]
    assert caption_outcomes(truth, spans)[0].phantom == 0


def pair_scores(labels):
    forward = np.eye(len(LABELS), dtype=np.float32)[labels]
    return PairScores({1: forward}, {1: forward[:, [0, 1, 2, 4, 3]]})


def test_pairs_are_counted_in_both_directions_and_not_within_fades():
    truth = truth_of([TrueCaption(4, 8, "a", fade_out=(7, 9))], frames=10)
    confusion = pair_confusion(truth, pair_scores([2, 2, 2, 3, 0, 0, 1, 1, 1]))
    assert confusion.tolist() == [[4, 0, 0, 0, 0], [0] * 5, [0, 0, 6, 0, 0], [0, 0, 0, 2, 0], [0] * 5]
    assert macro_f1(confusion) == 1


def test_a_wrong_pair_lowers_the_f1_of_both_labels():
    confusion = pair_confusion(truth_of(captions_at((4, 8)), frames=10), pair_scores([2, 2, 2, 2, 0, 0, 0, 4, 2]))
    assert confusion[3].tolist() == [0, 0, 2, 0, 0]
    assert macro_f1(confusion) == pytest.approx((1 + 8 / 9 + 0 + 1) / 4)


def test_calibration_compares_scores_with_what_is_right_to_the_frame():
    outcomes = boundary_outcomes(truth_of(captions_at((10, 30))), spans_at((10, 31), scores=(0.95, 0.65)), None)
    calibration = calibration_of(outcomes)
    assert [(one.count, one.right) for one in calibration.bins if one.count] == [(1, 0.0), (1, 1.0)]
    assert calibration.error == pytest.approx((0.05 + 0.65) / 2)
    assert calibration_of([]).error is None


def test_the_kinds_of_boundaries_follow_from_times_and_texts():
    kinds = kinds_of(
        TrueCaption(10, 18, "short"),
        TrueCaption(30, 50, "one text"),
        TrueCaption(50, 70, "one test", fade_out=(68, 72)),
        TrueCaption(71, 90, "another"),
    )
    assert kinds[10] == kinds[18] == {"short", "cut"}
    assert kinds[30] == {"normal", "cut"}
    assert kinds[50] == {"back_to_back", "near_identical", "cut"}
    assert kinds[70] == {"one_frame_gap", "fade"}
    assert kinds[71] == {"one_frame_gap", "cut"}


def test_what_the_truth_says_of_a_boundary_counts():
    told = TrueCaption(10, 15, "x", start_kinds=("karaoke",), end_kinds=())
    assert kinds_of(told) == {10: {"karaoke", "cut"}, 15: {"normal", "cut"}}


def test_a_false_boundary_belongs_to_the_slices_of_the_true_one_near_it():
    truth = truth_of(captions_at((10, 14)))
    assert [outcome.kinds for outcome in boundary_outcomes(truth, spans_at((20, 60)), None)[2:]] == [
        ("short", "cut"),
        (),
    ]


def test_slices_of_rendered_videos_follow_from_their_details():
    style = {"script": "han", "font": "F", "max_lines": 1, "top": True, "anchor": "left", "box": "none"}
    style |= {"outline": 0, "shadow": 2, "karaoke": False, "fades": 0.5}
    encoding = {"codec": "libx264", "options": {"crf": "30"}, "bits_per_pixel": None}
    document = {"width": 640, "height": 360, "frame_rate": [30000, 1001], "variable_frame_rate": True}
    document["details"] = {"style": style, "encoding": encoding, "distractors": ["logo", "clock", "logo"]}
    slices = video_slices(document)
    assert (slices["resolution"], slices["frame_rate"], slices["vfr"]) == ("360p", "29.97", "True")
    assert (slices["quality"], slices["style"], slices["transition"]) == ("low", "shadow", "mixed")
    assert (slices["position"], slices["distractor"]) == ("top", "clock+logo")
