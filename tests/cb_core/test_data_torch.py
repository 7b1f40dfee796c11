import os
import pickle
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from data_videos import REGION, write_captioned
from sqlalchemy import select, update
from torch.utils.data import DataLoader

from cb_core.data import torch_dataset
from cb_core.data.augmentation import AugmentOptions, PairAugmentation
from cb_core.data.builder import VideoInputsGiven, create_dataset, find_videos
from cb_core.data.database import get_dataset_db, open_session_on
from cb_core.data.pictures import image_from_png, png_from_image
from cb_core.data.schema import Pair, Strip, Video
from cb_core.data.torch_dataset import PairDataset
from cb_runtime.contract import LABELS
from cb_runtime.errors import InputError, UsageError
from cb_runtime.features import ocr_viz
from cb_runtime.layout import layout_from_dict

CAPTIONS = [(15, 35, "one"), (40, 50, "two"), (50, 60, "three")]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(3):
        write_captioned(folder, f"v{number}", CAPTIONS, 70, seed=number)
    (folder / "layout.json").write_text('{"boxes": [[28, 66, 120, 94]], "samples": 1, "region": [0, 60, 160, 96]}')
    given = VideoInputsGiven(layout_file=folder / "layout.json")
    create_dataset(folder / "d.db", find_videos(folder), given=given)
    return folder / "d.db"


def test_a_sample_has_the_graph_inputs_and_a_label(built):
    sample = PairDataset(built, "train")[0]
    for name in ("ocr_viz", "frame1", "frame2"):
        assert (sample[name].dtype, tuple(sample[name].shape)) == (torch.uint8, (48, 480, 3))
    assert (sample["spatial_features"].dtype, tuple(sample["spatial_features"].shape)) == (torch.float32, (6,))
    assert (sample["font_embedding"].dtype, tuple(sample["font_embedding"].shape)) == (torch.float32, (512,))
    assert not sample["font_embedding"].any()
    assert isinstance(sample["label"], int)
    assert sample["ocr_viz"].any()


def test_samples_are_the_stored_strips_with_their_label(built):
    pairs = PairDataset(built, "val")
    with next(get_dataset_db(built)) as db:
        strips = {key: image_from_png(image) for key, image in db.execute(select(Strip.id, Strip.image))}
        rows = db.scalars(select(Pair).join(Video).where(Video.split == "val")).all()
    expected = Counter((strips[row.strip1_id].tobytes(), strips[row.strip2_id].tobytes(), row.label) for row in rows)
    found = Counter((s["frame1"].numpy().tobytes(), s["frame2"].numpy().tobytes(), s["label"]) for s in pairs)
    assert found == expected


def test_labels_distances_and_counts_match_the_samples(built):
    pairs = PairDataset(built, "train")
    assert [pairs[place]["label"] for place in range(20)] == pairs.labels[:20].tolist()
    assert sum(pairs.class_counts().values()) == len(pairs) == len(pairs.distances) == len(pairs.video_ids)
    assert list(pairs.class_counts()) == list(LABELS)
    assert (pairs.distances < 0).sum() == (pairs.distances > 0).sum()


def test_splits_share_no_video(built):
    videos = [set(PairDataset(built, split).video_ids.tolist()) for split in ("train", "val", "test")]
    assert len(set.union(*videos)) == sum(map(len, videos)) == 3


def test_the_order_depends_on_content_alone(built, tmp_path):
    folder = shutil.copytree(built.parent, tmp_path / "again", ignore=shutil.ignore_patterns("*.db*"))
    given = VideoInputsGiven(layout_file=folder / "layout.json")
    create_dataset(folder / "d.db", reversed_list(find_videos(folder)), given=given)
    one, other = PairDataset(built, "train"), PairDataset(folder / "d.db", "train")
    assert one.summary.digest == other.summary.digest
    assert one.labels.tolist() == other.labels.tolist()
    assert all(torch.equal(one[place]["frame1"], other[place]["frame1"]) for place in range(0, len(one), 37))


def reversed_list(paths):
    return list(reversed(paths))


