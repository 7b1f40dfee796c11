"""Promises about finding text with rapidocr."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cb_runtime.errors import MissingPackageError
from cb_runtime.geometry import Box
from cb_runtime.layout import ocr
from cb_runtime.layout.ocr import LONGEST_SIDE, RapidOcrDetector


class FakeRapidOcr:
    """Stands in for the engine: remembers the picture, answers with given corners."""

    def __init__(self, corners):
        self.boxes = corners
        self.scores = None if corners is None else [0.9] * len(corners)

    def __call__(self, image, **options):
        self.image, self.options = image, options
        return self


def detector_with(corners):
    detector = RapidOcrDetector()
    detector._rapidocr = FakeRapidOcr(corners)
    return detector


def corners(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def test_a_large_frame_is_scaled_down_and_its_boxes_scaled_back():
    detector = detector_with([corners(100, 300, 300, 320)])
    assert detector(np.zeros((1080, 1920, 3), np.uint8)) == [(Box(300, 900, 900, 960), 0.9)]
    assert detector._rapidocr.image.shape == (360, LONGEST_SIDE, 3)


@pytest.mark.parametrize(("height", "width", "shape"), [(240, 400, (384, 640, 3)), (90, 160, (180, 320, 3))])
def test_a_small_frame_is_enlarged_but_not_beyond_twice_its_size(height, width, shape):
    detector = detector_with([corners(0, 16, 160, 32)])
    ((box, _),) = detector(np.zeros((height, width, 3), np.uint8))
    assert detector._rapidocr.image.shape == shape
    assert box == Box(0, 16 * height // shape[0], 160 * height // shape[0], 32 * height // shape[0])


def test_only_detection_runs_and_the_engine_is_given_blue_first():
    detector = detector_with(None)
    red = np.zeros((90, 160, 3), np.uint8)
    red[..., 0] = 255
    assert detector(red) == []
    assert detector._rapidocr.image[0, 0].tolist() == [0, 0, 255]
    assert detector._rapidocr.options == {"use_det": True, "use_cls": False, "use_rec": False}


def test_boxes_are_kept_inside_the_frame_and_those_without_area_left_out():
    detector = detector_with(
        [corners(-5, 10, 40, 999), corners(30, 20, 30, 20), [[10, 5], [50, 1], [51, 11], [11, 15]]]
    )
    boxes = [box for box, _ in detector(np.zeros((90, LONGEST_SIDE, 3), np.uint8))]
    assert boxes == [Box(0, 10, 40, 90), Box(10, 1, 51, 15)]


@pytest.mark.parametrize(
    ("cores", "asked", "threads"), [(1, None, 1), (2, None, 1), (4, None, 3), (64, None, 8), (2, 5, 5)]
)
def test_it_leaves_a_core_to_whoever_decodes_the_next_frame(monkeypatch, cores, asked, threads):
    given = {}
    engine = SimpleNamespace(RapidOCR=lambda params: given.update(params) or FakeRapidOcr(None))
    monkeypatch.setattr(ocr, "_require_rapidocr", lambda: engine)
    monkeypatch.setattr(ocr, "usable_cores", lambda: cores)
    RapidOcrDetector(asked)(np.zeros((90, 160, 3), np.uint8))
    assert given["EngineConfig.onnxruntime.intra_op_num_threads"] == threads


@pytest.mark.parametrize("module", ["rapidocr", "onnxruntime"])
def test_without_ocr_packages_the_error_names_the_extra_and_the_way_around(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    for use in (lambda detector: detector(np.zeros((9, 9, 3), np.uint8)), lambda detector: detector.version):
        with pytest.raises(MissingPackageError, match=rf"{module} is not installed.*pip install.*--region LEFT"):
            use(RapidOcrDetector())


def test_rapidocr_finds_a_caption_over_noise_and_nothing_in_a_black_frame():
    pytest.importorskip("rapidocr")
    noise = np.random.default_rng(0).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    frame = cv2.resize(noise, (640, 360), interpolation=cv2.INTER_CUBIC)
    text = "Where have you been?"
    (width, height), _ = cv2.getTextSize(text, 0, 1, 2)
    for colour, thickness in (((0, 0, 0), 7), ((255, 255, 255), 2)):
        cv2.putText(frame, text, (130, 330), 0, 1, colour, thickness, cv2.LINE_AA)
    detector = RapidOcrDetector()
    assert (detector.engine, detector.version is not None) == ("rapidocr", True)
    ((box, score),) = detector(frame)
    for found, drawn in zip(box.as_tuple(), (130, 330 - height, 130 + width, 330), strict=True):
        assert abs(found - drawn) <= 15
    assert 0.3 < score <= 1
    assert detector(np.zeros_like(frame)) == []
