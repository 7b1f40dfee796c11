"""Captions and changes that pairs of frames further apart must confirm."""

from fractions import Fraction

import numpy as np
import pytest

from cb_runtime.confirmation import CLOSER, confirmed, without_flurries
from cb_runtime.contract import LABELS, REVERSED_LABEL, Decoding
from cb_runtime.decoding import decode_spans
from cb_runtime.errors import UsageError
from cb_runtime.scoring import PairScores
from cb_runtime.trellis import Path

FAR = 8


def label_of(one, other):
    if one == other:
        return "empty_empty" if one == "." else "same"
    return "empty_valid" if one == "." else "valid_empty" if other == "." else "different"


def rows(contents, distance, sure=0.9):
    """Return probabilities of the pairs at a distance, one character per frame: `.` is empty, letters are captions."""
    pairs = list(zip(contents, contents[distance:], strict=False))
    values = np.full((len(pairs), len(LABELS)), (1 - sure) / 4, np.float32)
    for row, pair in zip(values, pairs, strict=True):
        row[LABELS.index(label_of(*pair))] = sure
    return values


def scores(near, far):
    """Return scores of a video that looks one way to pairs of neighbours and another to those far apart."""
    forward = {1: rows(near, 1), 2: rows(near, 2), FAR: rows(far, FAR)}
    return PairScores(forward, {distance: of[:, REVERSED_LABEL] for distance, of in forward.items()})


def decoded(near, far, frame_rate=1, staying=None, closer=None, **options):
    decoding = Decoding(**{"distances": (1, 2), "far_distance": FAR, **options})
    times = range(len(near)), [1] * len(near), Fraction(1, frame_rate)
    spans = decode_spans(*times, scores(near, far), decoding, staying=staying, closer=closer)
    return [(span.start_frame, span.end_frame) for span in spans]


ONE = "..........aaaaaaaaaaaaaaaaaaaaaaaa.........."
TWO = "..........aaaaaaaaaaaabbbbbbbbbbbb.........."
NONE = "." * len(ONE)


def test_a_change_that_only_close_pairs_see_is_none():
    assert decoded(TWO, ONE, far_distance=0) == [(10, 22), (22, 34)]
    assert decoded(TWO, ONE) == [(10, 34)]


@pytest.mark.parametrize("before", [0, 3, 9])
def test_captions_too_short_for_a_far_pair_are_judged_alike_wherever_they_stand(before):
    """Near the beginning, the last pair across their change would have a negative number."""
    contents = "." * before + "aaabbb" + "." * 9 + "".join(letter * 12 for letter in "cdef")
    assert decoded(contents, contents, min_frames=1)[0] == (before, before + 6)


def test_a_change_that_far_pairs_see_too_is_kept():
    assert decoded(TWO, TWO) == [(10, 22), (22, 34)]


def test_a_closer_look_decides_the_changes_that_it_looked_at():
    assert decoded(TWO, TWO, closer={22: -3.0}) == [(10, 34)]
    assert decoded(ONE, ONE, closer={22: 3.0}) == [(10, 22), (22, 34)], "though no pair sees it"
    assert decoded(TWO, ONE, closer={22: 3.0}) == [(10, 22), (22, 34)], "though far pairs do not"
    assert decoded(TWO, TWO, closer={16: -3.0}) == [(10, 22), (22, 34)], "but no others"


def test_a_closer_look_must_be_as_sure_as_pairs_must_be_in_the_mean():
    assert decoded(ONE, ONE, closer={22: CLOSER - 0.1}) == [(10, 34)]
    assert decoded(ONE, ONE, closer={22: 3.0}, change_penalty=30.0) == [(10, 34)]


def test_a_closer_look_makes_no_captions_that_are_too_short():
    assert decoded(ONE, ONE, closer={22: 3.0}, min_frames=13) == [(10, 34)]
    assert decoded(ONE, ONE, closer={14: 3.0, 17: 3.0, 30: 3.0}, min_frames=4) == [(10, 14), (14, 30), (30, 34)]


def test_a_closer_look_makes_no_captions_that_nobody_could_read():
    """One that grows or moves differs from itself at any two frames; others may be half of a second long."""
    growing = dict.fromkeys(range(12, 34, 2), 3.0)
    assert decoded(ONE, ONE, frame_rate=30, closer=growing) == [(10, 16), (16, 24), (24, 34)]
    assert decoded(ONE, ONE, frame_rate=55, closer=growing) == [(10, 22), (22, 34)]
    assert decoded(ONE, ONE, frame_rate=120, closer=growing) == [(10, 34)]


