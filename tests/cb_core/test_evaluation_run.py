"""`cb evaluate` from end to end, with a tiny model that decides by brightness."""

import json
import re

import pytest
from click.testing import CliRunner
from evaluation_truths import write_truth
from tiny_models import CAPTION, EMPTY, OTHER, REGION, bright_video, levels_of, tiny_model

from cb_core.cli.evaluate import evaluate
from cb_core.evaluation import EvaluateOptions, evaluate_scored, evaluate_videos, score_once
from cb_core.evaluation.pictures import picture_cases
from cb_runtime.decoding import DecodeOptions
from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.predictor import BoundaryPredictor

LEVELS = levels_of((EMPTY, 10), (CAPTION, 15), (OTHER, 15), (EMPTY, 10))
TRUE = [(10, 25), (25, 40)]
SRT = "1\n00:00:00,400 --> 00:00:01,000\na\n\n2\n00:00:01,000 --> 00:00:01,600\nb\n"


@pytest.fixture
def model(tmp_path):
    return tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "videos"
    place.mkdir()
    return place


def add_video(folder, name="a", captions=TRUE, **options):
    video = bright_video(folder / f"{name}.mp4", LEVELS)
    write_truth(video, captions, len(LEVELS), REGION, **options)
    return video


def by_truth(model, videos, **options):
    return evaluate_videos(BoundaryPredictor(model), videos, EvaluateOptions("truth", **options))


def run(*arguments):
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


class RegionDetector:
    """Sees text in the caption region of a bright frame."""

    engine, version = "region", "1"

    def __call__(self, image):
        left, top, right, bottom = REGION
        bright = image[top:bottom, left:right].mean() > 90
        return [(Box(left + 40, top + 4, right - 40, bottom - 4), 0.9)] if bright else []


class BlindDetector:
    engine, version = "blind", "1"

    def __call__(self, image):
        return []


def test_a_model_that_is_right_has_no_error(model, folder):
    overall = by_truth(model, [add_video(folder)]).overall
    assert [scores.f1 for scores in (*overall.boundaries, *overall.hard_cuts)] == [1.0] * 6
    assert (overall.captions.matched, overall.phantom_rate, overall.span_f1) == (2, 0, (1, 1))
    assert (overall.pair_macro_f1, overall.onset.mean_absolute_ms) == (1, 0)


def test_a_truth_one_frame_later_shows_as_one_frame_too_early(model, folder):
    overall = by_truth(model, [add_video(folder, captions=[(11, 26), (26, 41)])]).overall
    assert [scores.f1 for scores in overall.boundaries] == [0, 1, 1]
    assert (overall.onset.mean_ms, overall.offset.mean_absolute_ms) == (pytest.approx(-40), pytest.approx(40))


def test_slices_are_told_apart_and_the_worst_comes_first(model, folder):
    good = add_video(folder, "good", slices={"codec": "h264"})
    bad = add_video(folder, "bad", [(11, 26), (26, 41)], slices={"codec": "vp9"})
    evaluation = by_truth(model, [good, bad])
    assert {value: one.boundaries[0].f1 for value, one in evaluation.slices["codec"].items()} == {"h264": 1, "vp9": 0}
    assert evaluation.worst_slices()[0][0] == "codec: vp9"


def test_captions_that_people_made_are_a_truth_too(model, folder):
    video = bright_video(folder / "a.mp4", LEVELS)
    video.with_suffix(".srt").write_text(SRT)
    evaluation = evaluate_videos(BoundaryPredictor(model), [video], detector=RegionDetector())
    assert evaluation.overall.captions.true == 2
    assert evaluation.videos[0].layout.found
    with pytest.raises(InputError, match="does not tell where captions are"):
        list(score_once(BoundaryPredictor(model), [video], "truth"))


def test_the_layout_found_is_compared_with_the_truth(model, folder):
    layout = evaluate_videos(BoundaryPredictor(model), [add_video(folder)], detector=RegionDetector()).layout_to_dict()
    assert (layout["videos_with_captions"], layout["found"]) == (1, 1)
    assert 0.5 < layout["mean_coverage"] <= 1


def test_a_video_whose_captions_are_not_seen_is_all_missed(model, folder):
    evaluation = evaluate_videos(BoundaryPredictor(model), [add_video(folder)], detector=BlindDetector())
    assert evaluation.overall.captions.missed == 2
    assert evaluation.overall.boundaries[0].recall == 0
    assert evaluation.layout_to_dict()["mean_coverage"] == 0


def test_scored_videos_can_be_decoded_again_in_another_way(model, folder):
    predictor = BoundaryPredictor(model)
    scored = list(score_once(predictor, [add_video(folder)], "truth"))
    whole = evaluate_scored(predictor, scored, layout="truth")
    longer = evaluate_scored(predictor, scored, DecodeOptions(min_frames=20), "truth")
    assert (whole.overall.captions.matched, longer.overall.captions.matched) == (2, 0)
    assert longer.settings["decode"]["min_frames"] == 20


