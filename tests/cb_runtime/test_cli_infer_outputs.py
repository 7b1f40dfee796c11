"""`cb infer` and what is already there: files of the user's, folders that cannot be written, runs that were killed."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner
from tiny_models import CAPTION, EMPTY, REGION_TEXT, bright_video, levels_of, tiny_model

from cb_runtime import inference
from cb_runtime.cli import main
from cb_runtime.pipeline.stage import Halted
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.progress import no_progress

RUNS = ((EMPTY, 6), (CAPTION, 10), (EMPTY, 4))
MINE = "1\n00:00:01,000 --> 00:00:02,000\nwritten by hand\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return bright_video(tmp_path_factory.mktemp("video") / "film.mp4", levels_of(*RUNS))


@pytest.fixture
def videos(original, tmp_path):
    return [shutil.copy(original, tmp_path / f"{name}.mp4") for name in ("first", "second", "third")]


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def arguments(model, out, *more):
    return [str(item) for item in ("infer", "--checkpoint", model, "--region", REGION_TEXT, "--output", out, *more)]


@pytest.fixture
def run(model, out):
    return lambda *more: CliRunner().invoke(main, arguments(model, out, *more))


@pytest.fixture
def scored(monkeypatch):
    """Names of the videos that were scored."""
    whole, seen = BoundaryPredictor.predict_video, []

    def counted(self, path, **options):
        seen.append(path.name)
        return whole(self, path, **options)

    monkeypatch.setattr(BoundaryPredictor, "predict_video", counted)
    return seen


def visible(out):
    return sorted(path.name for path in out.iterdir() if not path.name.startswith("."))


class TestFilesOfTheUser:
    def test_are_not_replaced_and_cost_no_scoring(self, run, videos, out, scored):
        (out / "first.srt").write_text(MINE)
        result = run(*videos[:2])
        assert result.exit_code == 6
        assert (out / "first.srt").read_text() == MINE
        assert "first.srt exists" in result.stderr
        assert "--overwrite" in result.stderr
        assert visible(out) == ["first.srt", "second.json", "second.srt"]
        assert scored == ["second.mp4"]

    def test_are_an_input_error_of_that_video(self, run, videos, out):
        (out / "first.json").write_text("{}")
        result = run(videos[0], "--json")
        assert result.exit_code == 3
        assert json.loads(result.stdout)["videos"][0]["error"]["type"] == "InputError"

    def test_are_replaced_with_overwrite(self, run, videos, out):
        (out / "first.srt").write_text(MINE)
        assert run(videos[0], "--overwrite").exit_code == 0
        assert (out / "first.srt").read_text() != MINE
        assert run(videos[0]).exit_code == 0, "it is ours now"

    def test_of_a_format_that_was_not_asked_for_before_are_not_taken_for_ours(self, run, videos, out):
        run(videos[0])
        (out / "first.vtt").write_text("WEBVTT")
        assert run(videos[0], "--format", "srt,vtt").exit_code == 3
        assert (out / "first.vtt").read_text() == "WEBVTT"

    def test_corrections_of_our_output_are_kept(self, run, videos, out):
        run(videos[0])
        (out / "first.srt").write_text(MINE)
        assert run(videos[0], "--min-frames", "2").exit_code == 3
        assert run(videos[0], "--resume").exit_code == 0
        assert (out / "first.srt").read_text() == MINE

    @pytest.mark.parametrize("record", ["[]", "cut", '{"settings": 1}', '{"settings": 1, "outputs": 2}'])
    def test_a_record_that_is_none_of_ours_vouches_for_nothing(self, run, videos, out, record):
        run(videos[0])
        (out / ".first.cb-infer.json").write_text(record)
        assert run(videos[0], "--resume").exit_code == 3


def test_our_own_outputs_are_replaced_whatever_formats_came_between(run, videos, out):
    for formats in ("srt", "vtt,json", "srt,vtt"):
        assert run(videos[0], "--format", formats).exit_code == 0
    assert visible(out) == ["first.json", "first.srt", "first.vtt"]


class TestVideoDatabase:
    def test_of_the_same_video_gains_a_run_without_overwrite(self, run, videos):
        for _ in range(2):
            assert run(videos[0], "--format", "video_db,srt").exit_code == 0

    @pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
    def test_of_another_video_is_refused_before_scoring(self, run, videos, out, scored, overwrite):
        run(videos[0], "--format", "video_db")
        shutil.move(out / "first.db", out / "second.db")
        result = run(videos[1], "--format", "srt,video_db", *overwrite)
        assert result.exit_code == 3
        assert "holds another video (first.mp4" in result.stderr
        assert visible(out) == ["second.db"]
        assert scored == ["first.mp4"]

    def test_of_an_earlier_cut_of_the_video_is_refused(self, run, videos, out, scored):
        run(videos[0], "--format", "video_db")
        bright_video(videos[0], levels_of(*RUNS, (EMPTY, 30)))
        result = run(videos[0], "--format", "video_db")
        assert result.exit_code == 3
        assert "holds another video (first.mp4, 320x160, 0.800 s), not first.mp4 (320x160, 2.000 s)" in result.stderr
        assert scored == ["first.mp4"]

    def test_copying_tells_how_far_it_is_and_ends_when_the_run_does(self, model, videos, out, monkeypatch):
        predictor = BoundaryPredictor(model)
        settings = inference.InferSettings(out, ("video_db",), region=REGION_TEXT)
        told = []
        list(inference.infer_videos(predictor, videos[:1], settings, lambda *phase: told.append(phase)))
        assert told[-1] == ("Storing frames", 20, 20)

        def stopped(phase, done, total=None):
            if "Storing frames" in phase and done == 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(inference.infer_videos(predictor, videos[1:2], settings, stopped))
        assert visible(out) == ["first.db"]

    def test_copying_ends_when_another_video_ends_the_run(self, model, videos, out):
        """With several videos at once, each ends at its next frame."""
        with BoundaryPredictor(model).shared(halt := threading.Event()) as shared:
            halt.set()
            with pytest.raises(Halted):
                shared.told(no_progress)("Storing frames", 1, 20)


@pytest.mark.parametrize("formats", ["srt,json", "csv,vtt,ass,video_db"])
@pytest.mark.parametrize("name", ["caf\udce9", "日" * 80, "x" * 245])
def test_any_name_of_a_video_will_do(run, videos, out, name, formats):
    video = videos[0].rename(videos[0].with_name(f"{name}.mp4"))
    for more in ([], ["--resume"]):
        result = run(video, videos[1], "--format", formats, "--json", *more)
        assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir() if path.suffix == f".{formats.split(',')[0]}"} == {
        f"{name}.{formats.split(',')[0]}",
        f"second.{formats.split(',')[0]}",
    }
    if "json" in formats:
        document = json.loads((out / f"{name}.json").read_text())
        assert document["video"]["path"] == str(video)


def test_a_name_too_long_for_an_output_is_told_before_any_scoring(run, videos, out, scored):
    video = videos[0].rename(videos[0].with_name("x" * 251 + ".mp4"))
    result = run(video, videos[1])
    assert result.exit_code == 6
    assert "would have more than 255 bytes. Give the video a shorter name" in result.stderr
    assert scored == ["second.mp4"]


def test_a_folder_that_cannot_be_made_is_told_before_any_scoring(model, videos, tmp_path, scored):
    (tmp_path / "file").write_text("x")
    result = CliRunner().invoke(main, arguments(model, tmp_path / "file", *videos))
    assert result.exit_code == 3
    assert "file cannot be written" in result.stderr
    assert scored == []


def test_a_full_disk_ends_the_run_and_keeps_and_tells_what_was_finished(run, videos, out, scored, monkeypatch):
    write = inference.write_track

    def full_at_second(track, path, name):
        if track.video.path.name == "second.mp4" and name == "json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(track, path, name)

    monkeypatch.setattr(inference, "write_track", full_at_second)
    result = run(*videos, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["error"]["type"]) == (3, "StorageError")
    assert [entry["video"] for entry in document["videos"]] == [str(videos[0])]
    assert {path.name for path in out.iterdir()} == {"first.srt", "first.json", ".first.cb-infer.json"}
    assert scored == ["first.mp4", "second.mp4"]


STOPPED = """
import os, sys
from cb_runtime import files
from cb_runtime.cli import main
from cb_runtime.predictor import BoundaryPredictor