def test_a_closer_look_says_little_of_captions_that_nobody_could_read():
    """Far pairs are asked about their changes, as where nobody looked closer."""
    pieces = "".join(letter * 6 for letter in "abcd")
    many = f"{'.' * 10}{pieces}{'.' * 10}"
    seen = dict.fromkeys((16, 22, 28), 3.0)
    assert decoded(many, ONE, frame_rate=50, closer=seen) == [(10, 34)], "0.12 s each"
    assert decoded(many, ONE, frame_rate=25, closer=seen) == [(10, 16), (16, 22), (22, 28), (28, 34)], "0.24 s each"


def test_a_change_over_which_strokes_stay_is_none_whatever_pairs_see():
    assert decoded(TWO, TWO, staying={22: 0.9}) == [(10, 34)]
    assert decoded(TWO, TWO, staying={22: 0.1, 21: 0.9}) == [(10, 22), (22, 34)]


def test_a_caption_that_only_close_pairs_see_is_none():
    assert decoded(ONE, NONE, far_distance=0) == [(10, 34)]
    assert decoded(ONE, NONE) == []


def test_the_margin_says_how_sure_far_pairs_must_be_of_a_change():
    assert decoded(TWO, TWO, far_margin=10.0) == [(10, 34)]
    assert decoded(TWO, ONE, far_margin=-10.0) == [(10, 22), (22, 34)]


@pytest.mark.parametrize("far", [NONE, ONE])
def test_a_run_of_captions_too_short_for_any_far_pair_is_one_caption_and_judged_as_one(far):
    near = "..........aaabbbaaabbb" + "." * 22
    assert len(decoded(near, far, far_distance=0)) == 4
    assert decoded(near, far) == ([] if far is NONE else [(10, 22)])


def test_captions_with_a_gap_between_them_are_not_joined():
    near = "..........aaaaaaaaaa.bbbbbbbbbb............"
    assert decoded(near, near) == [(10, 20), (21, 31)]


def test_captions_cut_by_the_ends_of_a_video_are_judged_by_the_pairs_there_are():
    assert decoded("a" * 30, "a" * 30) == [(0, 30)]
    assert decoded("a" * 12 + "b" * 12, "a" * 12 + "b" * 12) == [(0, 12), (12, 24)]


def test_a_video_shorter_than_the_far_distance_keeps_its_caption():
    assert decoded("..aaa.", "......") == [(2, 5)]


def test_no_evidence_at_all_leaves_captions_alone():
    path = Path([2], [5])
    assert confirmed(path, np.zeros((0, 5)), FAR, 1.0).starts == [2]


def test_a_far_distance_that_was_not_scored_is_refused():
    with pytest.raises(UsageError, match="distance 12 were not scored"):
        decoded(ONE, ONE, far_distance=12)


def left(*lengths, rate=25, start=10):
    """Return which captions of these lengths, one right after the other, remain: by their numbers."""
    edges = np.cumsum([start, *lengths]).tolist()
    path = without_flurries(Path(edges[:-1], edges[1:]), [frame / rate for frame in range(edges[-1] + 1)])
    return [edges.index(frame) for frame in path.starts]


def test_captions_that_nobody_could_read_are_none():
    assert left(4, 4, 4, 4, 4) == []
    assert left(50, 4, 3, 4, 4, 30) == [0, 5]


@pytest.mark.parametrize("lengths", [(4,), (4, 4, 4), (50, 4, 4, 4, 50), (5, 5, 5, 5, 5), (4, 4, 5, 4, 4)])
def test_words_shown_one_by_one_and_few_short_captions_stay(lengths):
    assert left(*lengths) == list(range(len(lengths)))


def test_what_can_be_read_is_told_by_the_time_and_not_by_the_number_of_frames():
    assert left(5, 5, 5, 5, rate=60) == []
    assert left(2, 2, 2, 2, rate=8) == [0, 1, 2, 3]


def test_short_captions_with_gaps_between_them_stay():
    starts = [10, 20, 30, 40, 50]
    path = Path(starts, [start + 4 for start in starts])
    assert without_flurries(path, [frame / 25 for frame in range(60)]).starts == starts


def test_a_decoded_video_has_no_captions_that_nobody_could_read():
    flurry = "....." + "".join(letter * 4 for letter in "abcdefgh") + "....."
    assert len(decoded(flurry, flurry, far_distance=0)) == 8
    assert decoded(flurry, flurry, far_distance=0, frame_rate=25) == []
