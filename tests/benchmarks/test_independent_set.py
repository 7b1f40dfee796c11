"""The independent test set: its truth is measured, proven on the encoded video, and read by our own evaluation."""

import dataclasses
import itertools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import proof
import pytest
from captions import Event, write_captions
from ffmpeg import ffmpeg_missing
from measure import measure_captions
from plan import plan_videos
from render import is_done, render_video
from sources import Library
from subtitles import check_fonts
from texts import SCRIPTS, one_character_edit

from cb_core.evaluation import boundaries_from_truth
from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box

FONTS = Path("/usr/share/fonts/truetype/dejavu")
REASON = ffmpeg_missing() or (None if FONTS.exists() else "DejaVu is missing: apt-get install -y fonts-dejavu-core")
needs_ffmpeg = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def tiny_plan(**cards):
    plan = next(plan for plan in plan_videos(12, 4.0, 3) if plan.captioned)
    plain = {"script": "latin", "style": "outline", "background": "generated", "distractor": "none", "codec": "h264"}
    plain |= {"timing": "constant", "karaoke": "no", "frame_rate": "25", "position": "bottom", "transition": "cut"}
    encoding = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "24")
    return dataclasses.replace(
        plan,
        cards={**plan.cards, **plain, **cards},
        size=(320, 240),
        rate=Fraction(25),
        font="DejaVu Sans",
        font_size=24,
        encoding=encoding,
        suffix=".mp4",
    )


def tiny_library():
    return Library((), (), (), FONTS)


@needs_ffmpeg
def test_an_event_from_one_to_two_seconds_is_on_frames_25_to_49(tmp_path):
    (shown,), frames = measure_captions(tiny_plan(), [Event(100, 200, "Hello")], FONTS, "null", tmp_path)
    assert (shown.first_frame, shown.start_frame, shown.last_frame, shown.end_frame) == (25, 25, 49, 50)
    assert shown.fade_in is None
    assert shown.fade_out is None
    assert frames == 100
    assert shown.region.inside(320, 240)


@needs_ffmpeg
def test_a_fade_starts_one_frame_late_and_its_boundary_is_at_half_opacity(tmp_path):
    faded = Event(100, 300, "Hello", fade_in=400, fade_out=400)
    (shown,), _ = measure_captions(tiny_plan(), [faded], FONTS, "null", tmp_path)
    # Opacity is 0 at the nominal start (frame 25) and end (frame 75), 1 ten frames away from them.
    assert (shown.first_frame, shown.last_frame) == (26, 74)
    assert shown.fade_in == (26, 35)
    assert shown.fade_out == (66, 75)
    assert (shown.start_frame, shown.end_frame) == (30, 71)


@needs_ffmpeg
def test_captions_without_a_gap_share_a_boundary_and_dropped_frames_are_not_counted(tmp_path):
    events = [Event(100, 200, "Hello"), Event(200, 300, "Hellu")]
    shown, frames = measure_captions(tiny_plan(), events, FONTS, "select='gte(n,10)'", tmp_path)
    assert [(caption.start_frame, caption.end_frame) for caption in shown] == [(15, 40), (40, 65)]
    assert frames == 90


@needs_ffmpeg
def test_a_font_that_libass_would_substitute_is_an_error(tmp_path):
    plan = dataclasses.replace(tiny_plan(), font="No Such Family")
    with pytest.raises(InputError, match=r"libass took .* for 'No Such Family'"):
        measure_captions(plan, [Event(100, 200, "Hello")], FONTS, "null", tmp_path)


@needs_ffmpeg
@pytest.mark.parametrize("timing", ["constant", "dropped", "stretches", "jitter"])
def test_a_rendered_video_shows_its_captions_where_its_truth_says_and_our_evaluation_reads_it(tmp_path, timing):
    plan = tiny_plan(timing=timing)
    files = render_video(plan, tiny_library(), tmp_path)
    truth = json.loads(files.truth.read_text())
    boundaries, frames = boundaries_from_truth(files.truth)
    assert frames == truth["frames"] == len(truth["opacity"])
    assert len(boundaries) >= 2
    # Decoding the video found every cut on its true frame: render_video raises otherwise, and counts what it checked.
    assert truth["details"]["proof"]["agreeing"] > 0
    assert truth["details"]["slices"]["vfr"] is (timing != "constant")
    assert is_done(plan, tmp_path)
    with pytest.raises(UsageError, match="rendered with other settings"):
        is_done(dataclasses.replace(plan, colour=(1, 2, 3)), tmp_path)


@needs_ffmpeg
def test_a_truth_that_is_one_frame_off_is_caught(tmp_path):
    plan = tiny_plan()
    video = render_video(plan, tiny_library(), tmp_path).video
    shown, _ = measure_captions(plan, write_captions(plan), FONTS, "null", tmp_path)
    region = Box(0, 0, *plan.size)
    assert not proof.prove(video, region, shown).disagreeing
    late = [dataclasses.replace(caption, first_frame=caption.first_frame + 1) for caption in shown]
    caught = proof.prove(video, region, late).disagreeing
    assert caught
    assert all(found == true - 1 for true, found in caught)


def test_every_kind_of_every_property_is_dealt_and_a_seed_gives_the_same_set():
    plans = plan_videos(48, 25.0, 1)
    assert plans == plan_videos(48, 25.0, 1)
    assert plans != plan_videos(48, 25.0, 2)
    assert {plan.cards["script"] for plan in plans} == set(SCRIPTS)
    assert {plan.cards["distractor"] for plan in plans} == {"none", "logo", "clock", "ticker"}
    assert sum(not plan.captioned for plan in plans) == 4
    assert all(set(plan.slices().values()) >= {"none"} for plan in plans if not plan.captioned)


def test_a_set_has_hundreds_of_boundaries_with_all_hard_kinds():
    plans = plan_videos(48, 25.0, 1)
    scripts = [write_captions(plan) for plan in plans]
    events = [event for script in scripts for event in script]
    gaps = [after.start - before.end for script in scripts for before, after in itertools.pairwise(script)]
    assert 2 * len(events) - gaps.count(0) >= 800
    assert sum(event.near_identical for event in events) >= 20
    assert any(event.fade_in for event in events)
    assert min(gaps) == 0
    assert all(event.end - event.start >= 12 for event in events)


@pytest.mark.parametrize("name", SCRIPTS)
def test_near_identical_captions_differ_by_one_character(name):
    rng = np.random.default_rng(0)
    for sentence in SCRIPTS[name].sentences:
        changed = one_character_edit(rng, SCRIPTS[name], sentence)
        if changed is not None:
            assert len(changed) == len(sentence)
            assert sum(a != b for a, b in zip(sentence, changed, strict=True)) == 1


@pytest.mark.parametrize("place", ["", "/usr/share/fonts/noto/NotoSans-Regular.ttf, 0, "])
def test_a_font_is_known_by_its_name_wherever_libass_found_it(place):
    line = "[Parsed_ass_0 @ 0x1] fontselect: ({}, 400, 0) -> " + place + "NotoSans-Regular"
    check_fonts(line.format("Noto Sans"), "Noto Sans")
    with pytest.raises(InputError, match=r"libass took .*NotoSans-Regular for 'Lato'"):
        check_fonts(line.format("Lato"), "Lato")
