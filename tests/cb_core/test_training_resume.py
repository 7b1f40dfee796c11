"""Runs that were stopped, killed or out of disk: what stays, and how they go on."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from tiny_training import run_config, write_dataset

from cb_core.backend import open_artifact
from cb_core.checkpoint import load_checkpoint
from cb_core.data import get_dataset_db
from cb_core.tracking import Experiment
from cb_core.training import train
from cb_core.training.state import RunState
from cb_runtime.backends import OpenOptions
from cb_runtime.errors import InputError, ModelError, UsageError
from cb_runtime.golden import golden_path, load_golden_samples

TIMES = ("seconds", "samples_per_second", "data_wait_share")


@pytest.fixture(scope="module")
def whole_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny.db")


@pytest.fixture
def dataset(whole_dataset, tmp_path):
    return shutil.copy(whole_dataset, tmp_path / "tiny.db")


def experiment(dataset) -> Experiment:
    with next(get_dataset_db(dataset)) as db:
        return db.query(Experiment).order_by(Experiment.id.desc()).first()


def losses(dataset) -> list[dict]:
    """Everything of the history that is not a time."""
    return [{key: entry[key] for key in entry if key not in TIMES} for entry in experiment(dataset).history]


@pytest.mark.parametrize("more", [{"balance": "sampler"}, {"hard_pairs": 0.5}], ids=["balanced", "mined"])
def test_an_interrupted_run_resumes_to_the_same_losses_and_the_same_row(dataset, tmp_path, more):
    settings = {"epochs": 4, "augment": True, **more}
    train(run_config(dataset, hyperparameters=settings))
    expected, weights = losses(dataset), load_checkpoint(tmp_path / "run" / "last.pt").model_state_dict
    shutil.rmtree(tmp_path / "run")

    def stop(report):
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_config(dataset, name="again", hyperparameters=settings), on_epoch=stop)
    train(run_config(dataset, name="again", architecture_name=None, hyperparameters=settings, resume=True))
    assert losses(dataset) == expected
    assert experiment(dataset).status == "finished"
    resumed = load_checkpoint(tmp_path / "run" / "last.pt").model_state_dict
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)
    with next(get_dataset_db(dataset)) as db:
        assert db.query(Experiment).filter(Experiment.name == "again").count() == 1


def test_more_epochs_may_be_asked_for_when_a_run_is_resumed(dataset):
    train(run_config(dataset, hyperparameters={"epochs": 1}))
    result = train(run_config(dataset, hyperparameters={"epochs": 2}, resume=True))
    assert result.epochs_done == 2


def test_resuming_a_finished_run_only_completes_its_golden_samples(dataset):
    result = train(run_config(dataset))
    golden = golden_path(result.best_checkpoint)
    before = load_golden_samples(golden)
    golden.unlink()
    assert train(run_config(dataset, resume=True)).epochs_done == result.epochs_done
    after = load_golden_samples(golden)
    assert (after.labels == before.labels).all()
    assert abs(after.logits - before.logits).max() < 1e-5


def test_resume_with_nothing_to_resume_starts_and_says_so(dataset):
    warnings = []
    train(run_config(dataset, resume=True, hyperparameters={"epochs": 1}), warn=warnings.append)
    assert any("training starts at the beginning" in text for text in warnings)


def test_resume_without_a_checkpoint_leaves_the_record_of_the_finished_run_of_that_name(dataset, tmp_path):
    train(run_config(dataset))
    before = losses(dataset)
    shutil.rmtree(tmp_path / "run")
    train(run_config(dataset, resume=True, hyperparameters={"epochs": 1, "seed": 3}))
    with next(get_dataset_db(dataset)) as db:
        rows = db.query(Experiment).order_by(Experiment.id).all()
        assert [(row.status, row.epochs_done) for row in rows] == [("finished", 2), ("finished", 1)]
        assert [entry["train_loss"] for entry in rows[0].history] == [entry["train_loss"] for entry in before]


def test_two_runs_of_one_name_in_two_folders_resume_into_their_own_rows(dataset, tmp_path):
    for folder, seed in (("one", 1), ("two", 2)):
        train(run_config(dataset, output=tmp_path / folder, hyperparameters={"epochs": 1, "seed": seed}))
    train(run_config(dataset, output=tmp_path / "one", resume=True, hyperparameters={"epochs": 2}))
    with next(get_dataset_db(dataset)) as db:
        rows = db.query(Experiment).order_by(Experiment.id).all()
        assert [(row.epochs_done, row.hyperparameters["seed"]) for row in rows] == [(2, 1), (1, 2)]


def test_best_checkpoint_and_golden_samples_of_other_weights_never_stand_together(dataset, monkeypatch):
    really_replace, golden_stood = Path.replace, []

    def replace(path, target):
        if target.name == "best.pt":
            golden_stood.append(golden_path(target).exists())
        return really_replace(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    every_epoch_is_best(monkeypatch)
    train(run_config(dataset))
    assert golden_stood == [False, False]


def every_epoch_is_best(monkeypatch):
    really_add = RunState.add_epoch
    monkeypatch.setattr(RunState, "add_epoch", lambda state, *given: really_add(state, *given) or True)


@pytest.mark.parametrize("writer", ["torch.save", "numpy.savez_compressed"])
def test_a_disk_full_at_a_better_epoch_leaves_the_last_best_model_usable(dataset, tmp_path, monkeypatch, writer):
    every_epoch_is_best(monkeypatch)
    stop_at_epoch_2 = {"full": False}
    module, _, name = writer.rpartition(".")
    really_write = getattr(import_module(module), name)

    def write(*given, **named):
        if stop_at_epoch_2["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(*given, **named)

    monkeypatch.setattr(writer, write)
    with pytest.raises(InputError, match=r"The disk is full: .*best"):
        train(run_config(dataset), on_epoch=lambda _: stop_at_epoch_2.update(full=True))
    row, best = experiment(dataset), tmp_path / "run" / "best.pt"
    assert (row.status, row.epochs_done) == ("failed", 1)
    assert "The disk is full" in row.message
    assert load_checkpoint(best).epoch == 1
    golden = load_golden_samples(golden_path(best))
    logits = open_artifact(best, OpenOptions("cpu")).run(golden.inputs)
    torch.testing.assert_close(torch.from_numpy(logits), torch.from_numpy(golden.logits), rtol=0, atol=1e-5)
    assert sorted(file.name for file in best.parent.iterdir()) == ["best.golden.npz", "best.pt", "last.pt"]
    stop_at_epoch_2["full"] = False
    assert train(run_config(dataset, resume=True)).epochs_done == 2


KILLED_WHILE_WRITING = """
import os, sys
from cb_runtime.files import atomic_path
with atomic_path(sys.argv[1]) as outer, atomic_path(outer) as inner:
    inner.write_bytes(b"half a checkpoint")
    os.kill(os.getpid(), 9)
