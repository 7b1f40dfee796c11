"""Decoding pairs of frames at several distances together."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from neighbour_decoder import captions_and_scores

from cb_runtime.contract import LABELS, REVERSED_LABEL, Decoding
from cb_runtime.decoding import DecodeOptions, decode_spans, distances_from_text
from cb_runtime.errors import ContractError, UsageError
from cb_runtime.scoring import PairScores
from cb_runtime.trellis import Trellis


def label_of(one, other):
    """Return the label of two frames' contents: `.` is empty, letters are captions."""
    if one == other:
        return "empty_empty" if one == "." else "same"
    return "empty_valid" if one == "." else "valid_empty" if other == "." else "different"


def pair_rows(contents, distance, sure=0.95):
    """Return the probabilities of pairs of frames, one character per frame."""
    pairs = list(zip(contents, contents[distance:], strict=False))
    rows = np.full((len(pairs), 5), (1 - sure) / 4, np.float32)
    for row, pair in zip(rows, pairs, strict=True):
        row[LABELS.index(label_of(*pair))] = sure
    return rows


def scores_of(contents, distances=(1, 2, 3), sure=0.95):
    forward = {distance: pair_rows(contents, distance, sure) for distance in distances}
    return PairScores(forward, {distance: rows[:, REVERSED_LABEL] for distance, rows in forward.items()})


def decode(scores, **options):
    count = len(scores.forward) + 1
    decoding = Decoding(**{"distances": scores.distances, **options})
    return decode_spans(range(count), [1] * count, Fraction(1), scores, decoding)


def frames(spans):
    return [(span.start_frame, span.end_frame) for span in spans]


def said(scores, distance, index, **probabilities):
    """Let the model say something else of the pair `(index, index + distance)`, in both directions."""
    left = (1 - sum(probabilities.values())) / (5 - len(probabilities))
    row = np.array([probabilities.get(label, left) for label in LABELS], np.float32)
    scores.forward_at[distance][index] = row
    scores.backward_at[distance][index] = row[list(REVERSED_LABEL)]


@pytest.mark.parametrize("distances", [(1,), (1, 2), (1, 2, 3), (1, 3), (1, 2, 3, 4)])
@pytest.mark.parametrize(
    ("contents", "wanted"),
    [
        ("...aaaa...", [(3, 7)]),
        ("aaaa", [(0, 4)]),
        ("....", []),
        ("..aaabbb..", [(2, 5), (5, 8)]),
        ("aa.bb", [(0, 2), (3, 5)]),
        (".aaa..bbb.", [(1, 4), (6, 9)]),
        ("..a....", [(2, 3)]),
        ("..aa...", [(2, 4)]),
        (".abcd.", [(1, 2), (2, 3), (3, 4), (4, 5)]),
        ("ab", [(0, 1), (1, 2)]),
        ("aaa....aaa", [(0, 3), (7, 10)]),
    ],
)
def test_clear_frames_become_exact_captions_at_any_distances(distances, contents, wanted):
    spans = decode(scores_of(contents, distances, sure=0.999))
    assert frames(spans) == wanted
    assert all(span.score > 0.8 and span.flags == () for span in spans)


@pytest.mark.parametrize("gap", ["aaaa.aaaa", "aaaa..aaaa", "aa.a.aaa", "aaaa..a.aaa"])
def test_a_caption_gone_for_a_frame_or_two_and_back_is_one_caption(gap):
    assert frames(decode(scores_of(f"..{gap}..", sure=0.99))) == [(2, 2 + len(gap))]


def test_a_caption_too_short_is_not_lengthened_by_blinks():
    contents = "......aa....bbbbbbbbb.."
    assert frames(decode(scores_of(contents, sure=0.9999), min_frames=7)) == [(12, 21)]


def test_without_pairs_across_the_gap_nobody_can_tell_and_it_is_two():
    assert len(decode(scores_of("..aaaa.aaaa..", (1,), sure=0.99))) == 2
    assert len(decode(scores_of("..aaaa..aaaa..", (1, 2), sure=0.99))) == 2


def test_another_caption_after_a_one_frame_gap_is_another():
    assert frames(decode(scores_of("..aaaa.bbbb..", sure=0.99))) == [(2, 6), (7, 11)]


@pytest.mark.parametrize("gap", [".", ".."])
def test_two_similar_captions_a_frame_or_two_apart_are_not_merged_on_a_weak_same(gap):
    contents = f"..aaaa{gap}bbbb.."
    scores = scores_of(contents)
    after = 6 + len(gap)
    for distance in (2, 3):
        for one in range(after - distance, 6):
            said(scores, distance, one, same=0.55, different=0.43)
    assert frames(decode(scores)) == [(2, 6), (after, after + 4)]
    assert frames(decode(scores, blink_penalty=0.0)) == [(2, after + 4)]


