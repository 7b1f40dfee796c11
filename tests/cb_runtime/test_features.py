"""Promises about strips, the picture of OCR boxes and the vectors of a video."""

import cv2
import numpy as np
import pytest

from cb_runtime.contract import OCR_VIZ_VARIANTS, RESIZE_STRATEGIES, Preprocessing
from cb_runtime.errors import ContractError
from cb_runtime.features import no_font_embedding, ocr_viz, spatial_features, strip, video_inputs
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout

DEFAULT = Preprocessing()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


REGION = Box(140, 600, 1140, 700)


def layout(*boxes, region=REGION, anchor="center", samples=4):
    return CaptionLayout(1280, 720, region, anchor, boxes, samples, "boxes" if boxes else "region")


def corners_of(picture):
    rows, columns = np.nonzero(picture.any(axis=2))
    return rows.min(), rows.max(), columns.min(), columns.max()


def text_at(count):
    return layout(*[Box(500, 630, 800, 670)] * count)


@pytest.mark.parametrize("strategy", RESIZE_STRATEGIES)
@pytest.mark.parametrize("size", [(48, 480), (96, 960), (20, 900), (200, 150), (48, 1), (1, 1), (37, 1919), (500, 30)])
def test_a_strip_has_the_contract_shape_whatever_the_region(strategy, size):
    result = strip(noise(*size), Preprocessing(resize_strategy=strategy), "center")
    assert result.shape == (48, 480, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous


def test_a_region_of_strip_size_is_kept_as_it_is():
    image = noise(48, 480)
    np.testing.assert_array_equal(strip(image, DEFAULT, "center"), image)


def test_three_strategies_give_three_different_strips_of_a_wide_region():
    image = noise(48, 900)
    strips = [strip(image, Preprocessing(resize_strategy=name), "center").tobytes() for name in RESIZE_STRATEGIES]
    assert len(set(strips)) == 3


def test_mirror_tile_squeezes_a_wide_region_and_loses_nothing():
    image = np.zeros((48, 960, 3), np.uint8)
    image[:, :20] = image[:, -20:] = 255
    result = strip(image, DEFAULT, "center")
    assert (result[:, :10] == 255).all()
    assert (result[:, -10:] == 255).all()
    assert (result[:, 10:-10] == 0).all()


@pytest.mark.parametrize(("anchor", "start"), [("left", 0), ("center", 210), ("right", 420)])
def test_crop_keeps_what_is_around_the_anchor(anchor, start):
    image = noise(48, 900)
    result = strip(image, Preprocessing(resize_strategy="crop"), anchor)
    np.testing.assert_array_equal(result, image[:, start : start + 480])


def test_adaptive_squeezes_by_up_to_a_fifth_like_mirror_tile_and_crops_beyond():
    slightly, much = noise(48, 560), noise(48, 900)
    adaptive = Preprocessing(resize_strategy="adaptive")
    np.testing.assert_array_equal(strip(slightly, adaptive, "left"), strip(slightly, DEFAULT, "left"))
    squeezed = cv2.resize(much, (720, 48), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(strip(much, adaptive, "right"), squeezed[:, -480:])


@pytest.mark.parametrize("width", [479, 240, 100, 7])
def test_mirrored_tiles_are_continuous_at_their_seams(width):
    image = noise(48, width)
    result = strip(image, DEFAULT, "center")
    period = np.concatenate([image, image[:, ::-1]], axis=1)
    np.testing.assert_array_equal(result, period[:, np.arange(480) % (2 * width)])
    seams = range(width, 480, width)
    assert all((result[:, seam] == result[:, seam - 1]).all() for seam in seams)


def test_equal_regions_give_equal_bytes_also_when_cut_from_a_frame():
    frame = noise(360, 640)
    cut = frame[280:333, 41:600]
    assert strip(cut, DEFAULT, "center").tobytes() == strip(cut.copy(), DEFAULT, "center").tobytes()


def test_shrinking_averages_areas_also_when_the_other_axis_grows():
    stripes = np.zeros((24, 4800, 3), np.uint8)
    stripes[:, ::2] = 254
    assert (strip(stripes, DEFAULT, "center") == 127).all()


def test_resampling_changes_the_strip():
    image = noise(96, 1500)
    linear = strip(image, Preprocessing(resampling="linear"), "center")
    assert (linear != strip(image, DEFAULT, "center")).any()


@pytest.mark.parametrize("image", [noise(48, 90).astype(np.float32), noise(48, 90)[..., 0], noise(48, 0)])
def test_a_region_of_another_type_or_shape_is_refused(image):
    with pytest.raises(ContractError, match="must be uint8"):
        strip(image, DEFAULT, "center")


def test_an_unknown_anchor_is_refused():
    with pytest.raises(ContractError, match="anchor must be one of left, center, right, got 'top'"):
        strip(noise(48, 90), DEFAULT, "top")


@pytest.mark.parametrize(("anchor", "one_hot"), [("left", [1, 0, 0]), ("center", [0, 1, 0]), ("right", [0, 0, 1])])
def test_spatial_features_are_anchor_then_centres_and_width_relative_to_the_frame(anchor, one_hot):
    result = spatial_features(layout(region=Box(100, 540, 740, 684), anchor=anchor))
    expected = [*one_hot, (100 + 740) / 2 / 1280, (540 + 684) / 2 / 720, 640 / 1280]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.array(expected, np.float32))


def test_no_boxes_give_a_black_picture():
    for variant in OCR_VIZ_VARIANTS:
        assert not ocr_viz(layout(), DEFAULT, variant).any()
        assert not ocr_viz(layout(Box(0, 0, 90, 40)), DEFAULT, variant).any()


def test_the_four_variants_draw_four_different_pictures():
    seen = layout(Box(500, 630, 800, 670), Box(300, 610, 980, 645))
    pictures = {ocr_viz(seen, DEFAULT, variant).tobytes() for variant in OCR_VIZ_VARIANTS}
    assert len(pictures) == 4


@pytest.mark.parametrize("variant", OCR_VIZ_VARIANTS)
@pytest.mark.parametrize("box", [Box(500, 630, 800, 670), Box(141, 601, 151, 611), Box(0, 500, 1280, 720)])
def test_one_box_alone_is_visible(variant, box):
    picture = ocr_viz(layout(box, samples=12), DEFAULT, variant)
    assert picture[..., :2].max() >= 64


@pytest.mark.parametrize("variant", OCR_VIZ_VARIANTS)
def test_brightness_grows_with_how_often_text_was_there(variant):
    brightness = [int(ocr_viz(text_at(count), DEFAULT, variant)[..., 0].max()) for count in (1, 2, 3, 4)]
    assert brightness == sorted(set(brightness))
    assert brightness[-1] == 255


def test_three_channels_are_outlines_discs_and_distance_to_the_nearest_centre():
    seen = text_at(4)
    picture = ocr_viz(seen, DEFAULT, "3d_channels")
    np.testing.assert_array_equal(picture[..., 0], ocr_viz(seen, DEFAULT, "boundaries")[..., 0])
    np.testing.assert_array_equal(picture[..., 1], ocr_viz(seen, DEFAULT, "centers")[..., 1])
    distance = picture[24, :, 2].astype(int)
    centre = round((650 - 140) * 480 / 1000)
    assert distance[centre] <= 2
    assert distance[0] > distance[centre // 2] > distance[centre]
    assert (np.diff(distance[centre + 1 :]) >= 0).all()


def test_text_and_its_box_are_at_the_same_place_in_both_pictures():
    box = Box(300, 620, 700, 690)
    frame = np.zeros((720, 1280, 3), np.uint8)
    frame[box.top : box.bottom, box.left : box.right] = 255
    for strategy in RESIZE_STRATEGIES:
        preprocessing = Preprocessing(resize_strategy=strategy)
        text = strip(frame[600:700, 140:1140], preprocessing, "left")
        outline = ocr_viz(layout(box, anchor="left", samples=1), preprocessing, "boundaries")
        assert corners_of(text) == corners_of(outline)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ContractError, match="ocr_viz_variant must be one of"):
        ocr_viz(layout(), DEFAULT, "heatmap")


def test_a_video_without_font_embedding_gets_zeros():
    inputs = video_inputs(text_at(1), DEFAULT, "both")
    np.testing.assert_array_equal(inputs.ocr_viz, ocr_viz(text_at(1), DEFAULT, "both"))
    np.testing.assert_array_equal(inputs.spatial_features, spatial_features(text_at(1)))
    assert inputs.font_embedding.shape == (512,)
    assert inputs.font_embedding.dtype == np.float32
    assert not inputs.font_embedding.any()
    assert not no_font_embedding().any()


def test_a_given_font_embedding_is_passed_on_and_a_misshapen_one_refused():
    font = np.linspace(-1, 1, 512, dtype=np.float32)
    np.testing.assert_array_equal(video_inputs(text_at(1), DEFAULT, "both", font).font_embedding, font)
    with pytest.raises(ContractError, match=r"font embedding must be float32 \(512,\)"):
        video_inputs(text_at(1), DEFAULT, "both", font[:10])
