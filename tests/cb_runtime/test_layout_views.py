"""Promises about the boxes in which captions may be scored."""

from dataclasses import replace

import pytest
from fake_text import HEIGHT, INFO, LINE, WIDTH, WIDTHS, contains, detected, line

from cb_runtime.geometry import Box
from cb_runtime.layout import layout_from_region, views


def test_the_first_is_close_around_the_text_and_the_last_is_the_region():
    lines = [line(width) for width in WIDTHS]
    layout = detected([[box] for box in lines])
    close, region = views(layout)
    assert region == layout.region
    assert contains(close, lines, margin=2)
    assert contains(region, [close])
    assert close.height <= 1.2 * LINE
    assert close.width <= max(WIDTHS) + LINE


def test_a_region_given_by_hand_is_the_only_one():
    region = Box(0, 600, WIDTH, 720)
    assert views(layout_from_region(INFO, region)) == (region,)


def test_a_region_that_is_close_already_is_the_only_one():
    box = line(900)
    layout = replace(detected([[line(width)] for width in WIDTHS]), region=box, boxes=(box, box, box))
    assert views(layout) == (box,)


@pytest.mark.parametrize(
    ("anchor", "grows"), [("left", (False, True)), ("center", (True, True)), ("right", (True, False))]
)
def test_little_text_leaves_room_away_from_the_anchor(anchor, grows):
    box = line(300, anchor=anchor)
    layout = replace(detected([[box]]), anchor=anchor, region=Box(0, 600, WIDTH, 680))
    close = views(layout)[0]
    assert (box.left - close.left > LINE, close.right - box.right > LINE) == grows


def test_text_outside_the_region_and_shapes_beside_the_text_do_not_widen_it():
    lines = [line(width) for width in WIDTHS]
    shape = Box(600, 600, 690, 690)
    layout = detected([[Box(100, 330, 1100, 370), box] for box in lines] + [[shape]])
    assert shape in layout.boxes
    close = views(layout)[0]
    assert close.height <= 1.2 * LINE
    assert close.inside(WIDTH, HEIGHT)
