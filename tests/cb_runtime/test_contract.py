"""The contract: metadata survives every form it travels in, and nothing foreign is taken for ours."""

import dataclasses
import json

import pytest

from cb_runtime.contract import (
    COMPACT_LIMIT,
    INPUT_NAMES,
    LABELS,
    OUTPUT_SPECS,
    REVERSED_LABEL,
    SCHEMA,
    Decoding,
    ModelMetadata,
    Preprocessing,
    TensorSpec,
    architecture_input_specs,
    graph_input_specs,
    metadata_from_dict,
    metadata_from_json,
    model_differences,
)
from cb_runtime.errors import ContractError

FULL = ModelMetadata(
    architecture_name="shared_backbone_resnet50",
    model_config={"pretrained": True, "dropout": 0.2},
    preprocessing=Preprocessing(resize_strategy="crop", mean=(0.1, 0.2, 0.3)),
    decoding=Decoding((1, 2), (1.0, 0.5), 3, 2.5, 0.75, 0.4, -0.25, 8, 0.5),
    ocr_viz_variant="3d_channels",
    use_font_embedding=True,
    fontclip_model_version="open_clip/ViT-B-32",
    ocr_engine="rapidocr",
    ocr_engine_version="3.10.0",
    precision="fp16",
    checkpoint_sha256="ab" * 32,
    git_commit="c0ffee-dirty",
    dataset_name="films",
    dataset_digest="cd" * 32,
    validation_metrics={"f1": 0.98, "per_class": [0.9, 1.0]},
    lora_merge={"layers": 36, "max_abs_difference": 1e-7},
    opset=20,
    training_versions={"torch": "2.14.0"},
    export_commit="c0ffee",
    producer_versions={"torch": "2.15.0"},
    export_date="2026-11-24T10:00:00Z",
    calibration={"samples": 128},
    keep_float=("classifier.compare",),
    parity={"passed": True},
)


def test_labels_are_those_of_the_task():
    assert LABELS == ("same", "different", "empty_empty", "empty_valid", "valid_empty")


def test_reversing_a_pair_twice_gives_it_back():
    assert [REVERSED_LABEL[REVERSED_LABEL[i]] for i in range(5)] == list(range(5))
    assert LABELS[REVERSED_LABEL[3]] == "valid_empty"


@pytest.mark.parametrize("metadata", [FULL, ModelMetadata("compact_aligned_resnet")])
def test_metadata_reads_back_equal_from_both_forms(metadata):
    assert metadata_from_json(metadata.to_json()) == metadata
    assert metadata_from_json(metadata.to_compact_json()) == metadata
    assert metadata_from_dict(metadata.to_dict()) == metadata


def test_every_field_is_carried():
    default = ModelMetadata(FULL.architecture_name)
    constant = {"labels", "outputs", "schema", "inputs", "architecture_name"}
    same = {f.name for f in dataclasses.fields(FULL) if getattr(FULL, f.name) == getattr(default, f.name)}
    assert same <= constant, "give FULL another value for these, so that the round trip proves something"


def test_the_compact_form_gives_up_reports_before_it_gives_up_inference():
    long = FULL.replace(validation_metrics={"curve": [0.123456] * 2000})
    text = long.to_compact_json()
    assert len(text.encode()) <= COMPACT_LIMIT
    assert metadata_from_json(text).preprocessing == FULL.preprocessing
    assert metadata_from_json(text).decoding == FULL.decoding
    assert metadata_from_json(text).validation_metrics == {}


def test_metadata_that_cannot_be_made_short_is_refused():
    with pytest.raises(ContractError, match=r"Compact metadata is \d+ bytes, the limit is 4095"):
        FULL.replace(model_config={"text": "x" * 5000}).to_compact_json()


def test_an_unknown_schema_is_refused_with_what_to_do():
    values = {**FULL.to_dict(), "schema": SCHEMA + 1, "field_of_the_future": 1}
    with pytest.raises(ContractError, match=r"schema 2, this cb reads schema 1\. Install"):
        metadata_from_dict(values)


@pytest.mark.parametrize("values", [[], {}, {"schema": 1}, {"architecture_name": "x"}, None, "text"])
def test_foreign_metadata_is_refused(values):
    with pytest.raises(ContractError, match="not written by cb"):
        metadata_from_dict(values)


def test_text_that_is_not_json_is_refused():
    with pytest.raises(ContractError, match="not JSON"):
        metadata_from_json("{")


