import json
from contextlib import closing

import numpy as np
import open_clip
import pytest
import torch
from data_videos import REGION, write_captioned
from sqlalchemy import select

from cb_core.data.builder import VideoInputsGiven, create_dataset
from cb_core.data.database import get_dataset_db
from cb_core.data.fonts import FontEncoder
from cb_core.data.pictures import vector_from_bytes
from cb_core.data.schema import FontEmbedding
from cb_core.data.torch_dataset import PairDataset
from cb_runtime.errors import InputError, ModelError
from cb_runtime.layout import caption_layout
from cb_runtime.video import open_source
from cb_runtime.video.database import write_video_database

SMALL = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Weights of a tiny tower with random values, in open_clip's own form."""
    folder = tmp_path_factory.mktemp("fonts")
    for name, embed_dim in (("cb-test-small", 512), ("cb-test-narrow", 256)):
        (folder / f"{name}.json").write_text(json.dumps({**SMALL, "embed_dim": embed_dim}))
        open_clip.add_model_config(folder / f"{name}.json")
        torch.manual_seed(0)
        torch.save(open_clip.create_model(name).state_dict(), folder / f"{name}.pt")
    return folder


@pytest.fixture
def video(tmp_path):
    return write_captioned(tmp_path, "a", [(10, 20, "one")], 30)


def test_embeddings_have_512_numbers_and_length_1(weights):
    encoder = FontEncoder(weights / "cb-test-small.pt", tower="cb-test-small")
    images = [np.random.default_rng(seed).integers(0, 256, (20, 90, 3), np.uint8) for seed in range(3)]
    vectors = encoder.embed(images)
    assert (vectors.dtype, vectors.shape) == (np.float32, (3, 512))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-4)


def test_stored_embeddings_equal_those_computed_from_the_video(weights, video, tmp_path):
    encoder = FontEncoder(weights / "cb-test-small.pt", tower="cb-test-small")
    report = create_dataset(tmp_path / "d.db", [video], given=VideoInputsGiven(region=REGION), font_encoder=encoder)
    assert report.summary.fontclip_model_version == encoder.version
    with closing(open_source(video)) as source:
        expected = encoder.embedding_of(source, caption_layout(source, region=REGION))
    with next(get_dataset_db(tmp_path / "d.db")) as db:
        row = db.scalars(select(FontEmbedding)).one()
    assert np.array_equal(vector_from_bytes(row.vector), expected)
    assert row.fontclip_model_version == encoder.version
    given = PairDataset(tmp_path / "d.db", "train", use_font_embedding=True)[0]["font_embedding"]
    assert np.array_equal(given.numpy(), expected)
    assert not PairDataset(tmp_path / "d.db", "train")[0]["font_embedding"].any()


def test_another_encoder_of_the_same_weights_gives_identical_vectors(weights, video, tmp_path):
    place = weights / "cb-test-small.pt"
    first, second = (FontEncoder(given, tower="cb-test-small") for given in (place, str(place)))
    assert first.version == second.version
    with closing(open_source(video)) as source:
        layout = caption_layout(source, region=REGION)
        vectors = [encoder.embedding_of(source, layout) for encoder in (first, second, second)]
        list(source.frames(layout.region))
        vectors.append(second.embedding_of(source, layout))
    assert all(vector.dtype == np.float32 and vector.shape == (512,) for vector in vectors)
    assert all(np.array_equal(vector, vectors[0]) for vector in vectors)


@pytest.fixture
def crops(video, tmp_path):
    """The video's caption region as a video database."""
    with closing(open_source(video)) as source:
        write_video_database(tmp_path / "a.db", source, caption_layout(source, region=REGION), quality=100)
    return tmp_path / "a.db"


def test_a_source_of_crops_gives_the_style_of_its_video(weights, video, crops):
    encoder = FontEncoder(weights / "cb-test-small.pt", tower="cb-test-small")
    with closing(open_source(video)) as source, closing(open_source(crops)) as stored:
        for region in (REGION, "10,70,150,90"):
            layout = caption_layout(source, region=region)
            expected = encoder.embedding_of(source, layout)
            assert float(expected @ encoder.embedding_of(stored, layout)) > 0.999
        assert not np.allclose(expected, encoder.embedding_of(stored, stored.layout), atol=1e-3)


def test_a_region_that_a_source_of_crops_does_not_hold_is_refused(weights, video, crops):
    encoder = FontEncoder(weights / "cb-test-small.pt", tower="cb-test-small")
    with closing(open_source(video)) as source:
        layout = caption_layout(source, region="0,50,160,96")
    with closing(open_source(crops)) as stored, pytest.raises(InputError, match=r"only the region \(0, 64, 160, 96\)"):
        encoder.embedding_of(stored, layout)


def test_a_dataset_keeps_to_one_font_encoder(weights, video, tmp_path):
    create_dataset(tmp_path / "d.db", [video], given=VideoInputsGiven(region=REGION))
    encoder = FontEncoder(weights / "cb-test-small.pt", tower="cb-test-small")
    with pytest.raises(InputError, match="fontclip_model_version None -> cb-test-small"):
        create_dataset(tmp_path / "d.db", [video], given=VideoInputsGiven(region=REGION), font_encoder=encoder)


def test_the_version_names_tower_and_weights(weights):
    version = FontEncoder(weights / "cb-test-small.pt", tower="cb-test-small").version
    assert version.startswith("cb-test-small:")
    assert len(version.partition(":")[2]) == 16


def test_missing_weights_are_told(tmp_path):
    with pytest.raises(ModelError, match="no font encoder weights"):
        FontEncoder(tmp_path / "none.pt")


def test_a_file_that_holds_no_weights_is_told_not_replaced_by_random_ones(weights, tmp_path):
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="does not hold weights"):
        FontEncoder(tmp_path / "bad.pt", tower="cb-test-small")


def test_another_length_than_512_is_refused(weights):
    with pytest.raises(ModelError, match="256 numbers"):
        FontEncoder(weights / "cb-test-narrow.pt", tower="cb-test-narrow")


def test_a_video_without_samples_has_no_style(weights, video):
    class Unsampled:
        def sample(self, count):
            return iter(())

    with closing(open_source(video)) as source:
        layout = caption_layout(source, region=REGION)
    encoder = FontEncoder(weights / "cb-test-small.pt", tower="cb-test-small")
    assert not encoder.embedding_of(Unsampled(), layout).any()
