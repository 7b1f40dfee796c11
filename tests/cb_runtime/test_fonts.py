"""Font encoders at inference: found by entry point, checked against the model, given the video and its layout."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_models import CAPTION, EMPTY, REGION_TEXT, bright_video, levels_of, tiny_model

from cb_runtime import fonts
from cb_runtime.cli import main
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ContractError, MissingPackageError, ModelError, UsageError
from cb_runtime.fonts import load_font_encoder
from cb_runtime.predictor import BoundaryPredictor

STYLED = ModelMetadata("tiny", use_font_embedding=True, fontclip_model_version="clip-a")


class FakeEncoder:
    version = "clip-a"

    def __init__(self, weights="weights.pt"):
        self.weights = weights
        self.seen = []

    def embedding_of(self, source, layout):
        self.seen.append((source.info.path.name, layout.region.as_tuple()))
        return np.ones(512, np.float32)


class FakeEntry:
    name = "fake"

    def load(self):
        return FakeEncoder


@pytest.fixture
def video(tmp_path):
    return bright_video(tmp_path / "film.mp4", levels_of((EMPTY, 5), (CAPTION, 5)))


def test_the_encoder_sees_each_video_once(tmp_path, video):
    encoder = FakeEncoder()
    predictor = BoundaryPredictor(tiny_model(tmp_path / "m.onnx", STYLED), font_encoder=encoder)
    (span,) = predictor.predict_video(video, region=REGION_TEXT).spans
    assert (span.start_frame, span.end_frame) == (5, 10)
    assert encoder.seen == [("film.mp4", tuple(map(int, REGION_TEXT.split(","))))]


def test_another_encoder_than_that_of_training_is_refused_before_any_video(tmp_path):
    encoder = FakeEncoder()
    encoder.version = "clip-b"
    with pytest.raises(ContractError, match=r"trained with font embeddings of 'clip-a' and was given 'clip-b'"):
        BoundaryPredictor(tiny_model(tmp_path / "m.onnx", STYLED), font_encoder=encoder)


def test_an_encoder_that_would_have_no_effect_is_refused(tmp_path):
    with pytest.raises(ContractError, match="uses no font embedding"):
        BoundaryPredictor(tiny_model(tmp_path / "m.onnx"), font_encoder=FakeEncoder())


def test_the_command_line_gives_the_weights_to_the_installed_encoder(tmp_path, video, monkeypatch):
    monkeypatch.setattr(fonts, "entry_points_of", lambda group: {"mine": FakeEntry()})
    model = tiny_model(tmp_path / "m.onnx", STYLED)
    options = ["--checkpoint", str(model), "--region", REGION_TEXT, "--output", str(tmp_path / "out")]
    without = CliRunner().invoke(main, ["infer", str(video), *options])
    assert without.exit_code == 4
    assert "--font-model" in without.stderr
    done = CliRunner().invoke(main, ["infer", str(video), *options, "--font-model", "weights.pt"])
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "out" / "film.srt").is_file()


def test_the_installed_encoder_is_that_of_training(tmp_path):
    with pytest.raises(ModelError, match="no font encoder weights"):
        load_font_encoder(tmp_path / "none.pt")


def test_without_an_encoder_installed_the_group_is_named(monkeypatch):
    monkeypatch.setattr(fonts, "entry_points_of", lambda group: {})
    with pytest.raises(UsageError, match=r"cb\.font_encoders"):
        load_font_encoder("weights.pt")


def test_without_pytorch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match=r"cb-toolkit\[train\]"):
        load_font_encoder("weights.pt")
