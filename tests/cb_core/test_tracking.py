"""Experiments: the table, the questions users ask, the mirrors."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import create_engine, func
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tiny_training import ARCHITECTURE, run_config, write_dataset

from cb_core.data import get_dataset_db
from cb_core.data.base import Base
from cb_core.tracking import Experiment, queries, recorder, sinks
from cb_core.tracking.recorder import start_experiment
from cb_core.tracking.sinks import SINKS, RunDescription, Sinks, check_sinks, scalars
from cb_core.training import train
from cb_runtime.errors import InputError, MissingPackageError, UsageError


@pytest.fixture(scope="module")
def whole_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny.db")


@pytest.fixture
def path(whole_dataset, tmp_path):
    return shutil.copy(whole_dataset, tmp_path / "tiny.db")


@pytest.fixture
def filled(path):
    with next(get_dataset_db(path)) as db:
        for name, architecture, f1 in (("a", "one", 0.5), ("b", "two", 0.9), ("c", "one", 0.7), ("d", "two", None)):
            config = {"width": len(name), "depth": 3, **({"extra": 1} if name == "b" else {})}
            db.add(Experiment(name=name, architecture_name=architecture, model_config=config, best_val_f1=f1))
        db.commit()
    return path


def test_the_queries_users_write_work_word_for_word(path):
    with next(get_dataset_db(path)) as db:
        experiment = Experiment(
            name="baseline",
            architecture_name="shared_backbone_resnet50",
            model_config={"pretrained": True},
            hyperparameters={"learning_rate": 1e-4},
            fontclip_model_version="fontclip-1",
            git_commit="0123abc",
        )
        db.add(experiment)
        db.commit()
        assert experiment.status == "running"
        assert experiment.started_at is not None
        experiment.best_val_f1 = 0.75
        db.commit()
    with next(get_dataset_db(path)) as db:
        best = db.query(Experiment).order_by(Experiment.best_val_f1.desc()).first()
        assert best.name == "baseline"
        assert best.model_config == {"pretrained": True}
        averages = (
            db.query(Experiment.architecture_name, func.avg(Experiment.best_val_f1))
            .group_by(Experiment.architecture_name)
            .all()
        )
        assert [tuple(row) for row in averages] == [("shared_backbone_resnet50", 0.75)]


def test_the_best_experiment_is_never_one_without_a_result(filled):
    with next(get_dataset_db(filled)) as db:
        assert db.query(Experiment).order_by(Experiment.best_val_f1.desc()).first().name == "b"
        query = str(db.query(Experiment.id).order_by(Experiment.best_val_f1.desc()).statement.compile(
            dialect=postgresql.dialect()))  # fmt: skip
        assert query.endswith("DESC NULLS LAST")


def test_experiments_are_listed_newest_first_and_found_by_name(filled):
    with next(get_dataset_db(filled)) as db:
        assert [item.name for item in queries.list_experiments(db)] == ["d", "c", "b", "a"]
        assert queries.find_experiment(db, "b").architecture_name == "two"


def test_an_unknown_experiment_is_answered_with_the_known_ones(filled):
    with next(get_dataset_db(filled)) as db, pytest.raises(InputError, match=r"no experiment 'x'.* Known: a, b, c, d"):
        queries.find_experiment(db, "x")


def test_the_best_of_an_architecture(filled):
    with next(get_dataset_db(filled)) as db:
        assert queries.best_experiment(db).name == "b"
        assert queries.best_experiment(db, "one").name == "c"
        with pytest.raises(InputError, match="architecture 'three' has finished an epoch"):
            queries.best_experiment(db, "three")


def test_averages_leave_out_runs_without_a_result(filled):
    with next(get_dataset_db(filled)) as db:
        assert queries.average_f1_by_architecture(db) == {"two": pytest.approx(0.9), "one": pytest.approx(0.6)}


def test_a_comparison_shows_the_options_that_differ_and_no_others(filled):
    with next(get_dataset_db(filled)) as db:
        rows = queries.compare_experiments([queries.find_experiment(db, name) for name in ("a", "b")])
    assert rows["best_val_f1"] == [0.5, 0.9]
    assert rows["model_config.extra"] == [None, 1]
    assert not {"model_config.width", "model_config.depth"} & rows.keys()


def test_an_experiment_is_plain_json(filled):
    with next(get_dataset_db(filled)) as db:
        values = queries.experiment_to_dict(queries.find_experiment(db, "a"))
    assert values["model_config"] == {"width": 1, "depth": 3}
    assert isinstance(values["started_at"], str)
    assert values["finished_at"] is None


def test_times_are_told_in_utc_with_their_offset(filled):
    with next(get_dataset_db(filled)) as db:
        row = queries.find_experiment(db, "a")
        stored = row.started_at.replace(tzinfo=UTC)
        assert queries.experiment_to_dict(row)["started_at"] == stored.isoformat()
    elsewhere = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    values = queries.experiment_to_dict(Experiment(name="x", started_at=elsewhere))
    assert values["started_at"] == "2026-02-28T23:30:00+00:00"


def test_the_migrated_table_has_the_columns_of_the_class(path):
    with next(get_dataset_db(path)) as db:
        names = {row[1] for row in db.connection().exec_driver_sql("PRAGMA table_info(experiments)")}
    assert names == set(Experiment.__table__.columns.keys())


def test_experiments_live_in_any_database_sqlalchemy_reaches():
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as db:
        db.add(Experiment(name="a", architecture_name="b"))
        db.commit()
        assert db.query(Experiment).one().history == []


FIRST, SECOND, OTHER = ({"epoch": epoch, "train_loss": loss} for epoch, loss in ((1, 0.7), (2, 0.5), (1, 0.6)))


@pytest.mark.parametrize(
    ("rows", "history", "expected"),
    [
        ([("running", [FIRST]), ("failed", [])], [FIRST, SECOND], 0),
        ([("finished", [FIRST, SECOND]), ("finished", [OTHER])], [FIRST, SECOND], 0),
        ([("finished", [FIRST]), ("running", [])], [FIRST], 0),
        ([("running", [])], [FIRST], 0),
        ([("interrupted", []), ("failed", [])], [], 1),
        ([("finished", [OTHER])], [FIRST], None),
        ([("finished", [FIRST])], [], None),
        ([("interrupted", [FIRST])], [], None),
        ([("finished", [])], [], None),
    ],
)
def test_a_resumed_run_goes_on_with_its_own_row_and_never_with_another_runs(path, rows, history, expected):
    with next(get_dataset_db(path)) as db:
        made = [
            Experiment(name="x", architecture_name="one", status=status, history=done, epochs_done=len(done))
            for status, done in rows
        ]
        db.add_all(made)
        db.commit()
        ids = [row.id for row in made]
    resumed = start_experiment(str(path), print, resume=history, name="x", architecture_name="one").experiment_id
    assert (ids.index(resumed) if resumed in ids else None) == expected


def test_a_new_run_gets_a_new_row_whatever_stands_under_its_name(filled):
    first, second = (start_experiment(str(filled), print, name="b", architecture_name="two") for _ in range(2))
    assert first.experiment_id != second.experiment_id


def test_a_database_that_cannot_be_written_is_a_warning(filled, monkeypatch):
    warnings = []
    row = start_experiment(str(filled), warnings.append, name="x", architecture_name="one")

    def locked(*_):
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(recorder, "get_dataset_db", locked)
    row.end("finished")
    assert "database is locked" in warnings[0]


def description(folder) -> RunDescription:
    return RunDescription("exp", folder, ARCHITECTURE, {"width": 4}, {"epochs": 2}, "tiny", "abc")


def test_only_numbers_reach_the_trackers_and_nested_ones_are_flattened():
    metrics = {"a": 1, "f1": {"same": 0.5}, "text": "x", "list": [1], "flag": True}
    assert scalars(metrics) == {"a": 1.0, "f1/same": 0.5}


def test_an_unknown_tracker_and_a_missing_package_are_said_before_training(monkeypatch):
    with pytest.raises(UsageError, match="Known: tensorboard, wandb, mlflow"):
        check_sinks(["clearml"])
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(MissingPackageError, match=r"cb-toolkit\[wandb\]"):
        check_sinks(["tensorboard", "wandb"])


class FailingSink:
    MODULE = "json"
    calls = 0

    def open_sink(self, _):
        return self

    def log(self, *_):
        FailingSink.calls += 1
        raise ConnectionError("no network")

    def close(self, _):
        raise AssertionError("a sink that failed is left alone")


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(path, monkeypatch):
    monkeypatch.setattr(sinks, "import_module", lambda _: FailingSink())
    warnings = []
    result = train(run_config(path, trackers=("wandb",)), warn=warnings.append)
    assert (result.status, result.epochs_done) == ("finished", 2)
    assert FailingSink.calls == 1
    assert [text for text in warnings if "Tracker wandb failed" in text and "no network" in text] == warnings


def test_a_tracker_that_cannot_start_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(FailingSink, "open_sink", lambda *_: 1 / 0)
    monkeypatch.setattr(sinks, "import_module", lambda _: FailingSink())
    warnings = []
    opened = Sinks(["wandb"], description(tmp_path), warnings.append)
    opened.log(1, {"a": 1})
    opened.close("finished")
    assert len(warnings) == 1


@pytest.mark.parametrize("name", SINKS)
def test_every_tracker_has_the_same_two_names(name):
    from importlib import import_module

    module = import_module(SINKS[name])
    assert isinstance(module.MODULE, str)
    assert callable(module.open_sink)


def test_tensorboard_gets_every_epoch(path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(run_config(path, trackers=("tensorboard",)))
    events = EventAccumulator(str(result.best_checkpoint.parent / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val_f1")] == [1, 2]
    assert events.Scalars("val_f1_by_label/same")
    assert "status/text_summary" in events.Tags()["tensors"]


def test_wandb_offline_keeps_architecture_as_a_tag_and_the_three_things_apart(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    seen, warnings = {}, []
    really_init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **given: seen.update(run=really_init(**given)) or seen["run"])
    opened = Sinks(["wandb"], description(tmp_path), warnings.append)
    run = seen["run"]
    assert run.tags == (ARCHITECTURE,)
    assert run.config["architecture_name"] == ARCHITECTURE
    assert dict(run.config["model_config"]) == {"width": 4}
    assert dict(run.config["hyperparameters"]) == {"epochs": 2}
    opened.log(1, {"val_f1": 0.5})
    opened.close("interrupted")
    assert warnings == []
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_mlflow_gets_every_epoch_and_how_the_run_ended(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    warnings = []
    opened = Sinks(["mlflow"], description(tmp_path), warnings.append)
    for epoch in (1, 2):
        opened.log(epoch, {"val_f1": epoch / 4})
    opened.close("interrupted")
    assert warnings == []
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("caption-boundaries")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert run.data.params == {"epochs": "2"}
    assert run.data.tags["architecture_name"] == ARCHITECTURE
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "val_f1")] == [0.25, 0.5]
