"""What a build puts into a dataset, and how it goes on after being stopped or when its videos change."""

import io
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from data_videos import CAPTIONS, REGION, CornerDetector, srt, write_captioned, write_three, write_video
from sqlalchemy import create_engine, func, make_url, select, text

from cb_core.data import database
from cb_core.data.builder import VideoInputsGiven, create_dataset, find_videos
from cb_core.data.database import StorageError, get_dataset_db
from cb_core.data.options import BuildOptions
from cb_core.data.pictures import image_from_png, vector_from_bytes
from cb_core.data.schema import DatasetSettings, Pair, Strip, Video, VideoCaption, VideoLayout
from cb_core.data.spill import StripSpill
from cb_core.data.summary import dataset_digest, summarise_dataset
from cb_runtime.contract import Preprocessing
from cb_runtime.errors import InputError
from cb_runtime.features import ocr_viz, spatial_features, strip
from cb_runtime.layout import caption_layout
from cb_runtime.video import open_source

GIVEN = VideoInputsGiven(region=REGION)


@pytest.fixture(scope="session")
def three_videos(tmp_path_factory):
    return write_three(tmp_path_factory.mktemp("three"))


@pytest.fixture
def videos(three_videos, tmp_path):
    return Path(shutil.copytree(three_videos, tmp_path / "videos"))


@pytest.fixture(scope="session")
def usual_digest(three_videos, tmp_path_factory):
    path = tmp_path_factory.mktemp("usual") / "usual.db"
    return create_dataset(path, find_videos(three_videos), given=GIVEN).summary.digest


def build(folder, name="d.db", *, given=GIVEN, **options):
    return create_dataset(folder.parent / name, find_videos(folder), given=given, **options)


def digest_of(path):
    with next(get_dataset_db(path)) as db:
        return dataset_digest(db)


def test_a_dataset_holds_its_videos_captions_layouts_and_pairs(videos):
    report = build(videos)
    assert report.complete
    assert len(report.added) == 3
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        video = db.scalars(select(Video).order_by(Video.path)).first()
        assert (video.width, video.height, video.frame_count, video.partial) == (160, 96, 100, False)
        assert video.size_bytes == Path(video.path).stat().st_size
        assert video.average_rate == 25
        found = [(caption.start_frame, caption.end_frame, caption.text) for caption in video.captions]
        assert found == CAPTIONS
        assert video.captions[0].start_pts * video.time_base == Fraction(15, 25)
        assert video.layout.layout["region"] == [0, 64, 160, 96]
        assert db.scalar(select(func.count()).select_from(Pair)) > 600


def test_every_split_is_filled_and_no_video_is_in_two(videos):
    summary = build(videos).summary
    assert summary.videos == {"train": 1, "val": 1, "test": 1}


def test_each_frame_is_stored_once_however_many_pairs_use_it(videos):
    build(videos)
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        strips = db.scalar(select(func.count()).select_from(Strip))
        assert strips <= 300
        assert db.scalar(select(func.count()).select_from(Pair)) > 3 * strips


@pytest.mark.parametrize("strategy", ["mirror_tile", "crop", "adaptive"])
def test_stored_features_equal_those_of_inference_byte_for_byte(videos, strategy):
    options = BuildOptions(preprocessing=Preprocessing(resize_strategy=strategy), ocr_viz_variant="both")
    detector = CornerDetector()
    create_dataset(videos.parent / "d.db", [videos / "v0.mkv"], options=options, detector=detector)
    with closing(open_source(videos / "v0.mkv")) as source:
        layout = caption_layout(source, detector=detector)
        strips = {
            frame.index: strip(frame.image, options.preprocessing, layout.anchor)
            for frame in source.frames(layout.region)
        }
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        stored = db.scalars(select(Strip)).all()
        assert len(stored) > 50
        for row in stored:
            assert image_from_png(row.image).tobytes() == strips[row.frame].tobytes()
        row = db.scalars(select(VideoLayout)).one()
        expected = ocr_viz(layout, options.preprocessing, "both")
        assert expected.any()
        assert image_from_png(row.ocr_viz).tobytes() == expected.tobytes()
        assert vector_from_bytes(row.spatial_features).tobytes() == spatial_features(layout).tobytes()
        assert (row.ocr_engine, row.ocr_engine_version) == ("corner", "1.0")


def test_a_second_run_reads_nothing_again(videos):
    build(videos)
    before = digest_of(videos.parent / "d.db")
    report = build(videos)
    assert (len(report.added), len(report.kept)) == (0, 3)
    assert report.summary.digest == before


def test_videos_can_be_added_and_keep_their_splits(videos):
    build(videos)
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        before = dict(db.execute(select(Video.sha256, Video.split)).all())
    write_captioned(videos, "v3", CAPTIONS, seed=3)
    assert [Path(path).name for path in build(videos).added] == ["v3.mkv"]
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        after = dict(db.execute(select(Video.sha256, Video.split)).all())
    assert {key: after[key] for key in before} == before
    assert None not in after.values()