def test_a_caption_does_not_end_in_a_blink():
    (span,) = decode(scores_of("..aaaa.", sure=0.99))
    assert (span.end_frame, span.end_score) == (6, pytest.approx(1, abs=0.01))


def test_two_similar_captions_are_not_merged_where_pairs_across_see_the_difference():
    scores = scores_of("..aaaabbbb..")
    said(scores, 1, 5, same=0.7, different=0.28)
    assert frames(decode(scores)) == [(2, 6), (6, 10)]
    assert frames(decode(scores, distances=(1,))) == [(2, 10)]


def test_a_change_that_only_one_pair_sees_is_none():
    scores = scores_of("..aaaaaaaa..")
    said(scores, 1, 5, different=0.97, same=0.02)
    assert frames(decode(scores)) == [(2, 10)]
    assert len(decode(scores, distances=(1,))) == 2


@pytest.mark.parametrize("length", [2, 3])
def test_very_short_captions_are_kept_also_where_one_pair_missed_them(length):
    scores = scores_of("....." + "a" * length + ".....")
    said(scores, 1, 4, empty_empty=0.8, empty_valid=0.15)
    assert frames(decode(scores)) == [(5, 5 + length)]


def test_a_boundary_lies_where_the_distances_agree():
    scores = scores_of("....aaaa....", sure=0.9)
    said(scores, 1, 3, empty_empty=0.6, empty_valid=0.3)
    said(scores, 1, 4, empty_valid=0.6, same=0.3)
    assert frames(decode(scores)) == [(4, 8)]
    assert frames(decode(scores, distances=(1,))) == [(5, 8)]


def test_a_heavier_distance_counts_more():
    scores = scores_of("..aaaabbbb..")
    said(scores, 1, 5, same=0.95)
    assert frames(decode(scores)) == [(2, 6), (6, 10)]
    assert frames(decode(scores, distance_weights=(20.0, 1.0, 1.0))) == [(2, 10)]


def test_only_the_distances_asked_for_are_used():
    scores = scores_of("..aaaa.aaaa..")
    assert len(decode(scores, distances=(1, 2))) == 1
    assert len(decode(scores, distances=(1,))) == 2


def test_a_distance_that_was_not_scored_is_refused():
    with pytest.raises(UsageError, match=r"distance 3 were not scored, only those at 1, 2\. Score"):
        decode(scores_of("..aa..", (1, 2)), distances=(1, 2, 3))


def test_scores_of_another_number_of_frames_are_refused():
    scores = scores_of("..aa..")
    scores.forward_at[2] = scores.forward_at[2][:-1]
    with pytest.raises(ContractError, match=r"6 frames need .* at distance 2"):
        decode(scores)


@pytest.mark.parametrize("count", range(5))
def test_videos_shorter_than_the_distances_decode(count):
    spans = decode_spans(range(count), [1] * count, Fraction(1), scores_of("a" * count), Decoding())
    assert frames(spans) == ([(0, count)] if count > 1 else [])


def test_neighbours_alone_are_decoded_as_ever():
    random = np.random.default_rng(3)
    for min_frames in (1, 2, 3, 7):
        for penalty in (0.0, 1.0, 4.0):
            forward, backward = random.dirichlet(np.full(5, 0.3), (2, 120)).astype(np.float32)
            scores = PairScores({1: forward}, {1: backward})
            spans = decode(scores, min_frames=min_frames, change_penalty=penalty)
            wanted = captions_and_scores(forward, backward, min_frames, penalty)
            assert frames(spans) == [(start, end) for start, end, _ in wanted]
            np.testing.assert_allclose([span.score for span in spans], [score for *_, score in wanted], atol=1e-9)


def readings(count, width, min_frames):
    """Give every way to read a video: 0 is an empty frame, k the k-th caption, -k that caption blinking."""

    def onward(symbols):
        if len(symbols) == count:
            if symbols[-1] >= 0:
                yield tuple(symbols)
            return
        last, newest = symbols[-1], max(map(abs, symbols))
        choices = {0, newest + 1} if last == 0 else {abs(last), -abs(last)}
        if last > 0:
            choices |= {0, newest + 1}
        for symbol in choices:
            yield from onward([*symbols, symbol])

    for symbols in itertools.chain(onward([0]), onward([1])):
        if all(_allowed(symbols, at, width, min_frames) for at in range(1, count)):
            yield symbols


def _allowed(symbols, at, width, min_frames):
    """Tell whether the caption of the frame before `at` may do what it does at `at`."""
    last, this = symbols[at - 1], symbols[at]
    if this < 0 and symbols[max(at - width + 1, 0) : at].count(-this) == 0:
        return False  # no pair could span this blink
    if last <= 0 or this == last:
        return True
    shown = 0
    while shown < at and symbols[at - 1 - shown] == last:
        shown += 1
    return shown == at or shown >= min_frames