"""


def test_what_killed_runs_left_half_written_is_removed_and_nothing_else(dataset, tmp_path):
    folder = tmp_path / "run"
    for name in ("best.pt", "last.pt", "best.golden.npz"):
        subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, folder / name], check=False)
    assert len(list(folder.iterdir())) == 6
    for name in (".last.pt", ".notes.pt", ".last.mine.pt"):
        (folder / name).write_bytes(b"the user's")
    train(run_config(dataset, resume=True, hyperparameters={"epochs": 1}))
    kept = {".last.pt", ".notes.pt", ".last.mine.pt", "best.pt", "last.pt", "best.golden.npz"}
    assert {file.name for file in folder.iterdir()} == kept


def test_a_folder_with_a_run_is_not_overwritten(dataset):
    train(run_config(dataset, hyperparameters={"epochs": 1}))
    with pytest.raises(UsageError, match=r"holds a run already\. Continue it with --resume"):
        train(run_config(dataset))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyperparameters": {"seed": 5}}, "seed 0 -> 5"),
        ({"architecture_name": "compact_aligned_resnet"}, "architecture_name 'tiny_for_tests'"),
        ({"model_config": {"width": 4}}, "width 16 -> 4"),
        ({"ocr_viz_variant": "centers"}, "ocr_viz_variant 'boundaries' -> 'centers'"),
        ({"use_font_embedding": True}, "use_font_embedding False -> True"),
    ],
)
def test_resume_refuses_what_would_make_it_another_run(dataset, change, message):
    train(run_config(dataset, hyperparameters={"epochs": 1}))
    with pytest.raises(UsageError, match=message):
        train(run_config(dataset, resume=True, **change))


def test_resume_refuses_a_changed_dataset(dataset):
    train(run_config(dataset))
    with next(get_dataset_db(dataset)) as db:
        from cb_core.data.schema import Video

        db.query(Video).first().content_digest = "f" * 64
        db.commit()
    with pytest.raises(UsageError, match="the dataset has changed"):
        train(run_config(dataset, resume=True))


def test_resume_refuses_other_arithmetic(dataset, monkeypatch):
    from cb_core.training import accelerator

    train(run_config(dataset, hyperparameters={"epochs": 1, "precision": "auto"}))
    now = "no" if accelerator.cpu_has_bf16() else "bf16"
    monkeypatch.setattr(accelerator, "cpu_has_bf16", lambda: now == "bf16")
    with pytest.raises(UsageError, match=f"here it would compute in {now}"):
        train(run_config(dataset, resume=True, hyperparameters={"precision": "auto"}))


def test_resume_refuses_a_checkpoint_without_training_state(dataset):
    result = train(run_config(dataset))
    shutil.copy(result.best_checkpoint, result.last_checkpoint)
    with pytest.raises(ModelError, match=r"no training state.*Resume from last\.pt"):
        train(run_config(dataset, resume=True))


def test_a_run_may_begin_with_the_model_of_another(dataset, tmp_path):
    first = train(run_config(dataset)).last_checkpoint
    tuned = run_config(
        dataset,
        name="tuned",
        architecture_name=None,
        output=tmp_path / "tuned",
        hyperparameters={"start_from": str(first), "epochs": 1, "learning_rate": 1e-9, "head_learning_rate": 1e-9},
    )
    weights = load_checkpoint(train(tuned).last_checkpoint).model_state_dict
    before = load_checkpoint(first).model_state_dict
    # Statistics of normalisation follow the data at any rate; weights hardly move at this one.
    learnt = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(weights[name], before[name], atol=1e-6) for name in learnt)
    assert experiment(dataset).hyperparameters["start_from"] == str(first)


def test_a_run_that_begins_with_another_model_takes_its_options(dataset, tmp_path):
    first = train(run_config(dataset, hyperparameters={"epochs": 1})).last_checkpoint
    settings = {"start_from": str(first), "epochs": 1}
    with pytest.raises(UsageError, match="--start-from takes the checkpoint's model, but these differ"):
        train(
            run_config(
                dataset,
                name="tuned",
                architecture_name="compact_aligned_resnet",
                output=tmp_path / "tuned",
                hyperparameters=settings,
            )
        )
