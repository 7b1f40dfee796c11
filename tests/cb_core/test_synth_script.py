import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from cb_core.synth.fonts import built_in_face, find_fonts
from cb_core.synth.languages import LANGUAGES
from cb_core.synth.plan import SynthOptions, plan_video
from cb_core.synth.script import CaptionEvent
from cb_core.synth.style import pick_style
from cb_core.synth.text import Sentence, Writer
from cb_core.synth.typeset import Typesetter

SEEDS = range(24)


def plans(seconds, **options):
    return [plan_video(SynthOptions(seconds, seed, **options), 0) for seed in SEEDS]


@pytest.mark.parametrize("seconds", [1, 3, 10, 40])
def test_captions_lie_in_the_video_in_order_and_do_not_overlap(seconds):
    for plan in plans(seconds):
        assert plan.events
        end = 0
        for event in plan.events:
            assert end <= event.start_frame < event.end_frame <= plan.timing.frames
            assert event.first_frame >= 0
            assert event.last_frame < plan.timing.frames
            assert event.text.strip()
            end = event.end_frame


def test_the_boundary_is_where_the_opacity_crosses_one_half():
    for plan in plans(20):
        for event in plan.events:
            assert event.opacity(event.start_frame) >= 0.5 > event.opacity(event.start_frame - 1)
            assert event.opacity(event.end_frame - 1) >= 0.5 > event.opacity(event.end_frame)
            assert event.opacity(event.first_frame) > 0 == event.opacity(event.first_frame - 1)
            assert event.opacity(event.last_frame) > 0 == event.opacity(event.last_frame + 1)


def test_fade_intervals_hold_exactly_the_partly_visible_frames():
    event = CaptionEvent(("x",), 0, start_frame=10, end_frame=30, fade_in_frames=6, fade_out_frames=4)
    partly = [frame for frame in range(50) if 0 < event.opacity(frame) < 1]
    assert partly == [*range(*event.fade_in), *range(*event.fade_out)]
    assert CaptionEvent(("x",), 0, 10, 30).fade_in is None
    assert CaptionEvent(("x",), 0, 10, 30).fade_out is None


def test_ten_seconds_show_all_five_labels():
    for plan in plans(10):
        gaps = [after.start_frame - before.end_frame for before, after in pairwise(plan.events)]
        assert 0 in gaps, "no direct change from one caption to another"
        assert max(gaps) >= 2, "no empty stretch between captions"


def test_most_transitions_are_cuts_some_are_fades_and_many_have_no_gap():
    events = [plan.events for plan in plans(40)]
    fades = [event.fade_in is not None for video in events for event in video]
    gaps = [b.start_frame - a.end_frame for video in events for a, b in pairwise(video)]
    assert 0.08 < np.mean(fades) < 0.45
    assert 0.25 < np.mean(np.array(gaps) == 0) < 0.6
    assert 1 in gaps


def test_captions_without_a_gap_never_say_the_same():
    for plan in plans(40):
        assert all(a.text != b.text for a, b in pairwise(plan.events))


def test_near_identical_captions_differ_in_one_character():
    english = next(language for language in LANGUAGES if language.name == "english")
    writer = Writer(english, built_in_face())
    rng = np.random.default_rng(1)
    for _ in range(20):
        sentence = writer.sentence(rng, 5)
        other = writer.near_identical(rng, sentence)
        assert len(other.text) == len(sentence.text)
        assert sum(a != b for a, b in zip(other.text, sentence.text, strict=True)) == 1


def test_a_sentence_in_which_nothing_can_be_replaced_comes_back():
    writer = Writer(LANGUAGES[0], built_in_face())
    sentence = Sentence(("...",), " ")
    assert writer.near_identical(np.random.default_rng(0), sentence) == sentence


def test_where_letters_join_near_identical_captions_differ_in_one_word():
    arabic = next(language for language in LANGUAGES if language.name == "arabic")
    writer = Writer(arabic, built_in_face())
    sentence = Sentence(arabic.words[:4], " ")
    other = writer.near_identical(np.random.default_rng(0), sentence)
    assert sum(a != b for a, b in zip(sentence.pieces, other.pieces, strict=True)) == 1


def test_captions_show_letters_beyond_the_vocabulary():
    polish = next(language for language in LANGUAGES if language.name == "polish")
    writer, rng = Writer(polish, built_in_face()), np.random.default_rng(2)
    pieces = [piece.strip(",.?!-").lower() for _ in range(60) for piece in writer.sentence(rng, 6).pieces]
    known = {word.lower() for word in polish.words}
    invented = [piece for piece in pieces if piece.isalpha() and piece not in known]
    assert 0.1 < len(invented) / len(pieces) < 0.4


def test_most_captions_of_the_similar_pace_differ_in_one_character():
    pairs = [
        pair
        for plan in plans(12, pace="similar")
        for pair in pairwise(plan.events)
        if pair[0].end_frame + 2 >= pair[1].start_frame
    ]
    near = [
        len(a.text) == len(b.text) and sum(x != y for x, y in zip(a.text, b.text, strict=True)) == 1 for a, b in pairs
    ]
    assert np.mean(near) > 0.55


def test_half_of_the_videos_of_the_bare_pace_have_text_without_outline_and_box_beside_those_that_have_by_chance():
    def share(pace):
        styles = [plan.style for plan in plans(60, pace=pace)]
        return np.mean([style.outline == 0 and style.box == "none" for style in styles])

    assert share("restless") < 0.35
    assert 0.4 < share("bare") < 0.8


def test_signs_that_a_font_lacks_are_not_used():
    for seed in range(50):
        writer = Writer(LANGUAGES[0], built_in_face())
        assert "。" not in writer.sentence(np.random.default_rng(seed), 6).text


@pytest.mark.parametrize("size", [(96, 64), (320, 180), (128, 720), (1920, 1080)])
def test_captions_stay_inside_frames_of_any_shape(size):
    for seed in range(12):
        plan = plan_video(SynthOptions(3, seed, size, Fraction(25)), 0)
        setter = Typesetter(plan.style, *size)
        for event in plan.events:
            assert len(event.lines) <= plan.style.max_lines
            assert setter.sprite(event.lines, plan.style.colours[event.colour]).box.inside(*size)
            assert all(box.inside(*size) for box in setter.karaoke_boxes(event.lines))


def test_a_word_wider_than_the_frame_is_cut():
    style = pick_style(np.random.default_rng(0), find_fonts(), 96, 64)
    sentence, lines = Typesetter(style, 96, 64).fit(Sentence(("W" * 60,), " "))
    assert lines == (sentence.text,)
    assert 1 <= len(sentence.text) < 60


def test_styles_tell_what_they_are():
    style = pick_style(np.random.default_rng(0), find_fonts(), 640, 360)
    assert {"font", "language", "script", "size", "fades", "karaoke", "anchor"} <= style.to_dict().keys()


def test_looks_vary_from_video_to_video():
    styles = [plan.style for plan in plans(1)]
    assert len({style.face for style in styles}) > 1 or len(find_fonts()) == 1
    assert len({style.size for style in styles}) > 4
    assert {style.box for style in styles} >= {"none", "lines"}
    assert {style.top for style in styles} == {True, False}


def test_a_whole_number_of_seconds_is_the_same_setting_however_it_is_given():
    assert json.dumps(SynthOptions(10, 1).settings(0)) == json.dumps(SynthOptions(10.0, 1).settings(0))