def reading_score(symbols, evidence, decoding):
    distances = decoding.distances
    total = 0.0
    for distance, later in itertools.product(distances, range(1, len(symbols))):
        if later >= distance:
            one, other = (("." if s <= 0 else s) for s in (symbols[later - distance], symbols[later]))
            total += evidence[later - 1, distances.index(distance), LABELS.index(label_of(one, other))]
    changes = sum(0 < one != abs(other) > 0 for one, other in itertools.pairwise(symbols))
    returns = sum(one < 0 < other for one, other in itertools.pairwise(symbols))
    return total - decoding.change_penalty * changes - decoding.blink_penalty * returns


@pytest.mark.parametrize(("distances", "min_frames"), [((1,), 1), ((1, 2), 2), ((1, 2, 3), 1), ((1, 3), 3)])
def test_the_best_reading_and_its_probabilities_are_those_of_all_readings_tried_one_by_one(distances, min_frames):
    random = np.random.default_rng(7)
    all_readings = list(readings(6, distances[-1], min_frames))
    decoding = Decoding(distances, min_frames=min_frames, change_penalty=0.7, blink_penalty=0.4)
    trellis = Trellis(decoding)
    for _ in range(10):
        evidence = np.log(random.dirichlet(np.full(5, 0.4), (5, len(distances))).clip(1e-4))
        for column, distance in enumerate(distances):
            evidence[: distance - 1, column] = 0
        totals = np.array([reading_score(symbols, evidence, decoding) for symbols in all_readings])
        weights = np.exp(totals - np.logaddexp.reduce(totals))
        begins, ends = np.array([_boundaries(symbols) for symbols in all_readings]).transpose(1, 0, 2)
        path, posteriors = trellis.best_path(evidence), trellis.posteriors(evidence)
        best = totals.argmax()
        assert [frame for frame in path.starts if frame] == (np.flatnonzero(begins[best]) + 1).tolist()
        assert [frame for frame in path.ends if frame < 6] == (np.flatnonzero(ends[best]) + 1).tolist()
        np.testing.assert_allclose(posteriors.begins, weights @ begins, atol=1e-12)
        np.testing.assert_allclose(posteriors.ends, weights @ ends, atol=1e-12)
        shown = [weights[[symbols[at] > 0 for symbols in all_readings]].sum() for at in (0, -1)]
        np.testing.assert_allclose((posteriors.shown_first, posteriors.shown_last), shown, atol=1e-12)


def _boundaries(symbols):
    pairs = list(itertools.pairwise(symbols))
    begins = [other > 0 and abs(one) != other for one, other in pairs]
    return begins, [one > 0 and abs(other) != one for one, other in pairs]


def test_probabilities_stay_exact_over_a_long_video():
    contents = ("." * 40 + "a" * 60 + "b" * 50) * 60
    spans = decode(scores_of(contents, sure=0.9))
    assert len(spans) == 120
    assert all(span.score > 0.9 for span in spans)
    assert frames(spans)[-2:] == [(8890, 8950), (8950, 9000)]


def test_spans_are_in_order_and_never_overlap_whatever_the_probabilities():
    random = np.random.default_rng(0)
    for _ in range(20):
        forward_at, backward_at = (
            {d: random.dirichlet(np.full(5, 0.3), 60 - d).astype(np.float32) for d in (1, 2, 3)} for _ in range(2)
        )
        spans = decode(PairScores(forward_at, backward_at), min_frames=int(random.integers(1, 6)))
        edges = [edge for pair in frames(spans) for edge in pair]
        assert edges == sorted(edges)
        for span in spans:
            assert span.start_frame < span.end_frame
            assert all(0 <= score <= 1 for score in (span.score, span.start_score, span.end_score))


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="--min-frames"):
        DecodeOptions(min_frames=0)
    for penalty in (-1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="--change-penalty"):
            DecodeOptions(change_penalty=penalty)
    for distances in ((), (2,), (1, 1), (1, 3, 2), (1, 99), (0, 1)):
        with pytest.raises(UsageError, match="--distances must ascend from 1"):
            DecodeOptions(distances=distances)


def test_distances_are_read_from_text():
    assert distances_from_text("1,2, 3") == (1, 2, 3)
    with pytest.raises(UsageError, match="whole numbers"):
        distances_from_text("1,x")


def test_options_replace_only_what_they_name_and_distances_keep_their_weights():
    model = Decoding((1, 2, 3), (1.0, 0.5, 0.25), min_frames=2, change_penalty=3.0, score_scale=0.4)
    assert DecodeOptions().applied_to(model) == model
    changed = DecodeOptions(change_penalty=0.0, distances=(1, 3, 4)).applied_to(model)
    assert changed == Decoding((1, 3, 4), (1.0, 0.25, 1.0), min_frames=2, change_penalty=0.0, score_scale=0.4)