def test_forked_workers_read_the_same_as_this_process(built):
    pairs = torch.utils.data.Subset(PairDataset(built, "train"), range(12))
    assert pairs[0]["label"] is not None  # the connection is open when the workers start
    loader = DataLoader(pairs, batch_size=4, num_workers=2, multiprocessing_context="fork")
    batches = list(loader)
    assert [len(batch["label"]) for batch in batches] == [4, 4, 4]
    assert torch.equal(torch.cat([batch["frame2"] for batch in batches]), torch.stack([s["frame2"] for s in pairs]))


def test_a_pickled_dataset_reads_the_same(built):
    pairs = PairDataset(built, "train", cache_mib=1)
    pairs[0]
    again = pickle.loads(pickle.dumps(pairs))
    assert again._free_bytes == 2**20
    assert torch.equal(again[3]["frame1"], pairs[3]["frame1"])


def test_the_cache_holds_no_more_than_it_may(built):
    pairs = PairDataset(built, "train", cache_mib=0)
    expected = PairDataset(built, "train")
    for place in (0, 5, 0):
        assert torch.equal(pairs[place]["frame1"], expected[place]["frame1"])
    assert not pairs._encoded
    assert expected._encoded


def test_cached_strips_are_not_read_again(built):
    pairs = PairDataset(built, "train")
    first = pairs[0]
    pairs._connection.close()
    assert torch.equal(pairs[0]["frame1"], first["frame1"])


def test_a_connection_from_before_a_fork_is_not_used_nor_closed(built):
    pairs = PairDataset(built, "train")
    pairs[0]
    before = pairs._connection
    pairs._process = os.getpid() + 1
    pairs.__getitems__([30, 31])
    assert pairs._connection is not before
    assert not before.closed
    assert torch_dataset._inherited.pop() is before


def test_samples_of_one_batch_do_not_share_memory(built):
    pairs = PairDataset(built, "train")
    one, other = pairs.__getitems__([0, 0])
    one["frame1"].zero_()
    one["spatial_features"].zero_()
    assert other["frame1"].any()
    assert other["spatial_features"].any()


@pytest.mark.parametrize("variant", ["centers", "both", "3d_channels"])
def test_another_picture_variant_is_drawn_as_inference_draws_it(built, variant):
    pairs = PairDataset(built, "train", ocr_viz_variant=variant)
    assert pairs.ocr_viz_variant == variant
    with next(get_dataset_db(built)) as db:
        layout = layout_from_dict(db.get(Video, int(pairs.video_ids[0])).layout.layout)
    expected = ocr_viz(layout, pairs.summary.preprocessing, variant)
    assert pairs[0]["ocr_viz"].numpy().tobytes() == expected.tobytes()
    assert not torch.equal(pairs[0]["ocr_viz"], PairDataset(built, "train")[0]["ocr_viz"])


def test_every_sample_goes_through_the_augmentation(built):
    pairs = PairDataset(built, "train", augment=lambda sample: {**sample, "label": 7})
    assert pairs[3]["label"] == 7


def test_an_unknown_split_is_refused(built):
    with pytest.raises(UsageError, match="train, val, test"):
        PairDataset(built, "training")


def test_a_datasets_password_is_not_shown_where_it_cannot_be_trained_on(built, tmp_path, monkeypatch):
    video = next(path for path in find_videos(built.parent) if path.stem == "v0")
    create_dataset(tmp_path / "d.db", [video], given=VideoInputsGiven(region=REGION))
    monkeypatch.setattr(torch_dataset, "open_session_on", lambda _: open_session_on(tmp_path / "d.db"))
    for split, options in (("val", {}), ("train", {"use_font_embedding": True})):
        with pytest.raises(InputError, match=r"^postgresql://me:\*\*\*@host/films has no"):
            PairDataset("postgresql://me:secret@host/films", split, **options)


def test_a_split_without_pairs_is_refused(built, tmp_path):
    video = next(path for path in find_videos(built.parent) if path.stem == "v0")
    create_dataset(tmp_path / "d.db", [video], given=VideoInputsGiven(region=REGION))
    with pytest.raises(InputError, match="no pairs in split 'val'"):
        PairDataset(tmp_path / "d.db", "val")