def test_unknown_fields_are_refused():
    with pytest.raises(ContractError, match=r"unknown fields \['colour'\]"):
        metadata_from_dict({**FULL.to_dict(), "colour": "red"})


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": {}},
        {"preprocessing": 3},
        {"inputs": [{"name": "x"}]},
        {"decoding": 3},
        {"decoding": {"colour": "red"}},
        {"decoding": {"change_penalty": "much"}},
    ],
)
def test_malformed_metadata_is_refused(change):
    with pytest.raises(ContractError, match="malformed"):
        metadata_from_dict({**FULL.to_dict(), **change})


def test_metadata_from_before_decoding_travelled_with_it_reads_as_the_default():
    values = FULL.to_dict()
    del values["decoding"]
    assert metadata_from_dict(values).decoding == Decoding()


def test_a_decoding_from_before_far_pairs_asks_for_none():
    values = FULL.to_dict()
    for name in ("far_distance", "far_margin"):
        del values["decoding"][name]
    assert metadata_from_dict(values).decoding.far_distances == ()
    assert FULL.decoding.far_distances == (8,)


def test_a_distance_has_its_weight_and_one_that_has_none_has_weight_one():
    assert [Decoding((1, 3), (0.5, 2.0)).weight(distance) for distance in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert Decoding().weight(3) == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("distances", value) for value in [(), (2,), (1, 1), (1, 99), (1, 2.5)]),
        *(("distance_weights", value) for value in [(1.0,), (1.0, 0.0, 1.0), (1.0, 1.0, float("nan"))]),
        ("min_frames", 0),
        *(("change_penalty", value) for value in [-1.0, float("inf")]),
        *(("blink_penalty", value) for value in [-1.0, float("nan")]),
        *(("score_scale", value) for value in [0.0, float("inf")]),
        ("score_offset", float("nan")),
        *(("far_distance", value) for value in [-1, 1, 4, 17]),
        ("far_margin", float("inf")),
    ],
)
def test_decoding_out_of_range_is_refused(name, value):
    with pytest.raises(ContractError, match=f"Decoding: {name} is out of range"):
        Decoding(**{name: value})


def test_other_labels_are_refused():
    with pytest.raises(ContractError, match="another task"):
        metadata_from_dict({**FULL.to_dict(), "labels": ["yes", "no"]})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Preprocessing(resize_strategy="stretch"),
        lambda: Preprocessing(resampling="nearest"),
        lambda: Preprocessing(colour_order="BGR"),
        lambda: ModelMetadata("x", ocr_viz_variant="hearts"),
    ],
)
def test_values_outside_their_tables_are_refused_with_the_table(make):
    with pytest.raises(ContractError, match="must be one of"):
        make()


def test_a_tensor_that_does_not_fit_is_described_in_the_users_words():
    spec = graph_input_specs()[1]
    assert spec.mismatch("uint8", (8, 48, 480, 3)) is None
    assert spec.mismatch("float32", (8, 3, 48, 480)) == (
        "Input 'frame1' must be uint8 (batch, 48, 480, 3), got float32 (8, 3, 48, 480)."
    )
    assert TensorSpec("x", "float32", ("batch",)).mismatch("float32", (1, 1)) is not None


def test_specs_follow_the_preprocessing():
    wanted = Preprocessing(height=32, width=320)
    assert graph_input_specs(wanted)[0].shape == ("batch", 32, 320, 3)
    assert architecture_input_specs(wanted)[0].shape == ("batch", 3, 32, 320)
    assert ModelMetadata("x", preprocessing=wanted).inputs == graph_input_specs(wanted)
    assert tuple(spec.name for spec in graph_input_specs()) == INPUT_NAMES
    assert OUTPUT_SPECS[0].shape == ("batch", 5)


def test_json_is_plain():
    assert json.loads(FULL.to_json())["inputs"][0] == {
        "name": "ocr_viz",
        "dtype": "uint8",
        "shape": ["batch", 48, 480, 3],
    }


def test_artifacts_of_one_model_differ_in_how_they_were_built_and_measured_only():
    one = ModelMetadata("x", checkpoint_sha256="a" * 64)
    other = one.replace(precision="int8", opset=20, export_date="2026-01-01", parity={"ok": True}, git_commit="c")
    assert model_differences(one, other) == ()
    changed = other.replace(checkpoint_sha256="b" * 64, decoding=Decoding(min_frames=2))
    assert model_differences(one, changed) == ("decoding", "checkpoint_sha256")
