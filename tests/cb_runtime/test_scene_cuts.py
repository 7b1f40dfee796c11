"""What stays where the picture cuts is a caption: its strokes tell one caption from two."""

import numpy as np
import pytest
from captioned_strips import SHAPE, moving_background, strip_with

from cb_runtime.confirmation import joined_over_cuts
from cb_runtime.scene_cuts import STAY, SceneCuts, is_cut, strokes_alike
from cb_runtime.trellis import Path

BRIGHT, DARK = 235, 12
WHAT, OVER_THERE = 1, 3


@pytest.mark.parametrize(("before", "after"), [(BRIGHT, DARK), (DARK, BRIGHT), (120, DARK)])
def test_one_caption_stays_over_a_cut_and_two_do_not(before, after):
    assert strokes_alike(strip_with(WHAT, before), strip_with(WHAT, after)) >= STAY
    assert strokes_alike(strip_with(WHAT, before), strip_with(OVER_THERE, after)) < 0.75 * STAY


def test_dark_text_stays_too():
    before, after = (255 - strip_with(WHAT, background) for background in (BRIGHT, 120))
    assert strokes_alike(before, after) >= STAY


def test_pictures_without_strokes_are_not_alike():
    plain = [np.full(SHAPE, level, np.uint8) for level in (BRIGHT, DARK)]
    assert strokes_alike(*plain) == 0
    assert strokes_alike(plain[0], strip_with(WHAT, DARK)) == 0


def test_a_cut_changes_most_of_the_picture():
    assert is_cut(strip_with(WHAT, BRIGHT), strip_with(WHAT, DARK))
    assert not is_cut(strip_with(WHAT, 90), strip_with(OVER_THERE, 90)), "a caption alone changes"
    assert not is_cut(strip_with(WHAT, 90), strip_with(WHAT, 110)), "light"
    assert not is_cut(moving_background(0), moving_background(1))
    half = np.full(SHAPE, DARK, np.uint8)
    half[:, : SHAPE[1] // 2] = BRIGHT
    assert not is_cut(half, np.full(SHAPE, DARK, np.uint8)), "half the picture changes a lot"


def test_cuts_are_noted_by_their_frame_even_where_a_buffer_is_used_again():
    cuts, buffer = SceneCuts(), np.empty(SHAPE, np.uint8)
    for caption, background in ((WHAT, BRIGHT), (WHAT, BRIGHT), (WHAT, DARK), (WHAT, DARK), (OVER_THERE, BRIGHT)):
        buffer[...] = strip_with(caption, background)
        cuts.add(buffer)
    assert sorted(cuts.staying) == [2, 4]
    assert cuts.staying[2] >= STAY > cuts.staying[4]


@pytest.mark.parametrize(
    ("staying", "wanted"),
    [
        ({}, [(5, 10), (10, 20), (22, 30)]),
        ({10: STAY}, [(5, 20), (22, 30)]),
        ({10: STAY - 0.01}, [(5, 10), (10, 20), (22, 30)]),
        ({20: 1.0, 22: 1.0, 15: 1.0}, [(5, 10), (10, 20), (22, 30)]),
    ],
)
def test_only_captions_that_meet_at_the_cut_are_joined(staying, wanted):
    path = joined_over_cuts(Path([5, 10, 22], [10, 20, 30]), staying)
    assert list(zip(path.starts, path.ends, strict=True)) == wanted


def test_a_caption_over_many_cuts_is_one():
    path = joined_over_cuts(Path([0, 5, 9], [5, 9, 20]), {5: 0.9, 9: 0.8})
    assert (path.starts, path.ends) == ([0], [20])