def test_corrected_captions_replace_the_old_ones_and_keep_the_split(videos):
    build(videos)
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        split = db.scalar(select(Video.split).where(Video.path.endswith("v1.mkv")))
    (videos / "v1.srt").write_text(srt(CAPTIONS[:1]))
    assert [Path(path).name for path in build(videos).added] == ["v1.mkv"]
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        video = db.scalars(select(Video).where(Video.path.endswith("v1.mkv"))).one()
        assert len(video.captions) == 1
        assert video.split == split
        assert db.scalar(select(func.count()).select_from(VideoCaption)) == 7


def test_a_replaced_video_file_replaces_its_rows(videos):
    build(videos)
    write_video(videos / "v2.mkv", CAPTIONS, seed=77)
    report = build(videos)
    assert [Path(path).name for path in report.added] == ["v2.mkv"]
    assert sum(report.summary.videos.values()) == 3


@pytest.mark.parametrize("corrected", [False, True])
def test_a_video_keeps_its_split_where_another_file_took_its_name(videos, corrected):
    build(videos)
    before = splits_in(videos.parent / "d.db")
    name = next(name for name, split in before.values() if split == "val")
    validated = next(key for key, (other, _) in before.items() if other == name)
    for suffix in (".mkv", ".srt"):
        (videos / name).with_suffix(suffix).rename(videos / f"z{suffix}")
    if corrected:
        (videos / "z.srt").write_text(srt(CAPTIONS[:1]))
    write_captioned(videos, Path(name).stem, CAPTIONS, seed=77)
    build(videos)
    assert splits_in(videos.parent / "d.db")[validated] == ("z.mkv", "val")


def splits_in(database):
    with next(get_dataset_db(database)) as db:
        return {row.sha256: (Path(row.path).name, row.split) for row in db.scalars(select(Video))}


def paths_in(database):
    with next(get_dataset_db(database)) as db:
        return {row.sha256: Path(row.path).name for row in db.scalars(select(Video))}


def test_a_moved_video_is_kept_under_its_new_path(videos):
    build(videos)
    before = paths_in(videos.parent / "d.db")
    for suffix in (".mkv", ".srt"):
        (videos / f"v1{suffix}").rename(videos / f"w1{suffix}")
    report = build(videos)
    assert (len(report.kept), len(report.added)) == (3, 0)
    moved = {key: name.replace("v1", "w1") for key, name in before.items()}
    assert paths_in(videos.parent / "d.db") == moved


def test_videos_that_swap_their_names_are_kept_and_not_taken_for_copies(videos):
    build(videos)
    before = paths_in(videos.parent / "d.db")
    for old, new in (("v0", "x"), ("v1", "v0"), ("x", "v1")):
        (videos / f"{old}.mkv").rename(videos / f"{new}.mkv")
    report = build(videos)
    assert (len(report.kept), len(report.added), report.copies) == (3, 0, {})
    swapped = {"v0.mkv": "v1.mkv", "v1.mkv": "v0.mkv", "v2.mkv": "v2.mkv"}
    assert paths_in(videos.parent / "d.db") == {key: swapped[name] for key, name in before.items()}


def test_other_options_than_before_are_refused(videos):
    build(videos)
    with pytest.raises(InputError, match="seed 0 -> 1"):
        build(videos, options=BuildOptions(seed=1))


def test_a_build_that_stored_nothing_binds_to_no_options(videos):
    (videos / "elsewhere").mkdir()
    with pytest.raises(InputError, match="None of the videos"):
        build(videos, given=VideoInputsGiven(captions=videos / "elsewhere", region=REGION))
    options = BuildOptions(seed=1, pairs_per_video=300)
    assert len(build(videos, options=options).added) == 3
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        assert db.scalars(select(DatasetSettings)).one().options == {
            **options.to_dict(),
            "fontclip_model_version": None,
        }


KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from cb_core.data.builder import VideoInputsGiven, create_dataset, find_videos

def progress(phase, done, total=None):
    if phase == "frames of v1.mkv" and done >= 64:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
create_dataset(folder.parent / "killed.db", find_videos(folder), given=VideoInputsGiven(region=sys.argv[2]),
               progress=progress)
