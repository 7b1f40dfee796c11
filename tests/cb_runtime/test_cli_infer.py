"""`cb infer`: files in, files and exit codes out."""

import json
import shutil
import sys

import pytest
from click.testing import CliRunner
from tiny_models import CAPTION, EMPTY, REGION, REGION_TEXT, bright_video, levels_of, tiny_model

from cb_runtime import inference
from cb_runtime.cli import main
from cb_runtime.contract import ModelMetadata
from cb_runtime.geometry import Box
from cb_runtime.layout import detection
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
    def call(*arguments, region=REGION_TEXT):
        where = ["--region", region] if region else []
        given = ["infer", "--checkpoint", model, "--output", tmp_path / "out", *where, *arguments]
        return CliRunner().invoke(main, [str(argument) for argument in given])

    return call


def test_each_video_gets_a_file_of_its_name_per_format(run, video, tmp_path):
    result = run(video)
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == ["film.json", "film.srt"]
    assert "00:00:00,240 --> 00:00:00,640" in (out / "film.srt").read_text()
    (segment,) = json.loads((out / "film.json").read_text())["segments"]
    assert (segment["start_frame"], segment["end_frame"]) == (6, 16)


def test_the_last_line_says_what_it_ran_on_and_why(run, video):
    last = run(video, "--backend", "onnxruntime").stdout.strip().splitlines()[-1]
    assert last == "Ran best.onnx with onnxruntime on cpu (this onnxruntime has no CUDA provider)."


def test_the_engine_asked_for_finds_the_same_captions(run, video, tmp_path):
    pytest.importorskip("openvino")
    written = []
    for engine in ("onnxruntime", "openvino"):
        document = json.loads(run(video, "--backend", engine, "--format", "srt", "--overwrite", "--json").stdout)
        assert document["model"]["backend"] == engine
        written.append((tmp_path / "out" / "film.srt").read_text())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--streams", "2", "--streams is for OpenVINO"),
        ("--precision", "bf16", "--precision bf16 cannot be had of best.onnx by onnxruntime"),
        ("--backend", "abacus", "Unknown backend 'abacus'"),
    ],
)
def test_an_engine_that_cannot_be_had_as_asked_is_a_usage_error(run, video, option, value, says):
    result = run(video, *([] if option == "--backend" else ["--backend", "onnxruntime"]), option, value)
    assert result.exit_code == 2
    assert says in result.stderr


def test_json_is_one_document_with_model_and_videos(run, video):
    result = run(video, "--json")
    document = json.loads(result.stdout)
    assert document["model"]["device"] == "cpu"
    (entry,) = document["videos"]
    assert entry["captions"] == 1
    assert entry["outputs"]["srt"].endswith("film.srt")


def test_a_staged_graph_of_another_model_stops_the_run_unless_reuse_is_switched_off(run, video, tmp_path):
    model = tiny_model(tmp_path / "own.onnx")
    (tmp_path / "own.staged").mkdir()
    result = run(video, "--checkpoint", model)
    assert result.exit_code == 4
    assert "own.staged is not the staged graph of own.onnx" in result.stderr
    assert run(video, "--checkpoint", model, "--no-reuse").exit_code == 0


@pytest.mark.parametrize("name", ["srt", "vtt", "ass", "json", "csv", "video_db"])
def test_every_format_can_be_asked_for(run, video, tmp_path, name):
    assert run(video, "--format", name).exit_code == 0
    assert len([path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]) == 1


def test_a_video_database_is_read_with_its_stored_layout(run, video, tmp_path):
    run(video, "--format", "video_db")
    database = shutil.move(tmp_path / "out" / "film.db", tmp_path / "stored.db")
    result = run(database, "--json", region=None)
    assert json.loads(result.stdout)["videos"][0]["captions"] == 1


def test_a_layout_file_gives_the_region(run, video, tmp_path):
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"boxes": [list(REGION)], "samples": 1, "region": list(REGION)}))
    result = run(video, "--layout", layout, "--json", region=None)
    assert json.loads(result.stdout)["videos"][0]["captions"] == 1


def test_distances_are_those_asked_for_or_the_model_s(run, video):
    statistics = [
        json.loads(run(video, "--json", *more).stdout)["videos"][0]["statistics"]["distances"]
        for more in ([], ["--distances", "1,2"])
    ]
    assert statistics == [[1, 2, 3], [1, 2]]