def test_font_embeddings_that_are_not_there_are_refused(built):
    with pytest.raises(InputError, match="--font-model"):
        PairDataset(built, "train", use_font_embedding=True)


def test_a_damaged_picture_is_told(built, tmp_path):
    shutil.copy(built, tmp_path / "d.db")
    with next(get_dataset_db(tmp_path / "d.db")) as db:
        db.execute(update(Strip).values(image=b"no picture"))
        db.commit()
    with pytest.raises(InputError, match="damaged"):
        PairDataset(tmp_path / "d.db", "train")[0]


@pytest.mark.parametrize("data", [b"", b"abc"])
def test_what_is_no_png_is_told(data):
    with pytest.raises(InputError, match="damaged"):
        image_from_png(data)


def test_pictures_survive_storage_exactly():
    image = np.random.default_rng(0).integers(0, 256, (48, 480, 3), np.uint8)
    assert np.array_equal(image_from_png(png_from_image(image)), image)


NEVER = {"shift": 0, "colour": 0, "blur": 0, "compression": 0, "height": 0, "blank_picture": 0}


def textured(seed=0):
    """A sample whose two frames are the same, so that what differs afterwards was done to one alone."""
    frame = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (48, 480, 3), np.uint8))
    ones = torch.ones(6)
    return {"ocr_viz": frame.clone(), "frame1": frame, "frame2": frame.clone(), "spatial_features": ones, "label": 1}


def test_without_probabilities_nothing_is_altered():
    sample = textured()
    altered = PairAugmentation(AugmentOptions(**NEVER))(sample)
    assert all(torch.equal(altered[name], sample[name]) for name in ("ocr_viz", "frame1", "frame2"))
    assert (altered["label"], altered["spatial_features"].sum()) == (1, 6)


def test_a_region_at_another_height_changes_the_y_centre_alone():
    torch.manual_seed(0)
    sample = textured()
    placed = PairAugmentation(AugmentOptions(**{**NEVER, "height": 1.0}))(sample)["spatial_features"]
    changed = placed != sample["spatial_features"]
    assert changed.tolist() == [False, False, False, False, True, False]
    assert 0 <= placed[4] < 1


@pytest.mark.parametrize("name", ["shift", "colour", "blur", "compression"])
def test_each_alteration_changes_both_frames_alike(name):
    torch.manual_seed(0)
    sample = textured()
    altered = PairAugmentation(AugmentOptions(**{**NEVER, name: 1}))(sample)
    assert altered["frame1"].shape == (48, 480, 3)
    assert altered["frame1"].dtype == torch.uint8
    assert not torch.equal(altered["frame1"], sample["frame1"])
    assert torch.equal(altered["frame1"], altered["frame2"])
    assert torch.equal(altered["ocr_viz"], altered["frame1"] if name == "shift" else sample["ocr_viz"])


def test_the_picture_of_text_is_sometimes_blank():
    altered = PairAugmentation(AugmentOptions(**{**NEVER, "blank_picture": 1}))(textured())
    assert not altered["ocr_viz"].any()
    assert altered["frame1"].any()


def test_augmentation_does_not_write_into_the_sample_it_is_given():
    sample = textured()
    before = sample["frame1"].clone()
    PairAugmentation(AugmentOptions(1, 1, 1, 1, 1))(sample)
    assert torch.equal(sample["frame1"], before)


def test_augmentation_repeats_with_the_seed():
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(PairAugmentation(AugmentOptions(1, 1, 1, 1, 0))(textured())["frame1"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_pairs_and_augmentation_can_be_handed_to_spawned_workers(built):
    pairs = PairDataset(built, "train", augment=PairAugmentation())
    loader = DataLoader(pairs, batch_size=8, num_workers=1, multiprocessing_context="spawn")
    assert next(iter(loader))["frame1"].shape == (8, 48, 480, 3)


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_probability_outside_0_to_1_is_refused(value):
    with pytest.raises(UsageError, match="probability"):
        AugmentOptions(blur=value)