"""


def test_a_killed_build_goes_on_and_gives_the_same_dataset(videos, usual_digest):
    result = subprocess.run([sys.executable, "-c", KILLED_BUILD, str(videos), REGION])
    assert result.returncode == -signal.SIGKILL
    with next(get_dataset_db(videos.parent / "killed.db")) as db:
        assert db.scalar(select(func.count()).select_from(Video)) == 1
        assert any("build was stopped" in warning for warning in summarise_dataset(db).warnings)
    report = build(videos, "killed.db")
    assert (len(report.kept), len(report.added)) == (1, 2)
    assert report.summary.digest == usual_digest


def test_the_digest_depends_on_captions_and_videos_but_not_on_names(videos, usual_digest):
    (videos / "v0.mkv").rename(videos / "a.mkv")
    (videos / "v0.srt").rename(videos / "a.srt")
    assert build(videos, "other name.db").summary.digest == usual_digest
    (videos / "a.srt").write_text(srt(CAPTIONS[:2]))
    other_captions = build(videos, "other name.db").summary.digest
    (videos / "a.mkv").unlink()
    fewer = build(videos, "fewer.db").summary.digest
    assert len({usual_digest, other_captions, fewer}) == 3


def test_a_full_disk_is_told_and_nothing_is_lost(videos, monkeypatch):
    create_dataset(videos.parent / "d.db", [videos / "v0.mkv"], given=GIVEN)
    before = digest_of(videos.parent / "d.db")
    pragmas = database._set_pragmas

    def small_disk(connection, record):
        pragmas(connection, record)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    monkeypatch.setattr(database, "_set_pragmas", small_disk)
    with pytest.raises(StorageError, match=r"The disk is full.*same command again"):
        build(videos)
    monkeypatch.undo()
    assert digest_of(videos.parent / "d.db") == before
    assert len(build(videos).added) == 2


def test_a_full_scratch_disk_is_told():
    full = Path("/dev/full").open("wb")  # noqa: SIM115  (`with` would flush, which fails)
    strips = StripSpill(full)
    with pytest.raises(StorageError, match="The disk is full"):
        strips.add(np.random.default_rng(0).integers(0, 256, (48, 480, 3), np.uint8))
    full.raw.close()


def test_a_disk_that_fills_up_in_the_buffer_is_told_too():
    full = Path("/dev/full").open("wb", buffering=2**24)  # noqa: SIM115  (as above)
    strips = StripSpill(full)
    strips.add(np.zeros((48, 480, 3), np.uint8))
    with pytest.raises(StorageError, match="The disk is full"):
        strips.png(0)
    full.raw.close()


def test_other_troubles_of_the_scratch_disk_keep_their_cause():
    class Broken(io.BytesIO):
        def write(self, data):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        StripSpill(Broken()).add(np.zeros((48, 480, 3), np.uint8))


def test_a_missing_class_is_warned_of(videos):
    for path in videos.glob("*.srt"):
        path.write_text("")
    warnings = build(videos).summary.warnings
    assert any("'train' has no pairs of class same, different, empty_valid, valid_empty" in line for line in warnings)


def test_one_video_is_enough_to_train_on_but_the_lack_of_others_is_warned_of(videos):
    report = create_dataset(videos.parent / "d.db", [videos / "v0.mkv"], given=GIVEN)
    assert any("'val' has no videos" in warning for warning in report.summary.warnings)


def test_an_empty_database_has_no_summary(tmp_path):
    with next(get_dataset_db(tmp_path / "d.db", create=True)) as db, pytest.raises(InputError, match="is empty"):
        summarise_dataset(db)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"ocr_viz_variant": "centers"},
        {"distances": (1, 3)},
        {"pairs_per_video": 50},
        {"val_share": 0.0, "test_share": 0.0},
        {"preprocessing": Preprocessing(resize_strategy="crop")},
    ],
)
def test_every_option_changes_the_dataset(three_videos, tmp_path, usual_digest, options):
    report = create_dataset(tmp_path / "d.db", find_videos(three_videos), given=GIVEN, options=BuildOptions(**options))
    assert report.summary.digest != usual_digest


@pytest.fixture
def postgresql():
    """URL of an empty schema on the server that CB_TEST_POSTGRES_URL names."""
    url, schema = make_url(os.environ["CB_TEST_POSTGRES_URL"]), f"cb_test_{os.getpid()}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        inside = url.update_query_dict({"options": f"-csearch_path={schema}"})
        yield inside.render_as_string(hide_password=False)
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))


@pytest.mark.skipif(not os.environ.get("CB_TEST_POSTGRES_URL"), reason="CB_TEST_POSTGRES_URL is not set")
def test_postgresql_holds_the_same_dataset_as_sqlite(videos, postgresql, usual_digest):
    from cb_core.data.torch_dataset import PairDataset

    report = create_dataset(postgresql, find_videos(videos), given=GIVEN)
    assert report.summary.digest == usual_digest
    (videos / "v1.srt").write_text(srt(CAPTIONS[:1]))
    assert len(create_dataset(postgresql, find_videos(videos), given=GIVEN).added) == 1
    pairs = PairDataset(postgresql, "train")
    assert pairs[0]["frame1"].shape == (48, 480, 3)