def test_one_bad_video_fails_alone(model, folder):
    add_video(folder, "good")
    (folder / "bad.mp4").write_bytes(b"no video")
    write_truth(folder / "bad.mp4", TRUE, len(LEVELS), REGION)
    result = run("--videos", folder, "--checkpoint", model, "--layout", "truth", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == document["error"]["exit_code"] == 6
    assert [name.rpartition("/")[2] for name in document["failed"]] == ["bad.mp4"]
    assert document["overall"]["videos"] == 1


def test_the_truth_of_another_video_is_refused(model, folder):
    video = bright_video(folder / "a.mp4", LEVELS)
    write_truth(video, TRUE, len(LEVELS) + 1, REGION)
    assert "is about 51 frames, 50 could be read" in next(iter(by_truth(model, [video]).failed.values()))


@pytest.mark.parametrize("mode", ["auto", "truth"])
def test_the_truth_of_another_video_is_refused_where_no_captions_are_seen_too(model, folder, mode):
    video = bright_video(folder / "a.mp4", LEVELS[:8])
    write_truth(video, TRUE if mode == "auto" else [], len(LEVELS), REGION)
    options = EvaluateOptions(mode)
    evaluation = evaluate_videos(BoundaryPredictor(model), [video], options, detector=BlindDetector())
    assert "is about 50 frames, 8 could be read" in evaluation.failed[str(video)]


@pytest.mark.parametrize("damage", [{"pts": [1e400]}, {"time_base": [1, 0]}])
def test_a_damaged_truth_costs_its_video_alone(model, folder, damage):
    good, bad = add_video(folder, "good"), add_video(folder, "bad")
    truth = bad.with_name("bad.truth.json")
    truth.write_text(json.dumps(json.loads(truth.read_text()) | damage))
    evaluation = by_truth(model, [good, bad])
    assert "not a ground truth written by cb synth" in evaluation.failed[str(bad)]
    assert len(evaluation.videos) == 1


def test_a_boundary_whose_frames_are_gone_has_no_picture(model, folder):
    video = add_video(folder, captions=[(11, 25), (25, 41)])
    evaluation = by_truth(model, [video])
    assert len(picture_cases(evaluation, 9)) == 2
    bright_video(video, LEVELS[:20])
    assert [case.outcome.true_frame for case in picture_cases(evaluation, 9)] == [11]


def test_without_any_truth_the_command_says_what_to_do(model, folder):
    bright_video(folder / "a.mp4", LEVELS)
    result = run("--videos", folder, "--checkpoint", model)
    assert result.exit_code == 3
    assert ".truth.json" in result.output


def test_a_later_run_goes_on_with_what_is_done(model, folder, tmp_path):
    video = add_video(folder)
    first = by_truth(model, [video], output=tmp_path / "out")
    again = by_truth(model, [video], output=tmp_path / "out", resume=True)
    assert [one.resumed for one in (*first.videos, *again.videos)] == [False, True]
    assert again.overall.to_dict() == first.overall.to_dict()
    write_truth(video, TRUE[:1], len(LEVELS), REGION)
    assert not by_truth(model, [video], output=tmp_path / "out", resume=True).videos[0].resumed


@pytest.mark.parametrize("other", [{"backend": "openvino"}, {"precision": "int8"}, {"device": "cuda:0"}])
def test_results_of_another_engine_are_not_taken_for_this_ones(model, folder, tmp_path, monkeypatch, other):
    video = add_video(folder)
    by_truth(model, [video], output=tmp_path / "out")
    assert by_truth(model, [video], output=tmp_path / "out", resume=True).videos[0].resumed
    own = BoundaryPredictor(model).model
    monkeypatch.setattr(BoundaryPredictor, "model", own | other)
    assert not by_truth(model, [video], output=tmp_path / "out", resume=True).videos[0].resumed


def test_what_was_skipped_is_one_of_the_settings(model, folder, tmp_path):
    add_video(folder)
    command = ["--videos", folder, "--checkpoint", model, "--layout", "truth", "--output", tmp_path, "--json"]
    evaluated = []
    for options in (["--skip", "none"], ["--skip", "none"], ["--skip", "noise", "--coarse", 4]):
        result = run(*command, "--resume", *options)
        assert result.exit_code == 0, result.output
        evaluated.append(json.loads(result.stdout))
    assert [one["videos"][0]["resumed"] for one in evaluated] == [False, True, False]
    settings = evaluated[-1]["settings"]
    assert (settings["skip"], settings["coarse"]) == ("noise", 4)


def test_the_page_stands_alone_and_shows_the_worst_boundaries(model, folder, tmp_path):
    add_video(folder, captions=[(11, 25), (25, 40)])
    out = tmp_path / "out"
    result = run("--videos", folder, "--checkpoint", model, "--layout", "truth", "--output", out)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "report.json").read_text())["videos"][0]["problems"][0]["problem"] == "shifted"
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', page)
    none = run("--videos", folder, "--checkpoint", model, "--layout", "truth", "--output", out, "--worst", 0)
    assert none.exit_code == 0
    assert "data:image" not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--resume"], "--resume needs --output"), (["--worst", "-1"], "--worst must be 0")]
)
def test_wrong_options_are_explained(model, folder, arguments, message):
    result = run("--videos", folder, "--checkpoint", model, *arguments)
    assert result.exit_code == UsageError.exit_code
    assert message in result.output
