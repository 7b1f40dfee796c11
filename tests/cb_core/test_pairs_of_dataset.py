"""The runtime reads a dataset's pairs without SQLAlchemy, and gets what training gets."""

import sqlite3
from collections import Counter

import numpy as np
import pytest
from data_videos import write_captioned

from cb_core.data.builder import VideoInputsGiven, create_dataset, find_videos
from cb_core.data.torch_dataset import PairDataset
from cb_runtime.contract import INPUT_NAMES, ModelMetadata, Preprocessing
from cb_runtime.errors import InputError
from cb_runtime.measuring.dataset_file import pairs_of_dataset
from cb_runtime.measuring.pairs import read_pairs

PLAIN = ModelMetadata("tiny")
EVERYTHING = 10**6


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(3):
        write_captioned(folder, f"v{number}", [(15, 35, "one"), (40, 50, "two"), (50, 60, "three")], 70, seed=number)
    (folder / "layout.json").write_text('{"boxes": [[28, 66, 120, 94]], "samples": 1, "region": [0, 60, 160, 96]}')
    create_dataset(folder / "d.db", find_videos(folder), given=VideoInputsGiven(layout_file=folder / "layout.json"))
    return folder / "d.db"


@pytest.fixture
def dataset(original, tmp_path):
    """A copy, to be changed."""
    copy = tmp_path / "d.db"
    with sqlite3.connect(original) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    return copy


def change(path, statement, *values):
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("variant", ["boundaries", "centers"])
def test_all_pairs_of_a_split_are_those_of_training_whatever_picture_the_model_takes(original, variant):
    inputs, labels = pairs_of_dataset(original, PLAIN.replace(ocr_viz_variant=variant), "val", EVERYTHING)
    samples = list(PairDataset(original, "val", ocr_viz_variant=variant))
    assert len(samples) == len(labels) > 10
    for row, sample in enumerate(samples):
        assert labels[row] == sample["label"]
        for name in INPUT_NAMES:
            np.testing.assert_array_equal(inputs[name][row], sample[name].numpy())
            assert inputs[name].dtype == sample[name].numpy().dtype


def test_fewer_pairs_are_of_every_label_alike(original):
    _, labels = pairs_of_dataset(original, PLAIN, "val", 25)
    assert len(labels) == 25
    assert set(Counter(labels.tolist()).values()) == {5}


def test_the_dataset_is_left_as_it_was(original):
    before = original.read_bytes()
    pairs = read_pairs(original, PLAIN, "val", 10)
    assert len(pairs) == 10
    assert pairs.source == "d.db, split val"
    assert original.read_bytes() == before


def test_stored_font_embeddings_are_given_to_models_that_use_them(dataset):
    wanted = PLAIN.replace(use_font_embedding=True, fontclip_model_version="clip-1")
    with pytest.raises(InputError, match="no font embeddings of clip-1"):
        pairs_of_dataset(dataset, wanted, "val", 10)
    vector = np.arange(512, dtype="<f4").tobytes()
    change(
        dataset,
        "INSERT INTO font_embeddings (video_id, fontclip_model_version, vector) SELECT id, 'clip-1', ? FROM videos",
        vector,
    )
    inputs, _ = pairs_of_dataset(dataset, wanted, "val", 10)
    np.testing.assert_array_equal(inputs["font_embedding"][3], np.arange(512))
    assert not pairs_of_dataset(dataset, PLAIN, "val", 10)[0]["font_embedding"].any()


def test_strips_made_for_another_model_are_refused(original):
    other = ModelMetadata("tiny", preprocessing=Preprocessing(resize_strategy="crop"))
    with pytest.raises(InputError, match=r"--resize-strategy crop"):
        pairs_of_dataset(original, other, "val", 10)


def test_a_split_without_pairs_is_told(original):
    with pytest.raises(InputError, match="no pairs in split 'validation'"):
        pairs_of_dataset(original, PLAIN, "validation", 10)


def test_an_empty_dataset_is_told(dataset):
    change(dataset, "DELETE FROM dataset_settings")
    with pytest.raises(InputError, match="empty dataset"):
        pairs_of_dataset(dataset, PLAIN, "val", 10)


@pytest.mark.parametrize("picture", [b"", b"no picture"])
def test_a_damaged_picture_is_told(dataset, picture):
    change(dataset, "UPDATE strips SET image = ?", picture)
    with pytest.raises(InputError, match="a picture is no PNG"):
        pairs_of_dataset(dataset, PLAIN, "val", 10)
