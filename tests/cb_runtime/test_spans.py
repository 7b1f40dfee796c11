"""Decoding label probabilities of neighbouring frames into captions; pairs further apart are in test_decoding.py."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from cb_runtime.contract import LABELS, REVERSED_LABEL, Decoding
from cb_runtime.decoding import CONTRADICTION, decode_spans
from cb_runtime.errors import ContractError
from cb_runtime.scoring import PairScores
from cb_runtime.spans import Span

LETTERS = {"s": "same", "d": "different", ".": "empty_empty", "[": "empty_valid", "]": "valid_empty"}


def row(**probabilities):
    """Return one row of probabilities; what is left is shared by the other labels."""
    left = (1 - sum(probabilities.values())) / (len(LABELS) - len(probabilities))
    return [probabilities.get(label, left) for label in LABELS]


def rows(labels, sure=0.95):
    """Return a row per letter: s same, d different, . empty_empty, [ empty_valid, ] valid_empty."""
    return np.array([row(**{LETTERS[letter]: sure}) for letter in labels], np.float32).reshape(-1, 5)


def turned(forward):
    """Return the backward probabilities that agree with the forward ones."""
    return forward[:, REVERSED_LABEL]


def decode(forward, backward=None, **options):
    count = len(forward) + 1
    times = [index * 3 for index in range(count)]
    return decode_spans(times, [3] * count, Fraction(1, 75), scores(forward, backward), neighbours(**options))


def scores(forward, backward=None):
    """Return scores of neighbours only."""
    return PairScores({1: forward}, {1: turned(forward) if backward is None else backward})


def neighbours(**options):
    return Decoding(**{"distances": (1,), "change_penalty": 1.0, **options})


def frames(spans):
    return [(span.start_frame, span.end_frame) for span in spans]


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ("..[sss]..", [(3, 7)]),
        ("sss", [(0, 4)]),
        ("...", []),
        ("ss]..[s", [(0, 3), (6, 8)]),
        ("[sdsds]", [(1, 3), (3, 5), (5, 7)]),
        ("[]", [(1, 2)]),
        ("d", [(0, 1), (1, 2)]),
        ("[ss][ss]", [(1, 4), (5, 8)]),
    ],
)
def test_clear_labels_become_exact_captions(labels, wanted):
    spans = decode(rows(labels))
    assert frames(spans) == wanted
    assert all(span.score > 0.8 and span.flags == () for span in spans)


def test_times_are_presentation_times_also_on_variable_frame_rate():
    pts, durations = [0, 10, 15, 40, 41], [10, 5, 25, 1, 30]
    forward = rows(".[s]")
    (span,) = decode_spans(pts, durations, Fraction(1, 50), scores(forward), neighbours())
    assert (span.start_pts, span.end_pts) == (15, 41)
    assert (span.start_seconds, span.end_seconds) == (0.3, 0.82)


@pytest.mark.parametrize(("last_duration", "end"), [(30, 71), (0, 42)])
def test_a_caption_at_the_end_lasts_as_long_as_the_last_frame(last_duration, end):
    forward = rows(".[ss")
    (span,) = decode_spans(
        [0, 10, 15, 40, 41], [10, 5, 25, 1, last_duration], Fraction(1), scores(forward), neighbours()
    )
    assert (span.end_pts, span.end_frame) == (end, 5)


@pytest.mark.parametrize("count", [0, 1])
def test_a_video_without_a_pair_has_no_captions(count):
    assert decode_spans([0] * count, [1] * count, Fraction(1), scores(rows("")), neighbours()) == []


def test_a_fade_out_over_uncertain_frames_has_exactly_one_boundary():
    fade = [row(same=0.5, valid_empty=0.4), row(same=0.4, valid_empty=0.45), row(empty_empty=0.5, valid_empty=0.4)]
    forward = np.concatenate([rows("..[ssss"), np.array(fade, np.float32), rows("...")])
    (span,) = decode(forward)
    assert span.start_frame == 3
    assert 8 <= span.end_frame <= 10
    assert span.score < 0.8, "an uncertain boundary must not claim to be sure"


def test_a_fade_in_that_no_pair_calls_a_start_still_starts_once():
    fade = [row(empty_empty=0.6, empty_valid=0.3), row(same=0.4, empty_empty=0.4, empty_valid=0.2)]
    forward = np.concatenate([rows("...."), np.array(fade, np.float32), rows("ssss]..")])
    (span,) = decode(forward)
    assert 5 <= span.start_frame <= 6
    assert span.end_frame == 11


def test_a_single_doubtful_different_does_not_split_a_caption():
    forward = rows(".[ssssss].")
    forward[5] = row(same=0.35, different=0.6)
    assert frames(decode(forward)) == [(2, 9)]


def test_a_sure_different_splits_a_caption():
    forward = rows(".[sssdss].")
    assert frames(decode(forward)) == [(2, 6), (6, 9)]


def test_the_change_penalty_decides_how_sure_is_sure():
    forward = rows(".[ssssss].")
    forward[5] = row(same=0.35, different=0.6)
    assert len(decode(forward, change_penalty=0)) == 2
    assert len(decode(rows(".[sssdss].", sure=0.8), change_penalty=5)) == 1


def test_one_wrong_empty_inside_a_caption_does_not_end_it():
    forward = rows(".[sss.ss].", sure=0.999)
    assert frames(decode(forward)) == [(2, 9)]


def test_one_wrong_same_between_captions_does_not_begin_one():
    assert frames(decode(rows("....s...."))) == []


def test_a_one_frame_gap_is_kept():
    assert frames(decode(rows("[ss][ss]"))) == [(1, 4), (5, 8)]


def test_an_end_that_the_pair_itself_missed_is_still_one_end():
    forward = rows(".[sss]...")
    forward[5] = row(same=0.6, valid_empty=0.3)
    assert frames(decode(forward)) == [(2, 6)]


def test_contradicting_directions_are_settled_by_the_combined_evidence_and_flagged():
    forward = rows(".[ssss].[s]")
    backward = turned(forward).copy()
    forward[3] = row(different=0.7, same=0.25)
    backward[3] = row(same=0.97)
    spans = decode(forward, backward)
    assert frames(spans) == [(2, 7), (9, 11)]
    assert [span.flags for span in spans] == [(CONTRADICTION,), ()]


def test_the_surer_direction_wins_at_a_boundary():
    forward = rows(".[sss]..")
    backward = turned(forward).copy()
    backward[5] = row(same=0.5, empty_valid=0.45)
    assert frames(decode(forward, backward)) == [(2, 6)]


def test_min_frames_drops_flicker_but_keeps_long_captions():
    labels = "..[]..[ssss]."
    assert frames(decode(rows(labels))) == [(3, 4), (7, 12)]
    assert frames(decode(rows(labels), min_frames=3)) == [(7, 12)]


def test_min_frames_merges_a_change_that_comes_too_early():
    assert frames(decode(rows("[sssdssss]", sure=0.8), min_frames=5)) == [(1, 10)]


def test_a_caption_cut_by_the_video_s_ends_may_be_shorter_than_min_frames():
    assert frames(decode(rows("s]....[s"), min_frames=5)) == [(0, 2), (7, 9)]


def test_scores_fall_with_doubt():
    sure, unsure = (decode(rows("..[sss]..", sure=sure))[0] for sure in (0.99, 0.6))
    assert 0 < unsure.score < sure.score <= 1
    assert 0 < unsure.start_score < sure.start_score <= 1
    assert 0 < unsure.end_score < sure.end_score <= 1


def test_each_boundary_has_a_score_of_its_own():
    forward = rows("..[sss]..", sure=0.99)
    forward[5:7] = [row(same=0.5, valid_empty=0.45), row(valid_empty=0.5, empty_empty=0.45)]
    (span,) = decode(forward)
    assert span.end_score < 0.8
    assert span.start_score > 0.95
    assert span.score == pytest.approx(span.start_score * span.end_score)


def test_a_boundary_beyond_the_video_is_not_doubted():
    (older,), (outlasting,) = decode(rows("ss]..")), decode(rows("..[ss"))
    assert (older.start_score, outlasting.end_score) == (1.0, 1.0)
    assert older.end_score < 1
    assert outlasting.start_score < 1


def test_scores_are_calibrated_as_the_model_says():
    forward = rows("..[sss]..", sure=0.8)
    (plain,), (calm,), (low,) = decode(forward), decode(forward, score_scale=0.5), decode(forward, score_offset=-1.0)
    odds = [span.start_score / (1 - span.start_score) for span in (plain, calm, low)]
    assert odds[1] == pytest.approx(odds[0] ** 0.5)
    assert odds[2] == pytest.approx(odds[0] / np.e)


def test_a_pair_the_model_is_wrongly_certain_of_does_not_give_infinite_evidence():
    forward = np.zeros((8, 5), np.float32)
    forward[np.arange(8), [2, 2, 4, 2, 2, 3, 0, 0]] = 1  # an end where nothing was shown
    (span,) = decode(forward)
    assert (span.start_frame, span.end_frame) == (6, 9)
    assert 0 <= span.score <= 1


def test_spans_are_in_order_and_never_overlap_whatever_the_probabilities():
    random = np.random.default_rng(0)
    for _ in range(20):
        forward, backward = random.dirichlet(np.full(5, 0.3), (2, 60)).astype(np.float32)
        spans = decode(forward, backward, min_frames=int(random.integers(1, 6)))
        edges = [edge for pair in frames(spans) for edge in pair]
        assert edges == sorted(edges)
        assert all(span.start_frame < span.end_frame and 0 <= span.score <= 1 for span in spans)


def test_best_path_is_the_best_of_all_paths():
    random = np.random.default_rng(1)
    forward = random.dirichlet(np.full(5, 0.5), 5).astype(np.float32)
    label_of = {(0, 0): [2], (0, 1): [3], (1, 0): [4], (1, 1): [0, 1]}
    best = max(
        (
            sum(np.log(forward[step, label]) for step, label in enumerate(labels)),
            labels,
        )
        for states in np.ndindex(*(2,) * 6)
        for labels in _label_choices([label_of[pair] for pair in itertools.pairwise(states)])
    )[1]
    changes = [step + 1 for step, label in enumerate(best) if label in (1, 3)]
    spans = decode(forward, change_penalty=0)
    assert [span.start_frame for span in spans if span.start_frame] == changes


def _label_choices(options):
    if not options:
        return [()]
    return [(label, *rest) for label in options[0] for rest in _label_choices(options[1:])]


@pytest.mark.parametrize("values", [-0.1, 1.5, np.nan])
def test_probabilities_that_are_none_are_refused(values):
    forward = rows("..")
    forward[0, 0] = values
    with pytest.raises(ContractError, match="forward probabilities"):
        decode(forward, rows(".."))


def test_arrays_of_other_lengths_are_refused():
    with pytest.raises(ContractError, match="3 frames need"):
        decode_spans([0, 1, 2], [1, 1, 1], Fraction(1), scores(rows("...")), neighbours())


def test_a_span_s_seconds_are_exact_multiples_of_its_time_base():
    span = Span(1001, 2002, Fraction(1, 30000), 1, 2)
    assert span.start_seconds == 1001 / 30000
    assert span.end_seconds == 2002 / 30000
