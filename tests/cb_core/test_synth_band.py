"""Bands: the rows around the captions, for training."""

from fractions import Fraction

import pytest

from cb_core.synth.backgrounds import plan_stretches
from cb_core.synth.plan import SynthOptions, generator_for, plan_video
from cb_core.synth.render import CaptionPainter, draw_frames, render_video
from cb_core.synth.script import PACES
from cb_core.synth.truth import read_truth
from cb_runtime.errors import UsageError

SIZE = (480, 360)


def plans(count, seconds=3, **options):
    return [plan_video(SynthOptions(seconds, 5, SIZE, Fraction(25), **options), index) for index in range(count)]


def test_a_band_shows_the_same_rows_as_the_whole_frame_would():
    plan = next(plan for plan in plans(8, band=True, pace="fast") if plan.events)
    top, bottom = plan.rows
    assert bottom - top < SIZE[1] / 2
    frames = list(draw_frames(plan, CaptionPainter(plan)))
    assert {frame.shape for frame in frames} == {(bottom - top, SIZE[0], 3)}
    assert (bottom - top) % 2 == 0


def test_captions_lie_inside_the_band_in_its_coordinates(tmp_path):
    plan = next(plan for plan in plans(8, band=True, pace="fast") if plan.events)
    truth = read_truth(render_video(plan, tmp_path).truth)
    assert truth["height"] == plan.rendered_size[1]
    for caption in truth["captions"]:
        left, top, right, bottom = caption["region"]
        assert 0 <= left < right <= truth["width"]
        assert 0 <= top < bottom <= truth["height"]


def test_the_fast_pace_has_more_boundaries_and_some_videos_without_captions():
    fast, normal = plans(40, seconds=10, pace="fast"), plans(40, seconds=10)
    captions = [sum(len(plan.events) for plan in found) for found in (fast, normal)]
    assert captions[0] > 1.5 * captions[1]
    assert any(not plan.events for plan in fast)
    assert all(plan.events for plan in normal)


def test_the_restless_pace_cuts_often_inside_captions():
    def cuts_inside(pace):
        found = plans(40, seconds=10, pace=pace)
        rngs = [generator_for(plan.options, plan.index, "background") for plan in found]
        starts = [[event.start_frame for event in plan.events] for plan in found]
        stretches = [
            plan_stretches(rng, plan.timing, start, PACES[pace].cuts)
            for rng, plan, start in zip(rngs, found, starts, strict=True)
        ]
        inside = sum(
            event.start_frame < stretch.start < event.end_frame
            for plan, shots in zip(found, stretches, strict=True)
            for event in plan.events
            for stretch in shots[1:]
        )
        return inside / sum(len(plan.events) for plan in found)

    assert cuts_inside("fast") < 0.25 < 0.4 < cuts_inside("restless")


def test_a_video_without_captions_has_a_truth_without_a_region(tmp_path):
    plan = next(plan for plan in plans(40, band=True, pace="fast") if not plan.events)
    truth = read_truth(render_video(plan, tmp_path).truth)
    assert truth["region"] is None
    assert truth["captions"] == []
    assert set(truth["opacity"]) == {0.0}


def test_an_unknown_pace_is_refused():
    with pytest.raises(UsageError, match="normal, fast, restless"):
        SynthOptions(3, 0, pace="slow").check()
