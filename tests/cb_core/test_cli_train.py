"""`cb train` as users run it: options, exit codes, kills."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner
from tiny_training import ARCHITECTURE, PLUGIN, write_dataset

from cb_core import models
from cb_core.checkpoint import load_checkpoint
from cb_core.cli.train import train
from cb_core.data import get_dataset_db
from cb_core.registry import create_model
from cb_core.tracking import Experiment
from cb_runtime.errors import ModelError

QUICK = ["--architecture", ARCHITECTURE, "--batch-size", "8", "--precision", "no", "--no-augment", "--workers", "0"]


@pytest.fixture(scope="module")
def whole_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny.db")


@pytest.fixture
def dataset(whole_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copy(whole_dataset, tmp_path / "tiny.db")


def run(dataset, *options, name="exp"):
    return CliRunner().invoke(train, [str(dataset), "--name", name, *QUICK, "--epochs", "1", *options])


def experiment(dataset) -> Experiment:
    with next(get_dataset_db(dataset)) as db:
        return db.query(Experiment).order_by(Experiment.id.desc()).first()


def test_a_line_for_each_epoch_and_a_summary_with_the_best_checkpoint(dataset):
    result = run(dataset, "--epochs", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/2", "2/2"]
    assert "macro F1" in result.stdout
    assert lines[-1] == "runs/exp/best.pt"


def test_json_is_one_document_on_success_and_on_failure(dataset):
    done = run(dataset, "--json")
    assert json.loads(done.stdout)["epochs_done"] == 1
    again = run(dataset, "--json")
    assert again.exit_code == 2
    assert "holds a run already" in json.loads(again.stdout)["error"]["message"]


def test_the_model_in_the_box_can_be_tuned_to_ones_own_videos(dataset):
    options = ["--batch-size", "8", "--precision", "no", "--no-augment", "--workers", "0", "--epochs", "1"]
    result = CliRunner().invoke(train, [str(dataset), "--name", "own", "--start-from", "default", *options])
    assert result.exit_code == 0, result.output
    assert load_checkpoint("runs/own/best.pt").config["architecture_name"] == "aligned_comparison"


def test_an_installation_without_the_models_checkpoint_says_what_to_do(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "DEFAULT_CHECKPOINT", tmp_path / "default.pt")
    result = run(dataset, "--start-from", "default")
    assert result.exit_code == ModelError.exit_code
    assert "name a .pt file" in result.stderr


def test_a_missing_checkpoint_to_start_from_is_named(dataset):
    result = run(dataset, "--start-from", "nothing.pt")
    assert result.exit_code == ModelError.exit_code
    assert "nothing.pt" in result.stderr


def test_under_accelerate_launch_only_the_first_process_prints_the_result(dataset, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = run(dataset, "--json")
    assert (result.exit_code, result.stdout) == (0, "")


def test_options_by_name_win_over_the_hyperparameter_object(dataset, tmp_path):
    file = tmp_path / "hyper.json"
    file.write_text(json.dumps({"seed": 5, "epochs": 7, "clip_norm": 2}))
    assert run(dataset, "--hyperparameters", str(file), "--head-learning-rate", "0.5").exit_code == 0
    stored = experiment(dataset).hyperparameters
    assert (stored["seed"], stored["epochs"], stored["clip_norm"], stored["head_learning_rate"]) == (5, 1, 2, 0.5)


def test_architecture_model_config_and_hyperparameters_stay_three_things(dataset):
    assert run(dataset, "--model-config", '{"width": 4}').exit_code == 0
    row = experiment(dataset)
    assert row.architecture_name == ARCHITECTURE
    assert row.model_config == {"width": 4, "pretrained": False}
    assert "width" not in row.hyperparameters


def test_no_pretrained_is_stored_in_model_config(dataset):
    assert run(dataset, "--no-pretrained").exit_code == 0
    assert load_checkpoint("runs/exp/best.pt").config["model_config"]["pretrained"] is False


def test_pretrained_with_a_path_starts_from_those_weights(dataset, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save(create_model(ARCHITECTURE).state_dict(), weights)
    result = run(dataset, "--pretrained", str(weights), "--learning-rate", "1e-9", "--head-learning-rate", "1e-9")
    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint("runs/exp/best.pt")
    assert checkpoint.config["model_config"]["pretrained"] == str(weights)
    started_from = torch.load(weights, weights_only=True)["fusion_mlp.0.weight"]
    torch.testing.assert_close(checkpoint.model_state_dict["fusion_mlp.0.weight"], started_from, atol=1e-5, rtol=0)


def test_pretrained_without_a_path_asks_for_the_architectures_own_weights(dataset):
    result = run(dataset, "--pretrained")
    assert isinstance(result.exception, OSError)
    assert experiment(dataset).model_config["pretrained"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pretrained", "--no-pretrained"), "contradict"),
        (("--model-config", '{"pretrained": true}', "--no-pretrained"), "--model-config says pretrained=True"),
        (("--model-config", '{"depth": 3}'), "has no option depth"),
        (("--model-config", '{"name": "x"}'), "has no option name"),
        (("--model-config", '{"validate": false}'), "has no option validate"),
        (("--model-config", '{"width": "a"}'), "model_config {'width': 'a'"),
        (("--hyperparameters", '{"lr": 3}'), "Unknown hyperparameters lr"),
        (("--tracker", "clearml"), "Unknown tracker 'clearml'"),
        (("--epochs", "0"), "epochs must be above 0"),
        (("--ocr-viz-variant", "foo"), "one of boundaries, centers, both, 3d_channels, got 'foo'"),
        (("--plugin", "nowhere.py"), "does not exist"),
    ],
)
def test_options_that_cannot_be_obeyed_end_with_exit_code_2(dataset, options, message):
    result = run(dataset, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_dataset_ends_with_exit_code_3(dataset):
    assert run(dataset.with_name("nowhere.db")).exit_code == 3


def test_an_unknown_architecture_ends_with_exit_code_4(dataset):
    assert run(dataset, "--architecture", "nonsense").exit_code == 4


def test_a_full_disk_ends_with_exit_code_3_and_the_row_says_so(dataset, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    result = run(dataset)
    assert result.exit_code == 3
    assert "The disk is full" in result.stderr
    assert "Free some space" in result.stderr
    row = experiment(dataset)
    assert row.status == "failed"
    assert "The disk is full" in row.message


def test_a_folder_that_cannot_be_written_is_told_before_the_run_starts(dataset, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = run(dataset, "--output", str(tmp_path / "file" / "run"))
    assert result.exit_code == 3
    assert "cannot be written" in result.stderr
    assert experiment(dataset) is None


def command(dataset, *options):
    arguments = ["train", str(dataset), "--name", "exp", "--plugin", str(PLUGIN), *QUICK, *options]
    return [sys.executable, "-c", "from cb_runtime.cli import main; main()", *arguments]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def wait_for_epoch(dataset, process, epochs: int) -> None:
    for _ in range(1200):
        if (row := experiment(dataset)) is not None and row.epochs_done >= epochs:
            return
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.05)
    raise AssertionError("the run never got that far")


LONG = ("--epochs", "400", "--patience", "0", "--schedule", "constant", "--balance", "sampler")


@pytest.fixture
def running(dataset):
    with subprocess.Popen(command(dataset, *LONG), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def losses(dataset):
    times = ("seconds", "samples_per_second", "data_wait_share")
    return [{key: entry[key] for key in entry if key not in times} for entry in experiment(dataset).history]


def test_a_run_killed_without_warning_resumes_with_the_same_losses(dataset, running):
    wait_for_epoch(dataset, running, 2)
    running.kill()
    running.wait()
    assert experiment(dataset).status == "running"
    done = load_checkpoint("runs/exp/last.pt").epoch
    resume = command(dataset, "--resume", "--epochs", str(done + 2))
    subprocess.run(resume, env=ENVIRONMENT, check=True, capture_output=True)
    resumed = losses(dataset)
    row = experiment(dataset)
    assert (row.status, row.epochs_done, len(resumed)) == ("finished", done + 2, done + 2)
    shutil.rmtree("runs")
    whole = command(dataset, *LONG, "--epochs", str(done + 2))
    subprocess.run(whole, env=ENVIRONMENT, check=True, capture_output=True)
    assert losses(dataset) == resumed


def test_a_run_that_is_terminated_says_interrupted_and_ends_with_130(dataset, running):
    wait_for_epoch(dataset, running, 1)
    running.send_signal(signal.SIGTERM)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Interrupted. What was done is kept." in stderr
    row = experiment(dataset)
    assert row.status == "interrupted"
    assert "Continue with --resume" in row.message
    assert load_checkpoint(row.last_checkpoint).epoch >= 1
