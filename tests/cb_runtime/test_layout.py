"""Promises about finding the caption region and its anchor, and about layouts given by hand."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fake_text import (
    HEIGHT,
    INFO,
    LINE,
    LOGO,
    WIDTH,
    WIDTHS,
    FakeDetector,
    FakeSource,
    contains,
    detected,
    line,
)

from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.layout import (
    CaptionLayout,
    OtherRegion,
    caption_layout,
    detect_layout,
    layout_from_boxes,
    layout_from_dict,
    layout_from_file,
    layout_from_region,
    region_from_text,
)

STORED = CaptionLayout(WIDTH, HEIGHT, Box(200, 600, 1080, 700), "left", (Box(300, 620, 500, 660),), 3, "ocr", "e", "1")


@pytest.mark.parametrize("bottom", [110, 660, 700])
@pytest.mark.parametrize("anchor", ["left", "center", "right"])
def test_the_anchor_is_the_side_that_stays_while_captions_change(anchor, bottom):
    lines = [line(width, anchor=anchor, bottom=bottom) for width in WIDTHS]
    layout = detected([[], *[[box] for box in lines], []])
    assert layout.anchor == anchor
    assert contains(layout.region, lines, margin=2)
    assert layout.region.height <= 1.5 * LINE


def test_a_centred_region_is_symmetric_and_leaves_room_for_wider_captions():
    layout = detected([[line(width)] for width in WIDTHS])
    assert abs(layout.region.left + layout.region.right - WIDTH) <= 2
    assert 7 / 6 * max(WIDTHS) <= layout.region.width <= 7 / 6 * max(WIDTHS) + LINE


def test_a_region_of_few_captions_has_room_for_a_full_line():
    layout = detected([[line(width)] for width in (90, 200, 300)])
    assert layout.region.width >= 0.7 * WIDTH
    # Four say enough of how wide captions are.
    assert detected([[line(width)] for width in (90, 200, 300, 400)]).region.width <= 0.45 * WIDTH


def test_every_line_seen_is_inside_also_when_only_one_sample_shows_two():
    two = [line(600, bottom=612), line(400)]
    layout = detected([[line(300)], [line(500)], two, [line(200)], []])
    assert contains(layout.region, two, margin=2)
    assert layout.region.height <= 2 * LINE + 8 + 0.5 * LINE


def test_a_short_line_of_a_dialogue_in_line_with_its_other_line_is_kept():
    dialogue = [Box(400, 572, 880, 612), Box(400, 620, 520, 660)]
    layout = detected([[line(300)], [line(500)], [line(420)], dialogue])
    assert contains(layout.region, dialogue, margin=2)


def test_words_found_apart_make_one_line():
    words = [Box(340, 620, 600, 660), Box(620, 620, 940, 660)]
    layout = detected([words, [line(300)], [line(520)]])
    assert layout.anchor == "center"
    assert contains(layout.region, words)


@pytest.mark.parametrize("corner", [LOGO, Box(50, 640, 190, 680), Box(60, 30, 200, 70)])
def test_logos_and_clocks_are_not_captions(corner):
    clock = [Box(corner.left + n % 3, corner.top, corner.right - n % 2, corner.bottom) for n in range(12)]
    assert detected([[box] for box in clock]) is None
    captions = {2: line(300), 5: line(640), 9: line(200)}
    layout = detected([[clock[n], *([captions[n]] if n in captions else [])] for n in range(12)])
    assert contains(layout.region, captions.values(), margin=2)
    assert layout.region.height <= 1.5 * LINE


def test_a_ticker_below_the_captions_is_not_part_of_the_region():
    def ticker(n):
        return [Box(0, 672, 200 + 10 * n, 712), Box(240 + 10 * n, 672, 900, 712), Box(930, 672, WIDTH, 712)]

    captions = [line(width, bottom=650) for width in WIDTHS]
    layout = detected([[*ticker(n), caption] for n, caption in enumerate(captions)])
    assert contains(layout.region, captions, margin=2)
    assert layout.region.bottom < 672
    assert detected([ticker(n) for n in range(6)]) is None


def test_a_short_ticker_that_crosses_the_frame_is_not_a_caption():
    places = [(0, 200), (60, 360), (300, 600), (540, 840), (780, 1080), (1010, WIDTH)]
    assert detected([[Box(left, 672, right, 712)] for left, right in places]) is None


def test_a_clock_at_the_edge_does_not_hide_captions_at_its_height():
    clock = Box(0, 30, 200, 66)
    captions = [line(width, anchor="right", bottom=70) for width in WIDTHS]
    layout = detected([[clock, caption] for caption in captions])
    assert layout.anchor == "right"
    assert contains(layout.region, captions, margin=2)


def test_a_shape_as_tall_as_the_frame_is_not_a_caption():
    shapes = [Box(200 + 7 * n, 10, 900 - 11 * n, 700 - n) for n in range(9)]
    assert detected([[shape] for shape in shapes]) is None


def test_scene_text_and_a_standing_title_do_not_move_the_region():
    scene = [Box(100 + 90 * n, 80 + 61 * n, 300 + 97 * n, 110 + 70 * n) for n in range(8)]
    title = Box(400, 330, 880, 390)
    captions = [line(width) for width in WIDTHS[:4]]
    layout = detected([[scene[n], title, *captions[n // 2 : n // 2 + 1]] for n in range(8)])
    assert contains(layout.region, captions, margin=2)
    assert layout.region.height <= 1.6 * LINE


def test_scene_text_just_above_a_caption_does_not_make_the_region_tall():
    layout = detected([[line(width)] for width in WIDTHS] + [[Box(150, 575, 500, 612), line(440)]])
    assert layout.region.top > 575


def test_one_caption_that_lasts_through_the_whole_video_is_found():
    layout = detected([[line(420)]] * 12)
    assert contains(layout.region, [line(420)], margin=2)
    assert layout.anchor == "center"


def test_a_region_at_the_edge_stays_inside_the_frame():
    layout = detected([[line(width, bottom=718)] for width in (900, 1200, 1250)])
    assert layout.region.inside(WIDTH, HEIGHT)
    assert layout.region.bottom == HEIGHT


def test_tiny_text_gets_a_region_of_the_least_height():
    layout = detected([[line(width, height=12)] for width in WIDTHS])
    assert layout.region.height >= 0.04 * HEIGHT - 1


def test_frames_without_text_and_a_video_without_frames_give_no_layout():
    assert detected([[], [], []]) is None
    assert detected([]) is None


def test_all_boxes_seen_are_kept_with_the_engine_that_found_them():
    steps = []
    seen = [[LOGO, line(300)], [LOGO], [LOGO, line(500)]]
    layout = detect_layout(
        FakeSource(3), samples=3, detector=FakeDetector(seen), progress=lambda *step: steps.append(step)
    )
    assert layout.boxes == (LOGO, line(300), LOGO, LOGO, line(500))
    assert (layout.samples, layout.origin, layout.ocr_engine, layout.ocr_engine_version) == (3, "ocr", "fake", "1.0")
    assert steps == [("layout", 1, 3), ("layout", 2, 3), ("layout", 3, 3)]


def test_rapidocr_finds_the_captions_of_a_noisy_video_with_logo_and_clock():
    pytest.importorskip("rapidocr")
    rng = np.random.default_rng(0)
    images = []
    for number, text in enumerate(["", "Where have you been?", "I was looking for you\nall night long", "", "No."]):
        noise = rng.integers(0, 200, (18, 32, 3), dtype=np.uint8)
        image = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        cv2.putText(image, f"12:4{number}", (60, 60), 0, 1.2, (255, 255, 0), 3, cv2.LINE_AA)
        cv2.putText(image, "CH 5", (1120, 60), 0, 1.2, (255, 255, 0), 3, cv2.LINE_AA)
        for row, words in enumerate(reversed(text.split("\n"))):
            (width, _), _ = cv2.getTextSize(words, 0, 1.2, 2)
            for colour, thickness in (((0, 0, 0), 8), ((255, 255, 255), 2)):
                place = ((WIDTH - width) // 2, 660 - 50 * row)
                cv2.putText(image, words, place, 0, 1.2, colour, thickness, cv2.LINE_AA)
        images.append(image)
    layout = detect_layout(FakeSource(images=images))
    assert (layout.anchor, layout.ocr_engine) == ("center", "rapidocr")
    assert 550 <= layout.region.top <= 585
    assert 665 <= layout.region.bottom <= 695


def test_a_region_is_read_in_pixels_or_in_fractions_of_the_frame():
    assert region_from_text("10, 500,1270,700", WIDTH, HEIGHT) == Box(10, 500, 1270, 700)
    assert region_from_text("0.1,0.75,0.9,1", WIDTH, HEIGHT) == Box(128, 540, 1152, 720)
    assert region_from_text("0,0,1,1", WIDTH, HEIGHT) == Box(0, 0, 1, 1)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,x", "1,2,3,4,5", "nan,0,1,1", "0,0,inf,1"])
def test_a_region_that_is_not_four_numbers_is_refused(text):
    with pytest.raises(UsageError, match="--region must be LEFT,TOP,RIGHT,BOTTOM"):
        region_from_text(text, WIDTH, HEIGHT)


def test_a_region_outside_the_frame_or_without_area_is_refused():
    with pytest.raises(UsageError, match="outside the frame of 1280 x 720"):
        region_from_text("0,0,1281,700", WIDTH, HEIGHT)
    with pytest.raises(UsageError, match="left < right"):
        region_from_text("500,0,500,700", WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("region", "anchor"),
    [(Box(140, 600, 1140, 700), "center"), (Box(0, 600, 600, 700), "left"), (Box(700, 600, 1280, 700), "right")],
)
def test_a_region_given_by_hand_needs_no_ocr_and_is_anchored_by_its_place(region, anchor):
    layout = layout_from_region(INFO, region)
    assert (layout.region, layout.anchor, layout.boxes, layout.samples) == (region, anchor, (), 0)
    assert (layout.origin, layout.ocr_engine) == ("region", None)


def test_boxes_of_the_user_give_the_layout_that_detection_would():
    seen = [[LOGO, line(300)], [LOGO], [LOGO, line(600, bottom=612), line(500)]]
    expected = detected(seen)
    layout = layout_from_boxes(INFO, [box for sample in seen for box in sample], 3)
    assert layout == replace(expected, origin="boxes", ocr_engine=None, ocr_engine_version=None)


@pytest.mark.parametrize("boxes", [[], [LOGO] * 5])
def test_boxes_of_which_none_is_a_caption_are_refused(boxes):
    with pytest.raises(InputError, match=rf"None of the {len(boxes)} text boxes.*--region"):
        layout_from_boxes(INFO, boxes, 5)


def test_a_layout_survives_json():
    layout = replace(STORED, other_regions=(OtherRegion(Box(0, 0, 90, 30), 0.25, "a logo"),))
    assert layout_from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


def test_a_layout_stored_before_other_regions_were_is_read():
    values = STORED.to_dict()
    del values["other_regions"]
    assert layout_from_dict(values) == STORED


@pytest.mark.parametrize(("score", "reason"), [(1.5, "wide"), (-0.1, "wide"), ("high", "wide"), (0.5, None)])
def test_another_region_without_a_score_or_a_reason_is_refused(score, reason):
    with pytest.raises(InputError, match=r"another region|not chosen"):
        OtherRegion(LOGO, score, reason)


@pytest.mark.parametrize(
    "change",
    [
        {"region": None},
        {"region": [1, 2, 3]},
        {"region": [9, 9, 3, 3]},
        {"unknown": 1},
        {"samples": "3"},
        {"boxes": 7},
        {"boxes": [[1]]},
        {"boxes": [[0, 0, 1e999, 9]]},
        {"other_regions": 7},
        {"other_regions": [{"region": [0, 0, 9, 9]}]},
    ],
)
def test_a_malformed_layout_is_refused(change):
    with pytest.raises(InputError, match=r"malformed|Box 0 must be|'boxes' must be"):
        layout_from_dict(STORED.to_dict() | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchor": "top"}, "anchor must be one of left, center, right, got 'top'"),
        ({"origin": "guess"}, "origin must be one of"),
        ({"region": Box(0, 0, 1281, 20)}, "outside the frame of 1280 x 720"),
        ({"boxes": (Box(0, 0, 20, 721),)}, "outside the frame of 1280 x 720"),
        ({"other_regions": (OtherRegion(Box(0, 0, 20, 721), 0.1, "a logo"),)}, "outside the frame of 1280 x 720"),
        ({"samples": 0}, "'samples' of at least 1, got 0"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(STORED, **change)


def written(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_a_layout_file_may_hold_a_whole_layout_or_boxes_or_a_region(tmp_path):
    path = tmp_path / "layout.json"
    assert layout_from_file(written(path, STORED.to_dict()), INFO) == STORED
    boxes = [list(line(width).as_tuple()) for width in WIDTHS]
    layout = layout_from_file(written(path, {"boxes": boxes, "samples": 8}), INFO)
    assert layout == layout_from_boxes(INFO, [line(width) for width in WIDTHS], 8)
    given = layout_from_file(written(path, {"boxes": boxes, "samples": 8, "region": [0, 600, 1280, 720]}), INFO)
    assert given == replace(layout, region=Box(0, 600, 1280, 720), anchor="center")
    assert layout_from_file(written(path, {"region": [0, 600, 1280, 720]}), INFO) == layout_from_region(
        INFO, Box(0, 600, 1280, 720)
    )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("not json", "cannot be read as JSON"),
        ("[1, 2]", "Expected an object with 'boxes' or 'region'"),
        ("{}", "Expected an object with 'boxes' or 'region'"),
        ({"boxes": [[1, 2, 3, "x"]]}, r"Box 0 must be \[left, top, right, bottom\]"),
        ({"boxes": 3}, "'boxes' must be a list"),
        ({"boxes": [[1, 2, 3, 4]], "samples": "many"}, "'samples' must be a whole number"),
        ({"boxes": [], "samples": 3}, "None of the 0 text boxes"),
        ({"boxes": [[0, 0, 5000, 20]], "region": [0, 0, 10, 10]}, "outside the frame"),
        (replace(STORED, frame_width=1920).to_dict(), "for frames of 1920 x 720 pixels, film.mp4 has 1280 x 720"),
    ],
)
def test_a_layout_file_that_gives_no_layout_of_this_video_is_refused_by_name(tmp_path, document, message):
    with pytest.raises(InputError, match=message) as caught:
        layout_from_file(written(tmp_path / "given.json", document), INFO)
    assert "given.json" in str(caught.value)


def test_a_missing_layout_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"none\.json cannot be read.*--region"):
        layout_from_file(tmp_path / "none.json", INFO)


def test_a_region_or_a_file_replaces_detection_and_both_together_are_refused(tmp_path):
    path = written(tmp_path / "layout.json", STORED.to_dict())
    source = FakeSource()
    assert caption_layout(source, region="0,0.8,1,1.0").region == Box(0, 576, 1280, 720)
    assert caption_layout(source, layout_file=path) == STORED
    with pytest.raises(UsageError, match="either --region or --layout"):
        caption_layout(source, region="0,0,9,9", layout_file=path)


def test_a_source_that_stores_its_layout_is_not_looked_at_again_and_another_is():
    for layout in (STORED, None):
        stored = FakeSource()
        stored.layout = layout
        assert caption_layout(stored, detector=FakeDetector([[line(300)]] * 12)) == layout
    seen = [[line(300)], [line(500)]]
    assert caption_layout(FakeSource(2), detector=FakeDetector(seen)) == detected(seen)
