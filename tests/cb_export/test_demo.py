"""`cb demo`: the whole path, small enough for a test."""

import json

import pytest
from click.testing import CliRunner

from cb_runtime.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


def run(folder, *options):
    arguments = ["demo", "--output", str(folder), "--videos", "4", "--seconds", "10", "--epochs", "1", *options]
    return CliRunner().invoke(main, arguments)


def test_the_whole_path_ends_with_scores_and_subtitles(folder):
    result = run(folder, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [score["tolerance_frames"] for score in document["boundary_scores"]] == [0, 1, 2]
    assert all(score["true"] > 0 for score in document["boundary_scores"])
    assert set(document["seconds"]) == {"synth", "dataset", "train", "export", "infer"}
    assert (folder / "demo.onnx").is_file()
    assert (folder / "subtitles" / "video_0000.srt").is_file()


def test_a_demo_that_was_done_is_taken_up_again(folder):
    before = (folder / "run" / "best.pt").read_bytes()
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "Boundary F1 at tolerance 0" in result.stdout
    assert "Subtitles: " in result.stdout
    assert (folder / "run" / "best.pt").read_bytes() == before
