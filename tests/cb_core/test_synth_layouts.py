import json

import numpy as np
import pytest

from cb_core.synth.layouts import layout_document, write_layouts

TRUTH = {
    "schema": 1,
    "width": 640,
    "height": 120,
    "frames": 100,
    "region": [200, 40, 440, 80],
    "captions": [{"region": [200, 40, 440, 80], "text": "two\nlines", "start_frame": 10, "end_frame": 90}],
    "details": {"style": {"size": 20}},
}


def layouts(truth, count=60):
    return [layout_document(truth, np.random.default_rng(seed)) for seed in range(count)]


def test_regions_hold_the_captions_and_are_tight_and_loose():
    regions = np.array([layout["region"] for layout in layouts(TRUTH)])
    assert (regions[:, :2] <= [200, 40]).all()
    assert (regions[:, 2:] >= [440, 80]).all()
    heights = regions[:, 3] - regions[:, 1]
    assert heights.min() < 50 < 70 < heights.max()


def test_boxes_lie_around_lines_inside_the_frame_and_some_layouts_have_none():
    found = layouts(TRUTH)
    with_boxes = [layout for layout in found if "boxes" in layout]
    assert 0 < len(with_boxes) < len(found)
    boxes = np.array([box for layout in with_boxes for box in layout["boxes"]])
    assert boxes.min() >= 0
    assert boxes[:, 2:].max(axis=0).tolist() <= [640, 120]
    heights = boxes[:, 3] - boxes[:, 1]
    assert np.median(heights) == pytest.approx(20, abs=4), "one box for each of the two lines"


def test_a_video_without_captions_has_a_region_all_the_same():
    for layout in layouts({**TRUTH, "region": None, "captions": []}):
        left, top, right, bottom = layout["region"]
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 120


def test_layouts_are_written_beside_the_truth_and_repeat_with_the_seed(tmp_path):
    (tmp_path / "video_0000.truth.json").write_text(json.dumps(TRUTH))
    (place,) = write_layouts(tmp_path, 5)
    assert place == tmp_path / "video_0000.layout.json"
    first = place.read_text()
    write_layouts(tmp_path, 5)
    assert place.read_text() == first
    write_layouts(tmp_path, 6)
    assert place.read_text() != first
