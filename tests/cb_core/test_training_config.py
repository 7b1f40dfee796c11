"""Options of a training run: three separate things, checked before anything starts."""

from __future__ import annotations

import json

import pytest

from cb_core.training.config import (
    Hyperparameters,
    RunConfig,
    hyperparameters_from_dict,
    hyperparameters_on_resume,
    mapping_from_text,
)
from cb_runtime.errors import UsageError


def test_hyperparameters_come_from_defaults_and_what_is_given():
    assert hyperparameters_from_dict({"epochs": 3, "balance": "sampler"}) == Hyperparameters(
        epochs=3, balance="sampler"
    )


def test_an_unknown_hyperparameter_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=r"Unknown hyperparameters lr\. Known: epochs, batch_size"):
        hyperparameters_from_dict({"lr": 0.1})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "3", "must be int"),
        ("epochs", True, "must be int"),
        ("epochs", 0, "above 0"),
        ("learning_rate", -1.0, "above 0"),
        ("weight_decay", -0.1, "0 or more"),
        ("label_smoothing", 1.0, "below 1"),
        ("max_minutes", 0, "above 0"),
        ("schedule", "step", "one of cosine, plateau, constant"),
        ("balance", "both", "one of weights, sampler, none"),
        ("precision", "int8", "one of auto, no, bf16, fp16"),
        ("augment", 1, "must be bool"),
        ("learning_rate", float("nan"), "finite"),
        ("weight_decay", float("inf"), "finite"),
        ("max_minutes", float("nan"), "finite"),
        ("hard_pairs", float("nan"), "finite"),
        ("label_smoothing", float("nan"), "finite"),
    ],
)
def test_a_hyperparameter_that_makes_no_sense_is_refused(name, value, message):
    with pytest.raises(UsageError, match=message):
        hyperparameters_from_dict({name: value})


@pytest.mark.parametrize("change", [{"device": "tpu"}, {"workers": -1}, {"ocr_viz_variant": "foo"}])
def test_a_place_to_run_that_makes_no_sense_is_refused(change):
    with pytest.raises(UsageError, match="must be"):
        RunConfig("a.db", "exp", **change)


def test_files_go_to_a_folder_named_after_the_experiment(tmp_path):
    assert RunConfig("a.db", "exp").folder.as_posix() == "runs/exp"
    assert RunConfig("a.db", "exp", output=tmp_path).folder == tmp_path


def test_resume_may_change_when_to_stop_and_nothing_else():
    stored = Hyperparameters(epochs=2, seed=7).to_dict()
    assert hyperparameters_on_resume(stored, {"epochs": 5, "seed": 7}).epochs == 5
    with pytest.raises(UsageError, match="seed 7 -> 8"):
        hyperparameters_on_resume(stored, {"seed": 8})


def test_json_options_take_text_or_a_file(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"width": 4}))
    assert mapping_from_text("--model-config", ' {"width": 4}') == {"width": 4}
    assert mapping_from_text("--model-config", str(file)) == {"width": 4}
    assert mapping_from_text("--model-config", None) == {}


def test_json_options_that_are_no_object_are_refused(tmp_path):
    file = tmp_path / "list.json"
    file.write_text("[1]")
    for text, message in (
        ("{width", "not valid JSON"),
        ("nowhere.json", "that holds one"),
        (str(file), "got list"),
    ):
        with pytest.raises(UsageError, match=message):
            mapping_from_text("--model-config", text)
