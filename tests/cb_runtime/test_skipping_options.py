"""`--skip` and `--coarse` reach the work, and results say what was done."""

import json

import pytest
from click.testing import CliRunner
from tiny_models import CAPTION, EMPTY, REGION_TEXT, bright_video, levels_of, tiny_model

from cb_runtime.cli import main
from cb_runtime.predictor import BoundaryPredictor

RUNS = ((EMPTY, 40), (CAPTION, 50), (EMPTY, 10))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return bright_video(tmp_path_factory.mktemp("video") / "film.mp4", levels_of(*RUNS))


def inferred(model, video, out, *arguments):
    given = ["infer", video, "--checkpoint", model, "--region", REGION_TEXT, "--output", out, "--json", *arguments]
    result = CliRunner().invoke(main, [str(argument) for argument in given])
    return result.exit_code, json.loads(result.stdout)


def test_every_way_finds_the_caption_and_says_what_it_looked_at(model, video):
    work = {}
    for way in (
        {"skip": "none", "coarse": 1},
        {"coarse": 1},
        {"skip": "noise", "coarse": 1},
        {"skip": "none", "coarse": 8},
        {"skip": "noise", "coarse": 16},
        {},
    ):
        track = BoundaryPredictor(model, **way).predict_video(video, region=REGION_TEXT)
        assert [(span.start_frame, span.end_frame) for span in track.spans] == [(40, 90)]
        told = track.statistics
        assert (told["skip"], told["coarse"]) == (way.get("skip", "equal"), way.get("coarse", 4))
        assert (told["frames"], told["pairs"]) == (100, 588)
        work[tuple(way.values())] = told["frames_encoded"], told["pairs_scored"]
    assert work["none", 1] == (100, 588)
    for fewer, more in ((("noise", 1), (1,)), (("none", 8), ("none", 1)), (("noise", 16), ("noise", 1)), ((), (1,))):
        assert work[fewer] <= work[more]
    assert work["noise", 1] < work["none", 1] > work["none", 8]


def test_the_command_s_options_have_effect(model, video, tmp_path):
    counts = []
    for arguments in (("--skip", "none", "--coarse", 1), ("--skip", "noise"), ("--skip", "none", "--coarse", 8)):
        code, document = inferred(model, video, tmp_path / "out", *arguments)
        assert code == 0
        counts.append(document["videos"][0]["statistics"]["pairs_scored"])
    assert counts[0] == 588
    assert max(counts[1:]) < 588 / 2


@pytest.mark.parametrize("change", [("--skip", "none"), ("--coarse", "8")])
def test_resume_does_again_what_skipped_otherwise(model, video, tmp_path, change):
    for arguments, resumed in (((), False), (("--resume",), True), (("--resume", *change), False)):
        _, document = inferred(model, video, tmp_path, *arguments)
        assert document["videos"][0]["resumed"] is resumed


@pytest.mark.parametrize("arguments", [("--skip", "all"), ("--coarse", "5")])
def test_what_is_no_choice_is_refused_before_any_work(model, video, tmp_path, arguments):
    code, document = inferred(model, video, tmp_path, *arguments)
    assert code == 2
    assert f"{arguments[0]} must be one of" in document["error"]["message"]
    assert not list(tmp_path.iterdir())
