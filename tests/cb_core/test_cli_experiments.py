"""`cb experiments`: what was trained, and how well it does."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from cb_core.cli.experiments import experiments
from cb_core.data import get_dataset_db
from cb_core.tracking import Experiment

EPOCH = {"epoch": 1, "train_loss": 1.25, "val_loss": 1.0, "val_f1": 0.5, "val_accuracy": 0.6}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tiny.db"
    with next(get_dataset_db(path, create=True)) as db:
        for name, f1, seed in (("first", 0.5, 1), ("second", 0.75, 2)):
            row = Experiment(name=name, architecture_name="small", best_val_f1=f1, hyperparameters={"seed": seed})
            row.history = [EPOCH]
            db.add(row)
        db.commit()
    return path


def run(*arguments):
    return CliRunner().invoke(experiments, [str(argument) for argument in arguments])


def test_list_shows_all_and_the_average_of_each_architecture(dataset):
    result = run("list", dataset)
    assert result.exit_code == 0, result.output
    assert all(text in result.stdout for text in ("first", "second", "running", "average macro F1 0.6250"))
    document = json.loads(run("list", dataset, "--json").stdout)
    assert [item["name"] for item in document["experiments"]] == ["second", "first"]
    assert document["average_f1"] == {"small": 0.625}


def test_show_tells_everything_of_one(dataset):
    assert all(text in run("show", dataset, "first").stdout for text in ("architecture_name", "small", "1.2500"))
    assert json.loads(run("show", dataset, "first", "--json").stdout)["history"] == [EPOCH]


def test_compare_sets_experiments_side_by_side(dataset):
    assert "hyperparameters.seed" in run("compare", dataset, "first", "second").stdout
    document = json.loads(run("compare", dataset, "first", "second", "--json").stdout)
    assert document["rows"]["hyperparameters.seed"] == [1, 2]


def test_best_is_the_one_with_the_highest_f1(dataset):
    assert "second" in run("best", dataset).stdout
    assert json.loads(run("best", dataset, "--json").stdout)["name"] == "second"


def test_an_unknown_experiment_or_architecture_ends_with_exit_code_3(dataset):
    assert run("show", dataset, "third").exit_code == 3
    assert run("best", dataset, "--architecture", "large").exit_code == 3


def test_a_missing_dataset_ends_with_exit_code_3(tmp_path):
    result = run("list", tmp_path / "nowhere.db", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["type"] == "InputError"
