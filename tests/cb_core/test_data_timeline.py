from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cb_core.data.captions import MILLISECOND, Caption, CaptionFile
from cb_core.data.timeline import EMPTY, UNKNOWN, Timeline, annotate
from cb_runtime.errors import InputError


def timeline(frames=50, step=40, *, truncated=False):
    pts = np.arange(frames, dtype=np.int64) * step
    return Timeline(pts, int(pts[-1]) + step, Fraction(1, 1000), truncated)


def file(*captions, annotated=None):
    entries = [
        Caption(f"cue {number}", text, Fraction(str(start)), Fraction(str(end)))
        for number, (start, end, text) in enumerate(captions, 1)
    ]
    return CaptionFile(Path("a.srt"), tuple(entries), MILLISECOND, annotated)


def spans(annotation):
    return [(caption.start_frame, caption.end_frame) for caption in annotation.captions]


def test_a_caption_shows_from_its_start_until_before_its_end():
    annotation = annotate(timeline(), file((0.4, 0.8, "a")))
    assert spans(annotation) == [(10, 20)]
    assert np.flatnonzero(annotation.states == 0).tolist() == list(range(10, 20))
    assert (annotation.states[20:] == EMPTY).all()


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)])
def test_times_rounded_to_milliseconds_find_their_frames(rate):
    pts = np.arange(4000, dtype=np.int64)
    line = Timeline(pts, 4000, 1 / rate)
    for first, stop in [(1, 2), (997, 998), (1234, 3999)]:
        rounded = [Fraction(round(frame / rate * 1000), 1000) for frame in (first, stop)]
        assert spans(annotate(line, file((*rounded, "a")))) == [(first, stop)]


def test_variable_frame_rate_goes_by_pts():
    line = Timeline(np.array([0, 10, 100, 110, 500]), 540, Fraction(1, 1000))
    assert spans(annotate(line, file((0.1, 0.5, "a")))) == [(2, 4)]


def test_a_caption_may_outlast_the_video_a_little():
    assert spans(annotate(timeline(), file((1, 2.4, "a")))) == [(25, 50)]


def test_captions_in_frames_are_taken_as_they_are():
    caption = Caption("caption 1", "a", start_frame=3, end_frame=9)
    assert spans(annotate(timeline(), CaptionFile(Path("a.json"), (caption,), MILLISECOND))) == [(3, 9)]


def test_confirmed_empty_captions_show_nothing_and_untranscribed_ones_do():
    states = annotate(timeline(), file((0, 0.4, ""), (0.8, 1.2, None))).states
    assert (states[:10] == EMPTY).all()
    assert (states[20:30] == 1).all()


def test_stretches_nobody_looked_at_are_unknown_not_empty():
    states = annotate(timeline(), file((0.8, 1.2, "a"), annotated=((Fraction(0), Fraction(1, 2)),))).states
    assert (states[:13] == EMPTY).all()
    assert (states[13:20] == UNKNOWN).all()
    assert (states[20:30] == 0).all()


BAD = [
    ([(0.4, 0.4, "a")], "no length"),
    ([(0.8, 0.4, "a")], "no length"),
    ([(0.41, 0.43, "a")], "no length"),
    ([(0.4, 0.8, "a"), (0.6, 1.0, "b")], "cue 1 and cue 2 overlap"),
    ([(0.2, 1.8, "a"), (0.3, 0.4, "b"), (0.6, 0.7, "c")], "cue 1 and cue 3 overlap"),
    ([(5, 6, "a")], "beyond the video's end at 2.000 s"),
    ([(1, 6, "a")], "beyond the video's end at 2.000 s"),
]


@pytest.mark.parametrize(("captions", "complaint"), BAD)
def test_captions_that_cannot_be_true_are_refused_by_name(captions, complaint):
    with pytest.raises(InputError, match="--skip-bad-captions") as caught:
        annotate(timeline(), file(*captions))
    assert complaint in str(caught.value)


def test_all_bad_captions_are_listed_at_once():
    with pytest.raises(InputError) as caught:
        annotate(timeline(), file((0.4, 0.4, "a"), (5, 6, "b")))
    assert "cue 1" in str(caught.value)
    assert "cue 2" in str(caught.value)


def test_frames_beyond_the_end_are_refused_too():
    caption = Caption("caption 1", "a", start_frame=60, end_frame=70)
    with pytest.raises(InputError, match="beyond the video's end"):
        annotate(timeline(), CaptionFile(Path("a.json"), (caption,), MILLISECOND))


@pytest.mark.parametrize(("captions", "complaint"), BAD)
def test_skipped_captions_leave_their_stretch_unknown(captions, complaint):
    annotation = annotate(timeline(), file(*captions), skip_bad=True)
    assert annotation.captions == []
    assert any("left out" in message for message in annotation.messages)
    start, end = (min(int(Fraction(str(time)) * 25), 50) for time in captions[0][:2])
    assert (annotation.states[min(start, end) : max(start, end)] == UNKNOWN).all()


def test_around_a_caption_without_length_nothing_is_known():
    states = annotate(timeline(), file((1, 1, "a")), skip_bad=True).states
    assert np.flatnonzero(states == UNKNOWN).tolist() == list(range(50))


def test_good_captions_stay_when_bad_ones_are_skipped():
    assert spans(annotate(timeline(), file((0.4, 0.8, "a"), (5, 6, "b")), skip_bad=True)) == [(10, 20)]


def test_a_truncated_video_uses_the_captions_of_its_decoded_part():
    annotation = annotate(timeline(truncated=True), file((1, 6, "a"), (7, 8, "b")))
    assert spans(annotation) == [(25, 50)]
    assert annotation.messages == ["1 captions lie in the part that could not be decoded"]