def test_one_bad_video_does_not_stop_the_others(run, video, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video at all")
    result = run(bad, video, "--json")
    assert result.exit_code == 6
    document = json.loads(result.stdout)
    assert "bad.mp4" in document["videos"][0]["error"]["message"]
    assert document["videos"][1]["captions"] == 1
    assert document["error"]["type"] == "PartialResultError"
    assert (tmp_path / "out" / "film.srt").exists()


def test_a_bad_video_alone_is_an_input_error(run, tmp_path):
    result = run(tmp_path / "gone.mp4")
    assert result.exit_code == 3
    assert "gone.mp4" in result.stderr


def test_a_region_outside_the_frame_is_a_usage_error(run, video, tmp_path):
    result = run(video, region="0,0,4000,40")
    assert result.exit_code == 2
    assert "outside the frame" in result.stderr


def test_a_partial_decode_keeps_its_outputs_and_says_so_in_the_exit_code(run, video, tmp_path, monkeypatch):
    whole = BoundaryPredictor.predict_video

    def partial(self, *arguments, **options):
        track = whole(self, *arguments, **options)
        return track.__class__(track.video, track.spans, track.layout, True, ("2 packets lost",), track.model, {})

    monkeypatch.setattr(BoundaryPredictor, "predict_video", partial)
    result = run(video)
    assert result.exit_code == 6
    assert "2 packets lost" in result.stderr
    assert (tmp_path / "out" / "film.srt").exists()


class FakeOcr:
    """Sees the same boxes in every frame."""

    engine, version, boxes = "fake", "1", ()

    def __call__(self, image):
        return [(Box(*box), 0.9) for box in self.boxes]


@pytest.fixture
def ocr(monkeypatch):
    """Let detection see these boxes in every frame."""

    def sees(*boxes):
        monkeypatch.setattr(FakeOcr, "boxes", boxes)
        monkeypatch.setattr(detection, "RapidOcrDetector", FakeOcr)

    return sees


def test_a_detected_region_is_told_with_the_others_and_a_serious_one_is_a_warning(run, video, ocr):
    ocr(REGION, (32, 8, 288, 38))
    result = run(video, "--json", region=None)
    assert result.exit_code == 0, result.output
    layout = json.loads(result.stdout)["videos"][0]["layout"]
    assert (layout["origin"], layout["anchor"], "boxes" in layout) == ("ocr", "center", False)
    (other,) = layout["other_regions"]
    assert other["score"] >= 0.5
    assert "Captions may also be at" in result.stderr
    assert "Captions may also be at" in run(video, region=None).stderr


def test_frames_without_text_are_an_empty_result_and_no_error(run, video, tmp_path, ocr):
    ocr()
    result = run(video, "--json", region=None)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(result.stdout)["videos"]
    assert (entry["captions"], entry["layout"]) == (0, None)
    assert "--region" in entry["messages"][0]
    assert json.loads((tmp_path / "out" / "film.json").read_text())["segments"] == []
    assert run(video, "--fail-on-empty", region=None).exit_code == 5


def test_without_ocr_package_the_error_names_the_extra_and_the_region_option(run, video, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    result = run(video, region=None)
    assert result.exit_code == 2
    assert "pip install 'cb-toolkit[ocr]'" in result.stderr
    assert "--region LEFT,TOP,RIGHT,BOTTOM" in result.stderr
    assert run(video).exit_code == 0


def test_fail_on_empty_tells_videos_without_captions_apart(run, tmp_path):
    dark = bright_video(tmp_path / "dark.mp4", [EMPTY] * 5)
    assert run(dark).exit_code == 0
    result = run(dark, "--fail-on-empty", "--json")
    assert result.exit_code == 5
    assert json.loads(result.stdout)["error"]["type"] == "NoCaptionsError"


@pytest.fixture
def count_predictions(monkeypatch):
    whole, seen = BoundaryPredictor.predict_video, []

    def counted(self, path, **options):
        seen.append(path.name)
        return whole(self, path, **options)

    monkeypatch.setattr(BoundaryPredictor, "predict_video", counted)
    return seen


def test_resume_leaves_out_what_is_done_and_does_the_rest(run, video, tmp_path, count_predictions):
    run(video)
    second = bright_video(tmp_path / "second.mp4", levels_of(*RUNS))
    result = run(video, second, "--resume", "--json")
    assert result.exit_code == 0
    assert count_predictions == ["film.mp4", "second.mp4"]
    entries = json.loads(result.stdout)["videos"]
    assert [(entry["resumed"], entry["captions"]) for entry in entries] == [(True, 1), (False, 1)]


def test_a_run_that_had_nothing_to_do_does_not_say_what_it_ran_with(run, video):
    assert "Ran best.onnx with onnxruntime" in run(video).stdout
    assert "Ran" not in run(video, "--resume").stdout


def test_resume_does_again_what_another_arithmetic_made(run, video, count_predictions, monkeypatch):
    run(video)
    model = BoundaryPredictor.model.func
    other = property(lambda self: {**model(self), "precision": "bf16"})
    monkeypatch.setattr(BoundaryPredictor, "model", other)
    run(video, "--resume")
    assert count_predictions == ["film.mp4"] * 2


def test_without_resume_everything_is_done_again(run, video, count_predictions):
    run(video)
    run(video)
    assert count_predictions == ["film.mp4"] * 2


@pytest.mark.parametrize(
    "change",
    ["min_frames", "penalty", "distances", "region", "format", "video", "lost output", "model", "broken record"],
)
def test_resume_does_again_what_was_made_otherwise(run, video, tmp_path, count_predictions, change):
    run(video)
    arguments, options = ["--resume"], {}
    if change == "min_frames":
        arguments += ["--min-frames", "2"]
    elif change == "penalty":
        arguments += ["--change-penalty", "2"]
    elif change == "distances":
        arguments += ["--distances", "1,2"]
    elif change == "region":
        options["region"] = "0,0,320,160"
    elif change == "format":
        arguments += ["--format", "srt"]
    elif change == "video":
        bright_video(video, levels_of((EMPTY, 3)))
    elif change == "lost output":
        (tmp_path / "out" / "film.srt").unlink()
    elif change == "model":
        arguments += ["--checkpoint", tiny_model(tmp_path / "other.onnx", ModelMetadata("other"))]
    else:
        (tmp_path / "out" / ".film.cb-infer.json").write_text("[]")
        arguments += ["--overwrite"]  # nothing says any more that the outputs are ours
    run(video, *arguments, **options)
    assert count_predictions == ["film.mp4"] * 2


def test_results_written_into_the_video_database_itself_can_be_resumed(run, video, tmp_path, count_predictions):
    run(video, "--format", "video_db")
    database = tmp_path / "out" / "film.db"
    run(database, "--format", "video_db", region=None)
    run(database, "--format", "video_db", "--resume", region=None)
    assert count_predictions == ["film.mp4", "film.db"]


def test_an_interruption_keeps_finished_videos_and_leaves_nothing_half_done(run, video, tmp_path, monkeypatch):
    second = bright_video(tmp_path / "second.mp4", levels_of(*RUNS))
    whole = BoundaryPredictor.predict_video

    def interrupted(self, path, **options):
        if path.name == "second.mp4":
            raise KeyboardInterrupt
        return whole(self, path, **options)

    monkeypatch.setattr(BoundaryPredictor, "predict_video", interrupted)
    result = run(video, second, "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["error"]["type"] == "Interrupted"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"film.srt", "film.json", ".film.cb-infer.json"}


def test_an_interruption_between_two_formats_leaves_the_earlier_outputs_as_they_were(run, video, tmp_path, monkeypatch):
    run(video)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write = inference.write_track

    def interrupted(track, path, name):
        if name == "json":
            raise KeyboardInterrupt
        write(track, path, name)

    monkeypatch.setattr(inference, "write_track", interrupted)
    assert run(video, "--min-frames", "2").exit_code == 130
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_videos_that_would_share_an_output_are_refused_before_any_work(run, video, tmp_path, count_predictions):
    (tmp_path / "more").mkdir()
    other = shutil.copy(video, tmp_path / "more" / "film.mp4")
    result = run(video, other)
    assert result.exit_code == 2
    assert "would both write" in result.stderr
    assert count_predictions == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "srt,docx"], "docx"),
        (["--format", ","], "--format needs"),
        (["--min-frames", "0"], "--min-frames"),
        (["--change-penalty", "-1"], "--change-penalty"),
        (["--distances", "2,1"], "--distances must ascend"),
        (["--distances", "all"], "--distances must be whole numbers"),
        (["--batch", "0"], "--batch"),
        (["--threads", "0"], "Threads"),
        (["--device", "tpu"], "tpu"),
        (["--layout", "x.json"], "not both"),
    ],
)
def test_options_out_of_range_are_usage_errors_before_any_work(run, video, arguments, says, tmp_path):
    result = run(video, *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_used_ends_the_run(run, video, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(b"cut")
    assert run(video, "--checkpoint", tmp_path / "cut.onnx").exit_code == 4
    assert run(video, "--device", "cuda").exit_code == 4


def test_quiet_prints_nothing_on_success(run, video):
    result = run(video, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
