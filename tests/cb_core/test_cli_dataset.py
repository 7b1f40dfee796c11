import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner
from data_videos import REGION, write_captioned

from cb_core.cli.dataset import dataset
from cb_core.data import builder
from cb_core.data.database import open_session_on
from cb_runtime.contract import LABELS, OCR_VIZ_VARIANTS, RESIZE_STRATEGIES

CAPTIONS = [(10, 25, "one"), (25, 40, "two")]


@pytest.fixture(scope="session")
def two_videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    for number in range(2):
        write_captioned(folder, f"v{number}", CAPTIONS, 50, seed=number)
    return folder


@pytest.fixture
def videos(two_videos, tmp_path):
    return shutil.copytree(two_videos, tmp_path / "videos")


def run(*arguments):
    return CliRunner().invoke(dataset, [str(argument) for argument in arguments])


def create(videos, *more):
    return run("create", videos.parent / "d.db", "--videos", videos, *more)


def test_create_and_info_show_the_same_dataset(videos):
    created = create(videos, "--region", REGION, "--json")
    assert created.exit_code == 0, created.output
    document = json.loads(created.stdout)
    assert len(document["added"]) == 2
    shown = run("info", videos.parent / "d.db", "--json")
    assert json.loads(shown.stdout) == document["summary"]
    assert list(document["summary"]["pairs"]["train"]) == list(LABELS)


def test_people_get_a_table_and_warnings(videos):
    result = create(videos, "--region", REGION)
    assert result.exit_code == 0
    for word in (*LABELS, "train", "val", "test"):
        assert word in result.stdout
    assert "2 videos added, 0 were there already" in result.stdout
    assert "Split 'test' has no videos" in result.stderr


def test_a_datasets_password_is_not_shown(videos, monkeypatch):
    url, real = "postgresql+psycopg://me:secret@host/films", videos.parent / "d.db"
    monkeypatch.setattr(builder, "open_session_on", lambda _, create: open_session_on(real, create=create))
    monkeypatch.setattr(builder, "_scratch", lambda _: real.parent)
    command = ("create", url, "--videos", videos, "--region", REGION)
    for arguments in ((), ("--json",), ("--seed", 1)):
        result = run(*command, *arguments)
        assert "postgresql+psycopg://me:***@host/films" in result.output
        assert "secret" not in result.output
    assert result.exit_code == 3


def test_quiet_prints_no_summary(videos):
    assert create(videos, "--region", REGION, "--quiet").stdout == ""


def test_a_region_is_asked_for_when_it_is_no_region(videos):
    result = create(videos, "--region", "nonsense", "--json")
    assert result.exit_code == 3
    assert "--region must be LEFT,TOP,RIGHT,BOTTOM" in json.loads(result.stdout)["error"]["message"]


def test_a_bad_video_beside_good_ones_ends_with_a_partial_result(videos):
    (videos / "v1.mkv").write_text("no video")
    (videos / "v2.mkv").write_text("no captions")
    shutil.copy(videos / "v0.mkv", videos / "v3.mkv")
    shutil.copy(videos / "v0.srt", videos / "v3.srt")
    result = create(videos, "--region", REGION)
    assert result.exit_code == 6
    assert "v1.mkv was left out" in result.stderr
    assert "v2.mkv was left out: it has no caption file" in result.stderr
    assert "v3.mkv was left out: it is a copy of" in result.stderr


def test_messages_of_a_video_are_shown(videos):
    (videos / "v0.srt").write_text("1\n00:00:01,000 --> 00:00:01,000\nflash\n")
    assert create(videos, "--region", REGION).exit_code == 6
    result = create(videos, "--region", REGION, "--skip-bad-captions")
    assert result.exit_code == 0
    assert "no length: no frame shows it: left out" in result.stderr


def test_no_usable_video_at_all_is_an_input_error(videos):
    for path in videos.glob("*.srt"):
        path.unlink()
    result = create(videos, "--region", REGION)
    assert result.exit_code == 3
    assert "no caption file of the same name" in result.stderr


def test_info_on_a_missing_dataset_is_an_input_error(tmp_path):
    result = run("info", tmp_path / "none.db")
    assert result.exit_code == 3
    assert "cb dataset create" in result.stderr


def test_distances_must_be_numbers(videos):
    result = create(videos, "--region", REGION, "--distances", "1,two")
    assert result.exit_code == 2
    assert "--distances must be whole numbers" in result.stderr


def test_options_reach_the_dataset(videos, tmp_path):
    captions = tmp_path / "captions"
    captions.mkdir()
    for path in videos.glob("*.srt"):
        path.rename(captions / path.name)
    layout = tmp_path / "layout.json"
    layout.write_text('{"region": [0, 60, 160, 96]}')
    result = create(
        videos,
        *("--captions", captions, "--layout", layout, "--pairs-per-video", 100, "--distances", "1,3"),
        *("--val-share", 0, "--test-share", 0, "--seed", 4, "--resize-strategy", "crop", "--ocr-viz-variant", "both"),
        "--json",
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)["summary"]
    assert summary["videos"] == {"train": 2, "val": 0, "test": 0}
    assert summary["preprocessing"]["resize_strategy"] == "crop"
    assert summary["ocr_viz_variant"] == "both"
    assert sum(summary["pairs"]["train"].values()) <= 200
    assert list(summary["distances"]) == ["1", "3", "further"]
    assert all(summary["distances"].values())


def test_font_weights_that_are_none_are_a_model_error(videos, tmp_path):
    (tmp_path / "font.pt").write_bytes(b"nothing")
    result = create(videos, "--region", REGION, "--font-model", tmp_path / "font.pt")
    assert result.exit_code == 4
    assert "does not hold weights" in result.stderr


def test_choices_are_those_of_the_contract():
    options = {option.name: option for option in dataset.commands["create"].params}
    assert tuple(options["resize_strategy"].type.choices) == RESIZE_STRATEGIES
    assert tuple(options["ocr_viz_variant"].type.choices) == OCR_VIZ_VARIANTS


@pytest.mark.parametrize("command", ["create", "info"])
def test_without_sqlalchemy_the_extra_is_named(command, videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    arguments = ["--videos", videos] if command == "create" else []
    result = run(command, videos.parent / "d.db", *arguments)
    assert result.exit_code == 2
    assert "cb-toolkit[train]" in result.stderr


def test_help_says_which_caption_file_counts():
    words = " ".join(run("create", "--help").stdout.split())
    assert "A .json that is no caption file is passed over" in words
    assert "written by `cb infer` (it has the key 'model')" in words


def test_help_needs_no_heavy_package():
    code = "import sys, cb_core.cli.dataset; assert not {'torch', 'sqlalchemy', 'av', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
