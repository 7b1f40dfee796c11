import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cb_core.cli.synth import synth
from cb_core.synth.truth import read_truth

ARGUMENTS = ["--videos", "2", "--seconds", "1", "--seed", "4", "--size", "160x96", "--fps", "10", "--jobs", "1"]


def run(*arguments):
    return CliRunner().invoke(synth, [str(argument) for argument in arguments])


def test_json_lists_files_and_counts(tmp_path):
    result = run(tmp_path, *ARGUMENTS, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["rendered"], document["kept"], document["frames"]) == (2, 0, 20)
    assert len(document["videos"]) == 2
    truth = read_truth(document["videos"][0]["truth"])
    assert (truth["width"], truth["height"], truth["frame_rate"], truth["seed"]) == (160, 96, [10, 1], 4)
    assert document["captions"] == sum(len(read_truth(row["truth"])["captions"]) for row in document["videos"])


def test_a_second_run_says_that_all_was_there(tmp_path):
    assert "2 rendered" in run(tmp_path, *ARGUMENTS).output
    again = run(tmp_path, *ARGUMENTS)
    assert again.exit_code == 0
    assert "2 kept" in again.output


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--size", "big"], 2, "WIDTHxHEIGHT"),
        (["--size", "161x96"], 2, "even numbers"),
        (["--fps", "many"], 2, "frame rate"),
        (["--videos", "0"], 2, "at least 1"),
        (["--seconds", "0.5"], 2, "at least 1 second"),
        (["--seconds", "nan"], 2, "finite number of seconds"),
        (["--seconds", "inf"], 2, "finite number of seconds"),
        (["--jobs", "0"], 2, "at least 1"),
        (["--backgrounds", "no/such/folder"], 3, "does not exist"),
        (["--fonts", "no/such/folder"], 3, "does not exist"),
    ],
)
def test_wrong_options_are_explained(tmp_path, arguments, exit_code, message):
    result = run(tmp_path / "out", *arguments)
    assert result.exit_code == exit_code
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_errors_are_one_json_document_when_json_is_asked_for(tmp_path):
    result = run(tmp_path, "--fps", "many", "--json")
    assert json.loads(result.stdout)["error"]["exit_code"] == 2


def test_replacing_videos_of_other_settings_must_be_asked_for(tmp_path):
    run(tmp_path, *ARGUMENTS)
    refused = run(tmp_path, *ARGUMENTS, "--seconds", "2")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert run(tmp_path, *ARGUMENTS, "--seconds", "2", "--overwrite").exit_code == 0


def test_a_damaged_ground_truth_is_replaced_when_that_is_asked_for(tmp_path):
    document = json.loads(run(tmp_path, *ARGUMENTS, "--json").stdout)
    truth = Path(document["videos"][0]["truth"])
    whole = truth.read_bytes()
    truth.write_bytes(whole[:100])
    refused = run(tmp_path, *ARGUMENTS)
    assert refused.exit_code == 3
    assert "--overwrite replaces it" in " ".join(refused.output.split())
    replaced = run(tmp_path, *ARGUMENTS, "--overwrite", "--json")
    assert (replaced.exit_code, json.loads(replaced.stdout)["rendered"]) == (0, 1)
    assert read_truth(truth) == json.loads(whole)


def test_help_needs_none_of_the_heavy_packages():
    code = "import sys, cb_core.cli.synth; print([m for m in ('PIL', 'cv2', 'av', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
