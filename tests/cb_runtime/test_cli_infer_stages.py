"""`cb infer`: how long it may take, and what its stages do with their time."""

import json
import shutil

import cv2
import pytest
from click.testing import CliRunner
from tiny_models import CAPTION, EMPTY, REGION_TEXT, bright_video, levels_of, tiny_model

from cb_runtime import limits, source_scoring
from cb_runtime import video as video_sources
from cb_runtime.cli import main
from cb_runtime.predictor import BoundaryPredictor

RUNS = ((EMPTY, 6), (CAPTION, 10), (EMPTY, 4))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return bright_video(tmp_path_factory.mktemp("video") / "film.mp4", levels_of(*RUNS))


@pytest.fixture
def video(original, tmp_path):
    return shutil.copy(original, tmp_path / "film.mp4")


@pytest.fixture
def run(model, tmp_path):
    def call(*arguments):
        given = ["infer", "--checkpoint", model, "--output", tmp_path / "out", "--region", REGION_TEXT, *arguments]
        return CliRunner().invoke(main, [str(argument) for argument in given])

    return call


@pytest.fixture
def slow(monkeypatch):
    """Let the clock of time limits run by 1 s with each strip."""
    now, whole = [0.0], source_scoring.strip

    def strip(*arguments):
        now[0] += 1
        return whole(*arguments)

    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(source_scoring, "strip", strip)


class TestTimeout:
    def test_keeps_what_was_done_as_a_partial_result(self, run, video, tmp_path, slow):
        result = run(video, "--timeout", "12", "--json")
        assert result.exit_code == 6
        document = json.loads(result.stdout)
        (entry,) = document["videos"]
        assert (entry["captions"], entry["partial"], entry["statistics"]["frames"]) == (1, True, 12)
        assert document["error"]["type"] == "PartialResultError"
        (segment,) = json.loads((tmp_path / "out" / "film.json").read_text())["segments"]
        assert (segment["start_frame"], segment["end_frame"]) == (6, 12)
        assert "12 s (--timeout) was reached" in result.stderr

    def test_is_for_each_video(self, run, video, tmp_path, slow):
        other = shutil.copy(video, tmp_path / "other.mp4")
        entries = json.loads(run(video, other, "--timeout", "12", "--json").stdout)["videos"]
        assert [entry["statistics"]["frames"] for entry in entries] == [12, 12]

    def test_is_no_finished_video_to_resume(self, run, video, slow, monkeypatch):
        run(video, "--timeout", "12")
        seen, whole = [], BoundaryPredictor.predict_video

        def counted(self, path, **options):
            seen.append(path.name)
            return whole(self, path, **options)

        monkeypatch.setattr(BoundaryPredictor, "predict_video", counted)
        assert run(video, "--resume").exit_code == 0
        assert run(video, "--resume", "--timeout", "12").exit_code == 0, "it is finished now, whatever the limit"
        assert seen == ["film.mp4"]


class TestProfile:
    def test_is_printed_drawn_and_says_which_stage_sets_the_rate(self, run, video, tmp_path):
        picture = tmp_path / "new" / "times.png"
        result = run(video, "--profile", picture)
        assert result.exit_code == 0, result.output
        assert cv2.imread(str(picture)) is not None
        for text in (
            "layout",
            "decode",
            "strips",
            "search",
            "model",
            "spans",
            "waits for input",
            "sets the rate",
            "20 frames",
        ):
            assert text in result.stdout
        assert str(picture) in result.stdout.replace("\n", "")

    def test_is_part_of_the_json_document(self, run, video, tmp_path):
        profile = json.loads(run(video, "--profile", tmp_path / "times.png", "--json").stdout)["profile"]
        assert profile["timeline"] == str(tmp_path / "times.png")
        rows = {row["name"]: row for row in profile["stages"]}
        assert profile["rate_set_by"] in rows
        assert rows["decode"]["items"] == 20
        for row in rows.values():
            assert row["busy"] + row["waiting_for_input"] + row["waiting_for_output"] == pytest.approx(1, abs=1e-3)

    def test_is_of_all_videos_together(self, run, video, tmp_path):
        other = shutil.copy(video, tmp_path / "other.mp4")
        profile = json.loads(run(video, other, "--profile", tmp_path / "t.png", "--json").stdout)["profile"]
        assert {row["name"]: row["items"] for row in profile["stages"]}["decode"] == 40

    def test_that_cannot_be_written_is_found_out_before_any_work(self, run, video, tmp_path):
        (tmp_path / "file").write_text("")
        result = run(video, "--profile", tmp_path / "file" / "times.png")
        assert result.exit_code == 3
        assert "file" in result.stderr
        assert not (tmp_path / "out").exists()

    def test_is_not_there_unless_asked_for(self, run, video, tmp_path):
        result = run(video, "--json")
        assert "profile" not in json.loads(result.stdout)
        assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--timeout", "0"], "--timeout"),
        (["--decode-threads", "0"], "--decode-threads"),
        (["--profile", "times.svg"], "--profile draws a PNG"),
    ],
)
def test_options_out_of_range_are_usage_errors_before_any_work(run, video, arguments, says, tmp_path):
    result = run(video, *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


def test_decode_threads_reach_every_video(run, video, monkeypatch):
    asked, whole = [], video_sources.open_source

    def counted(path, **options):
        asked.append(options["decode_threads"])
        return whole(path, **options)

    monkeypatch.setattr(video_sources, "open_source", counted)
    run(video, "--decode-threads", "3")
    run(video)
    assert asked == [3, None]
