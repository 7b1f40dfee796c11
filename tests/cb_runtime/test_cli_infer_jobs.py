"""`cb infer` over folders, and several videos at once."""

import json
import shutil
import signal
import time

import pytest
from click.testing import CliRunner
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)
from tiny_models import CAPTION, EMPTY, REGION_TEXT, bright_video, levels_of, tiny_model

from cb_runtime import inference
from cb_runtime.cli import main
from cb_runtime.errors import ModelError, StorageError
from cb_runtime.predictor import BoundaryPredictor

RUNS = ((EMPTY, 6), (CAPTION, 10), (EMPTY, 4))
PATIENCE = 30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return bright_video(tmp_path_factory.mktemp("video") / "film.mp4", levels_of(*RUNS))


@pytest.fixture
def folder(original, tmp_path):
    for name in ("second.mp4", "first.MP4", "more/third.mkv", "fourth.mp4", ".half-written.mp4", "notes.txt"):
        (tmp_path / "films" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original, tmp_path / "films" / name)
    return tmp_path / "films"


@pytest.fixture
def run(model, tmp_path):
    def call(*arguments):
        given = ["infer", "--checkpoint", model, "--output", tmp_path / "out", "--region", REGION_TEXT, *arguments]
        return CliRunner().invoke(main, [str(argument) for argument in given])

    return call


def names(document):
    return [entry["video"].rpartition("/")[2] for entry in document["videos"]]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_folder_stands_for_its_videos_in_the_order_of_their_names(run, folder, tmp_path, jobs):
    result = run(folder, "--jobs", jobs, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert names(document) == ["first.MP4", "fourth.mp4", "third.mkv", "second.mp4"]
    assert [entry["captions"] for entry in document["videos"]] == [1, 1, 1, 1]
    assert {path.stem for path in (tmp_path / "out").glob("*.srt")} == {"first", "fourth", "third", "second"}


def test_a_video_named_twice_is_done_once(run, folder):
    document = json.loads(run(folder / "fourth.mp4", folder, "--json").stdout)
    assert names(document) == ["fourth.mp4", "first.MP4", "third.mkv", "second.mp4"]


def test_a_folder_without_videos_is_an_input_error_before_any_work(run, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "empty")
    assert result.exit_code == 3
    assert "no videos in" in result.stderr
    assert not (tmp_path / "out").exists()


def test_jobs_write_what_one_after_another_writes(run, folder, tmp_path):
    run(folder, "--jobs", "3")
    several = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.srt")}
    shutil.rmtree(tmp_path / "out")
    run(folder)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.srt")} == several
    assert len(several) == 4


def test_one_bad_video_fails_alone(run, folder):
    (folder / "bad.mp4").write_text("no video at all")
    result = run(folder, "--jobs", "3", "--json")
    assert result.exit_code == 6
    document = json.loads(result.stdout)
    assert names(document)[0] == "bad.mp4"
    assert "bad.mp4" in document["videos"][0]["error"]["message"]
    assert [entry["captions"] for entry in document["videos"][1:]] == [1, 1, 1, 1]


def test_files_of_the_user_s_are_not_replaced_and_the_others_written(run, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fourth.srt").write_text("mine")
    result = run(folder, "--jobs", "3")
    assert result.exit_code == 6
    assert (tmp_path / "out" / "fourth.srt").read_text() == "mine"
    assert len(list((tmp_path / "out").glob("*.srt"))) == 4


def test_resume_does_only_what_is_missing(run, folder, tmp_path):
    run(folder / "first.MP4", folder / "more" / "third.mkv", "--jobs", "2")
    document = json.loads(run(folder, "--resume", "--jobs", "2", "--json").stdout)
    assert [entry["resumed"] for entry in document["videos"]] == [True, False, True, False]


def complete(out, stem):
    return {f"{stem}.srt", f"{stem}.json", f".{stem}.cb-infer.json"} <= {path.name for path in out.iterdir()}


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_ctrl_c_stops_all_and_keeps_finished_ones(run, folder, tmp_path, monkeypatch):
    whole, out = BoundaryPredictor.predict_video, tmp_path / "out"

    def interrupting(self, path, **options):
        if path.stem != "first":
            wait_until(lambda: complete(out, "first"))
            if path.stem == "fourth":
                signal.raise_signal(signal.SIGINT)
            assert self._halt.wait(PATIENCE)
        return whole(self, path, **options)

    monkeypatch.setattr(BoundaryPredictor, "predict_video", interrupting)
    result = run(folder, "--jobs", "2", "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["error"]["type"] == "Interrupted"
    assert {path.name for path in out.iterdir()} == {"first.srt", "first.json", ".first.cb-infer.json"}
    monkeypatch.undo()
    document = json.loads(run(folder, "--resume", "--jobs", "2", "--json").stdout)
    assert [entry["resumed"] for entry in document["videos"]] == [True, False, False, False]


def test_a_full_disk_ends_all_and_what_was_told_before_is_told(run, folder, monkeypatch):
    write = inference.write_track

    def full(track, path, name):
        if "fourth" in path.name:
            raise StorageError("No space left on device")
        write(track, path, name)

    monkeypatch.setattr(inference, "write_track", full)
    result = run(folder, "--jobs", "2", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["type"] == "StorageError"


def test_what_is_wrong_with_the_model_ends_all(run, folder, monkeypatch):
    def broken(self, path, **options):
        raise ModelError("out of memory")

    monkeypatch.setattr(BoundaryPredictor, "predict_video", broken)
    result = run(folder, "--jobs", "2")
    assert result.exit_code == 4
    assert "out of memory" in result.stderr


def test_a_profile_is_of_all_videos_and_has_the_model_they_share(run, folder, tmp_path):
    document = json.loads(
        run(folder, "--jobs", "2", "--skip", "none", "--coarse", "1", "--profile", tmp_path / "t.png", "--json").stdout
    )
    items = {row["name"]: row["items"] for row in document["profile"]["stages"]}
    assert items["decode"] == 80
    assert items["shared model"] == items["model"] == 4 * 2 * (19 + 18 + 17)


def test_less_than_one_job_is_a_usage_error(run, folder, tmp_path):
    result = run(folder, "--jobs", "0")
    assert result.exit_code == 2
    assert "--jobs" in result.stderr
    assert not (tmp_path / "out").exists()
