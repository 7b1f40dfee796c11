"""From a video file to its captions, with a model whose answers are known."""

import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from tiny_models import CAPTION, EMPTY, OTHER, REGION, REGION_TEXT, bright_video, levels_of, tiny_model

from cb_runtime import video as video_sources
from cb_runtime.contract import LABELS, Decoding, ModelMetadata
from cb_runtime.decoding import DecodeOptions
from cb_runtime.errors import ContractError, InputError, UsageError
from cb_runtime.fonts import FontEmbedding
from cb_runtime.geometry import Box
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.scored_video import NO_TEXT
from cb_runtime.video.types import DecodeReport, Frame, VideoInfo

RUNS = ((EMPTY, 6), (CAPTION, 10), (EMPTY, 4), (CAPTION, 5), (OTHER, 7), (EMPTY, 3))
SPANS = [(6, 16), (20, 25), (25, 32)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return bright_video(tmp_path_factory.mktemp("video") / "film.mp4", levels_of(*RUNS))


class FakeSource:
    """Frames made as they are read; `report` as a damaged video would leave it."""

    def __init__(self, levels, errors=0):
        self.levels, self.closed = levels, False
        self.report = DecodeReport()
        self.errors = errors
        self.info = VideoInfo("fake.mp4", 320, 160, Fraction(1, 50), Fraction(25), None, None)

    def frames(self, region=None):
        shape = (region.height, region.width, 3)
        for index, level in enumerate(self.levels):
            yield Frame(index, index * 2, 2, np.full(shape, level, np.uint8))
        if self.errors:
            self.report.errors = self.errors
            self.report.messages.append(f"{self.errors} packets could not be decoded.")

    def again(self, times, region=None):
        shape = (region.height, region.width, 3)
        return (Frame(-1, pts, 2, np.full(shape, self.levels[pts // 2], np.uint8)) for pts in times)

    def sample(self, count):
        return iter([Frame(-1, 0, 2, np.zeros((160, 320, 3), np.uint8))])

    def close(self):
        self.closed = True


@pytest.fixture
def source(monkeypatch):
    """Make the predictor read a fake source; returns a function that sets it."""

    def use(levels, **options):
        made = FakeSource(levels, **options)
        monkeypatch.setattr(video_sources, "open_source", lambda path, **options: made)
        return made

    return use


def frames(track):
    return [(span.start_frame, span.end_frame) for span in track.spans]


def test_captions_of_a_video_file_are_found_to_the_frame(model, video):
    track = BoundaryPredictor(model).predict_video(video, region=REGION_TEXT)
    assert frames(track) == SPANS
    assert [(s.start_seconds, s.end_seconds) for s in track.spans] == [(0.24, 0.64), (0.8, 1.0), (1.0, 1.28)]
    assert track.layout.region == Box(*REGION)
    assert not track.partial


@pytest.mark.parametrize("batch_size", [1, 2, 7, 200])
def test_captions_do_not_depend_on_the_batch_size(model, video, batch_size):
    track = BoundaryPredictor(model, batch_size=batch_size).predict_video(video, region=REGION_TEXT)
    assert frames(track) == SPANS


def test_a_result_says_which_model_found_it_and_on_what(model, video):
    predictor = BoundaryPredictor(model, device="cpu", backend="onnxruntime")
    track = predictor.predict_video(video, region=REGION_TEXT)
    assert track.model["name"] == "best.onnx"
    assert len(track.model["sha256"]) == 64
    assert (track.model["backend"], track.model["device"], track.model["reason"]) == ("onnxruntime", "cpu", "as asked")
    assert (track.statistics["frames"], track.statistics["pairs"]) == (35, 2 * (34 + 33 + 32))
    assert track.statistics["distances"] == [1, 2, 3]


def test_min_frames_and_change_penalty_reach_the_decoder(model, source):
    predictor = BoundaryPredictor(model)
    source(levels_of((EMPTY, 6), (CAPTION, 2), (EMPTY, 4), (CAPTION, 9), (EMPTY, 2)))
    assert frames(predictor.predict_video("x", region=REGION_TEXT)) == [(6, 8), (12, 21)]
    assert frames(predictor.predict_video("x", region=REGION_TEXT, min_frames=4)) == [(12, 21)]
    source(levels_of((EMPTY, 3), (CAPTION, 5), (CAPTION - 19, 5), (EMPTY, 3)))
    assert frames(predictor.predict_video("x", region=REGION_TEXT)) == [(3, 8), (8, 13)]
    assert frames(predictor.predict_video("x", region=REGION_TEXT, change_penalty=20)) == [(3, 13)]


FLICKER = levels_of((EMPTY, 6), (CAPTION, 6), (EMPTY, 1), (CAPTION, 6), (EMPTY, 4))


def test_a_caption_that_flickers_is_one_caption_unless_only_neighbours_are_compared(model, source):
    predictor = BoundaryPredictor(model)
    source(FLICKER)
    assert frames(predictor.predict_video("x", region=REGION_TEXT)) == [(6, 19)]
    assert frames(predictor.predict_video("x", region=REGION_TEXT, distances=(1,))) == [(6, 12), (13, 19)]


def test_the_model_s_own_decoding_is_obeyed_unless_overridden(tmp_path, source):
    own = ModelMetadata("tiny", decoding=Decoding(distances=(1,), min_frames=8, change_penalty=20.0))
    predictor = BoundaryPredictor(tiny_model(tmp_path / "m.onnx", own))
    source(levels_of((EMPTY, 9), (CAPTION, 2), (EMPTY, 9), (CAPTION, 9), (CAPTION - 19, 9), (EMPTY, 3)))
    track = predictor.predict_video("x", region=REGION_TEXT)
    assert frames(track) == [(20, 38)]
    assert track.statistics["distances"] == [1]
    other = predictor.predict_video("x", region=REGION_TEXT, min_frames=1, change_penalty=0.0, distances=(1, 2))
    assert frames(other) == [(9, 11), (20, 29), (29, 38)]
    assert other.statistics["distances"] == [1, 2]


def test_far_pairs_are_scored_beside_whatever_distances_are_asked_for_and_confirm_what_is_found(tmp_path, source):
    source(levels_of((EMPTY, 9), (CAPTION, 10), (CAPTION - 19, 10), (EMPTY, 9)))
    found = {}
    for margin in (0.0, 1e9):
        own = ModelMetadata("tiny", decoding=Decoding((1, 2), change_penalty=0.0, far_distance=8, far_margin=margin))
        predictor = BoundaryPredictor(tiny_model(tmp_path / f"{margin}.onnx", own), closer=False)
        for distances in (None, (1,)):
            track = predictor.predict_video("x", region=REGION_TEXT, distances=distances)
            assert track.statistics["distances"] == [*(distances or (1, 2)), 8]
            found[margin, distances] = frames(track)
    assert found[0.0, None] == found[0.0, (1,)] == [(9, 19), (19, 29)]
    assert found[1e9, None] == found[1e9, (1,)] == [(9, 29)]


def test_the_model_s_calibration_reaches_the_scores(tmp_path, source):
    source(levels_of((EMPTY, 6), (CAPTION, 6), (EMPTY, 6)))
    scores = []
    for scale in (1.0, 0.1):
        metadata = ModelMetadata("tiny", decoding=Decoding(score_scale=scale))
        predictor = BoundaryPredictor(tiny_model(tmp_path / f"{scale}.onnx", metadata))
        (span,) = predictor.predict_video("x", region=REGION_TEXT).spans
        scores.append(span.start_score)
    assert 0.5 < scores[1] < 0.95 < scores[0]


def test_a_fade_s_boundary_is_at_half_opacity_and_its_interval_is_reported(model, source, monkeypatch):
    text = np.zeros((32, 256, 1), np.float32)
    text[4:28, 8:248:4] = text[4:28, 9:248:4] = 1  # strokes
    opacity = [0.0] * 12 + [step / 13 for step in range(1, 13)] + [1.0] * 20 + [0.0] * 12

    def picture(self, region=None):
        for index, level in enumerate(opacity):
            image = (EMPTY + 170 * level * text).repeat(3, axis=2).astype(np.uint8)
            yield Frame(index, index * 2, 2, image)

    source([])
    monkeypatch.setattr(FakeSource, "frames", picture)
    predictor = BoundaryPredictor(model)
    scored = predictor.score_video("x", region=REGION_TEXT)
    (span,) = predictor.decode(scored).spans
    assert (span.start_frame, span.end_frame) == (18, 44)
    assert (span.start_pts, span.fade_in, span.fade_in_pts) == (36, (12, 24), (24, 48))
    assert (span.fade_out, span.fade_out_pts) == (None, None)
    (unmoved,) = predictor.decode(replace(scored, products=None)).spans
    assert unmoved.fade_in is None
    assert unmoved.start_frame > 20, "the model alone calls the caption there too late"


def test_a_scored_video_can_be_decoded_again_and_again(model, source):
    predictor = BoundaryPredictor(model)
    source(FLICKER)
    scored = predictor.score_video("x", region=REGION_TEXT)
    assert frames(predictor.decode(scored)) == [(6, 19)]
    assert frames(predictor.decode(scored, DecodeOptions(distances=(1,)))) == [(6, 12), (13, 19)]
    assert frames(predictor.decode(scored, Decoding(distances=(1,), min_frames=3))) == [(6, 12), (13, 19)]
    assert frames(predictor.decode(scored, Decoding(distances=(1,), min_frames=9))) == [(6, 19)]
    with pytest.raises(UsageError, match="distance 4 were not scored"):
        predictor.decode(scored, DecodeOptions(distances=(1, 4)))


def test_a_video_scored_at_other_distances_is_decoded_at_those(model, source):
    predictor = BoundaryPredictor(model)
    source(FLICKER)
    assert frames(predictor.decode(predictor.score_video("x", region=REGION_TEXT, distances=(1,)))) == [
        (6, 12),
        (13, 19),
    ]


@pytest.mark.parametrize("count", [0, 1])
def test_a_video_of_no_frame_or_one_has_no_boundary_and_says_so(model, source, count):
    source([CAPTION] * count)
    track = BoundaryPredictor(model).predict_video("x", region=REGION_TEXT)
    assert track.spans == ()
    assert any(f"Frames in the video: {count}" in message for message in track.messages)


def test_a_damaged_video_gives_a_partial_result_with_the_reason(model, source):
    made = source(levels_of((EMPTY, 2), (CAPTION, 3)), errors=4)
    track = BoundaryPredictor(model).predict_video("x", region=REGION_TEXT)
    assert track.partial
    assert frames(track) == [(2, 5)]
    assert "4 packets could not be decoded." in track.messages
    assert made.closed


def test_a_video_without_text_has_no_captions_and_says_what_to_do(model, source):
    class Blind:
        engine, version = "blind", "1"

        def __call__(self, image):
            return []

    source([EMPTY] * 5)
    track = BoundaryPredictor(model).predict_video("x", detector=Blind())
    assert track.spans == ()
    assert track.messages == (NO_TEXT,)


def test_a_video_without_text_that_is_damaged_says_that_too(model, source):
    class Blind:
        engine, version = "blind", "1"

        def __call__(self, image):
            return []

    made = source([EMPTY] * 5)
    made.report = DecodeReport(frames=1, errors=4, messages=["4 packets could not be decoded."])
    track = BoundaryPredictor(model).predict_video("x", detector=Blind())
    assert track.partial
    assert track.messages == ("4 packets could not be decoded.", NO_TEXT)


def test_a_second_place_that_looks_like_captions_is_pointed_out(model, source):
    class TwoPlaces:
        engine, version = "two", "1"

        def __call__(self, image):
            return [(Box(80, 130, 240, 142), 0.9), (Box(60, 10, 260, 22), 0.9)]

    source([EMPTY] * 5)
    track = BoundaryPredictor(model).predict_video("x", detector=TwoPlaces())
    (other,) = track.layout.other_regions
    assert track.layout.doubts()[0] in track.messages
    assert f"--region {','.join(map(str, other.region.as_tuple()))}" in track.layout.doubts()[0]


def test_boxes_of_another_ocr_engine_than_in_training_are_pointed_out(tmp_path, source):
    source([EMPTY] * 3)
    trained = ModelMetadata("tiny", ocr_engine="rapidocr", ocr_engine_version="3.10")
    predictor = BoundaryPredictor(tiny_model(tmp_path / "m.onnx", trained))
    (message,) = predictor.predict_video("x", region=REGION_TEXT).messages
    assert "trained with boxes from rapidocr 3.10" in message
    assert "boxes from no OCR engine" in message


def test_a_model_with_font_embeddings_needs_one_of_its_own_encoder(tmp_path, source):
    source(levels_of((EMPTY, 3), (CAPTION, 3)))
    metadata = ModelMetadata("tiny", use_font_embedding=True, fontclip_model_version="clip-a")
    predictor = BoundaryPredictor(tiny_model(tmp_path / "m.onnx", metadata))
    values = np.ones(512, np.float32)
    with pytest.raises(ContractError, match="'clip-a' and was given none"):
        predictor.predict_video("x", region=REGION_TEXT)
    with pytest.raises(ContractError, match="given 'clip-b'"):
        predictor.predict_video("x", region=REGION_TEXT, font_embedding=FontEmbedding(values, "clip-b"))
    track = predictor.predict_video("x", region=REGION_TEXT, font_embedding=FontEmbedding(values, "clip-a"))
    assert frames(track) == [(3, 6)]


def test_a_font_embedding_that_would_have_no_effect_is_refused(model, video):
    given = FontEmbedding(np.ones(512, np.float32), "clip-a")
    with pytest.raises(ContractError, match="uses no font embedding"):
        BoundaryPredictor(model).predict_video(video, region=REGION_TEXT, font_embedding=given)


def test_prepared_pairs_are_scored_in_batches_of_any_number(model):
    predictor = BoundaryPredictor(model, batch_size=2)
    levels = np.array([EMPTY, CAPTION, CAPTION, OTHER, EMPTY], np.uint8)
    pictures = np.broadcast_to(levels[:, None, None, None], (5, 48, 480, 3))
    inputs = {
        "ocr_viz": np.zeros_like(pictures),
        "frame1": pictures,
        "frame2": np.roll(pictures, -1, axis=0),
        "spatial_features": np.zeros((5, 6), np.float32),
        "font_embedding": np.zeros((5, 512), np.float32),
    }
    found = [LABELS[index] for index in predictor.predict_pairs(inputs).argmax(axis=1)]
    assert found == ["empty_valid", "same", "different", "valid_empty", "empty_empty"]
    assert predictor.predict_pairs({name: value[:0] for name, value in inputs.items()}).shape == (0, 5)


def test_misshapen_pairs_are_refused(model):
    with pytest.raises(ContractError, match="takes inputs"):
        BoundaryPredictor(model).predict_pairs({})


@pytest.mark.parametrize("value", [[[0.0] * 6], np.array(0, np.float32), None, np.zeros((2, 6), np.float32)])
def test_pairs_that_are_no_arrays_of_one_length_are_refused(model, value):
    pictures = np.zeros((1, 48, 480, 3), np.uint8)
    inputs = dict.fromkeys(("ocr_viz", "frame1", "frame2"), pictures)
    inputs |= {"spatial_features": value, "font_embedding": np.zeros((1, 512), np.float32)}
    with pytest.raises(ContractError):
        BoundaryPredictor(model).predict_pairs(inputs)


def test_pairs_without_names_are_refused(model):
    with pytest.raises(ContractError, match="mapping"):
        BoundaryPredictor(model).predict_pairs([np.zeros(1)])


def test_a_missing_video_is_an_input_error(model, tmp_path):
    with pytest.raises(InputError):
        BoundaryPredictor(model).predict_video(tmp_path / "gone.mp4", region=REGION_TEXT)


def test_a_batch_below_one_is_refused(model):
    with pytest.raises(UsageError, match="--batch"):
        BoundaryPredictor(model, batch_size=0)


@pytest.mark.parametrize("coarse", [1, 4])
def test_memory_does_not_grow_with_the_video(model, source, coarse):
    predictor = BoundaryPredictor(model, batch_size=4, coarse=coarse)
    peaks = []
    for count in (100, 1000):
        source(levels_of(*(((EMPTY, 5), (CAPTION, 5)) * (count // 10))))
        tracemalloc.start()
        predictor.predict_video("x", region=REGION_TEXT, overlap=False)  # how many strips wait would be chance
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 900 * 600, "a few numbers per frame, where one strip alone has 69,120 bytes"