moment, number, *arguments = sys.argv[1:]
predict, flush, flushed = BoundaryPredictor.predict_video, files._flush, []

def stop():
    os.kill(os.getpid(), int(number))

def watched(self, path, **options):
    def progress(phase, done, total=None):
        if path.name == "second.mp4" and moment == "scoring" and done >= 5:
            stop()
    return predict(self, path, **{**options, "progress": progress})

def watched_flush(path):
    flush(path)
    if path.name.startswith(".second.") or path.name.startswith("..second."):
        flushed.append(path)
        if moment == "writing" and path.suffix == ".json" or moment == "publishing" and len(flushed) == 5:
            stop()

BoundaryPredictor.predict_video, files._flush = watched, watched_flush
main(arguments)
"""


def results(out):
    """Return what was written, without the time it took."""
    documents = {path.name: json.loads(path.read_text()) for path in out.glob("[!.]*.json")}
    for document in documents.values():
        document["statistics"] = {key: value for key, value in document["statistics"].items() if "second" not in key}
    return documents | {path.name: path.read_text() for path in out.glob("[!.]*.srt")}


@pytest.mark.parametrize(
    ("moment", "number", "published"),
    [
        ("scoring", signal.SIGKILL, []),
        ("writing", signal.SIGKILL, []),
        ("publishing", signal.SIGKILL, ["second.json"]),
        ("scoring", signal.SIGTERM, []),
        ("writing", signal.SIGTERM, []),
    ],
)
def test_a_stopped_run_goes_on_with_resume_and_gives_the_same(
    run, model, videos, out, tmp_path, scored, moment, number, published
):
    command = [sys.executable, "-c", STOPPED, moment, str(int(number)), *arguments(model, out, *videos, "--batch", 4)]
    stopped = subprocess.run(command, capture_output=True, text=True)
    killed = number == signal.SIGKILL
    assert stopped.returncode == (-signal.SIGKILL if killed else 130), stopped.stderr
    assert visible(out) == ["first.json", "first.srt", *published]
    assert killed or not list(out.glob(".*.cb-tmp-*")), "what can tidy up does"
    finished = (out / "first.json").read_bytes()

    resumed = run(*videos, "--batch", "4", "--resume", "--json")
    assert resumed.exit_code == 0, resumed.output
    assert [entry["resumed"] for entry in json.loads(resumed.stdout)["videos"]] == [True, False, False]
    assert scored == ["second.mp4", "third.mp4"]
    assert (out / "first.json").read_bytes() == finished
    CliRunner().invoke(main, arguments(model, tmp_path / "unstopped", *videos, "--batch", 4))
    assert results(out) == results(tmp_path / "unstopped")
