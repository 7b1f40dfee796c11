"""Which videos, captions, layouts and options a build takes, and how it refuses the others."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from data_videos import REGION, CornerDetector, srt, write_three, write_video
from sqlalchemy import func, select

from cb_core.data.builder import VideoInputsGiven, create_dataset, find_videos
from cb_core.data.database import get_dataset_db
from cb_core.data.options import BuildOptions
from cb_core.data.schema import Pair, Video, VideoLayout
from cb_runtime.errors import InputError, MissingPackageError, UsageError
from cb_runtime.video import open_source

GIVEN = VideoInputsGiven(region=REGION)


@pytest.fixture(scope="session")
def three_videos(tmp_path_factory):
    return write_three(tmp_path_factory.mktemp("three"))


@pytest.fixture
def videos(three_videos, tmp_path):
    return Path(shutil.copytree(three_videos, tmp_path / "videos"))


def build(folder, *, given=GIVEN, **options):
    return create_dataset(folder.parent / "d.db", find_videos(folder), given=given, **options)


def test_a_copy_of_a_video_is_left_out(videos):
    shutil.copy(videos / "v0.mkv", videos / "v9.mkv")
    shutil.copy(videos / "v0.srt", videos / "v9.srt")
    report = build(videos)
    assert {Path(path).name: Path(original).name for path, original in report.copies.items()} == {"v9.mkv": "v0.mkv"}
    assert sum(report.summary.videos.values()) == 3


@pytest.mark.parametrize(
    ("captions", "complaint"),
    [
        ([(20, 20, "a")], "no length"),
        ([(20, 50, "a"), (40, 60, "b")], "overlap"),
        ([(200, 250, "a")], "beyond the video's end"),
    ],
)
def test_bad_captions_cost_their_video_alone(videos, captions, complaint):
    (videos / "v1.srt").write_text(srt(captions))
    report = build(videos)
    assert complaint in report.failed[str(videos / "v1.mkv")]
    assert len(report.added) == 2
    assert not report.complete


def test_bad_captions_can_be_left_out_instead(videos):
    (videos / "v1.srt").write_text(srt([(15, 35, "one"), (50, 50, "two"), (300, 310, "three")]))
    report = build(videos, given=VideoInputsGiven(region=REGION, skip_bad_captions=True))
    assert len(report.added) == 3
    assert any("no length" in message for message in report.messages[str(videos / "v1.mkv")])


def test_a_truncated_video_gives_the_frames_it_has_and_is_recorded_as_partial(videos):
    data = (videos / "v1.mkv").read_bytes()
    (videos / "v1.mkv").write_bytes(data[: int(len(data) * 0.7)])
    report = build(videos)
    assert report.partial == [str(videos / "v1.mkv")]
    assert not report.complete
    assert report.summary.partial_videos == (str(videos / "v1.mkv"),)
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        video = db.scalars(select(Video).where(Video.partial)).one()
        assert 40 < video.frame_count < 90
        assert video.messages
        assert db.scalar(select(func.count()).select_from(Pair).where(Pair.video_id == video.id)) > 100


def test_a_file_that_is_no_video_is_left_out_with_the_reason(videos):
    (videos / "v1.mkv").write_text("not a video")
    report = build(videos)
    assert list(report.failed) == [str(videos / "v1.mkv")]
    assert len(report.added) == 2


def test_a_video_without_captions_is_left_out_not_taken_for_empty(videos):
    (videos / "v1.srt").unlink()
    report = build(videos)
    assert report.without_captions == [str(videos / "v1.mkv")]
    assert report.complete
    assert sum(report.summary.videos.values()) == 2


def test_an_empty_caption_file_confirms_that_there_are_no_captions(videos):
    (videos / "v1.srt").write_text("")
    build(videos)
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        of_v1 = select(Pair.label).join(Video).where(Video.path.endswith("v1.mkv"))
        assert set(db.scalars(of_v1)) == {2}


def test_captions_may_lie_in_another_folder(videos):
    other = videos.parent / "captions"
    other.mkdir()
    for path in videos.glob("*.srt"):
        path.rename(other / path.name)
    report = build(videos, given=VideoInputsGiven(captions=other, region=REGION))
    assert len(report.added) == 3


def test_a_layout_file_beside_the_video_gives_the_region(videos):
    (videos / "v0.layout.json").write_text(
        json.dumps({"boxes": [[28, 66, 120, 94]], "samples": 1, "region": [0, 60, 160, 96]})
    )
    build(videos, given=VideoInputsGiven(), detector=CornerDetector())
    with next(get_dataset_db(videos.parent / "d.db")) as db:
        origins = db.execute(select(Video.path, VideoLayout.layout).join(VideoLayout).order_by(Video.path)).all()
    assert [layout["origin"] for _, layout in origins] == ["boxes", "ocr", "ocr"]
    assert origins[0][1]["region"] == [0, 60, 160, 96]


def test_one_layout_file_may_stand_for_all_videos(videos, tmp_path):
    (tmp_path / "all.json").write_text(json.dumps({"region": [0, 60, 160, 96]}))
    given = VideoInputsGiven(layout_file=tmp_path / "all.json")
    assert len(build(videos, given=given).added) == 3
    (tmp_path / "all.json").write_text(json.dumps({"region": [0, 62, 160, 96]}))
    assert len(build(videos, given=given).added) == 3


def test_without_text_in_sight_the_error_names_the_ways_to_give_a_layout(videos):
    class Blind(CornerDetector):
        def __call__(self, image):
            return []

    with pytest.raises(InputError) as caught:
        build(videos, given=VideoInputsGiven(), detector=Blind())
    for way in ("--region", "--layout", "v0.layout.json"):
        assert way in str(caught.value)


def test_without_an_ocr_package_the_extra_and_the_region_are_named(videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingPackageError, match=r"cb-toolkit\[ocr\]") as caught:
        build(videos, given=VideoInputsGiven())
    assert "--region" in str(caught.value)


def test_a_region_outside_the_frame_is_told(videos):
    with pytest.raises(InputError, match="outside the frame"):
        build(videos, given=VideoInputsGiven(region="0,60,4000,96"))


def test_a_video_without_frames_is_left_out(videos, monkeypatch):
    import cb_core.data.content as content

    class Frameless:
        def __init__(self, path):
            self.source = open_source(path)
            self.info, self.report = self.source.info, self.source.report

        def frames(self, region=None):
            return iter(())

        def close(self):
            self.source.close()

    monkeypatch.setattr(content, "open_source", Frameless)
    with pytest.raises(InputError, match=r"No frame of .* could be decoded"):
        build(videos)


def test_without_any_usable_video_the_reasons_are_listed(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "a.mkv", [], 10)
    with pytest.raises(InputError, match=r"1 videos have no caption file of the same name \(.truth.json, .json"):
        build(folder)


def test_hidden_files_are_no_videos_of_a_folder(videos):
    hidden = videos / ".trash"
    hidden.mkdir()
    for place in (videos / ".video_0000.mkv", videos / "._v0.mkv", hidden / "v9.mkv"):
        shutil.copy(videos / "v0.mkv", place)
    assert [path.name for path in find_videos(videos)] == ["v0.mkv", "v1.mkv", "v2.mkv"]
    assert find_videos(videos / ".video_0000.mkv") == [videos / ".video_0000.mkv"]


def test_a_hidden_folder_may_be_searched_when_it_is_named(videos):
    videos.rename(videos.parent / ".videos")
    assert len(find_videos(videos.parent / ".videos")) == 3


def test_results_of_an_inference_are_refused_as_annotation(videos):
    (videos / "v1.srt").unlink()
    (videos / "v1.json").write_text('{"model": {"name": "best.onnx"}, "segments": [{"start": 1, "end": 2}]}')
    report = build(videos)
    assert "v1.json is no annotation" in report.failed[str(videos / "v1.mkv")]
    assert len(report.added) == 2


def test_a_folder_without_videos_is_told(tmp_path):
    with pytest.raises(InputError, match="no videos"):
        find_videos(tmp_path)


def test_layouts_from_different_ocr_engines_are_warned_of(videos):
    class Newer(CornerDetector):
        version = "2.0"

    create_dataset(videos.parent / "d.db", [videos / "v0.mkv"], detector=CornerDetector())
    report = create_dataset(videos.parent / "d.db", [videos / "v1.mkv"], detector=Newer())
    assert any("corner 1.0, corner 2.0" in warning for warning in report.summary.warnings)
    assert report.summary.ocr_engine == "corner"
    assert report.summary.ocr_engine_version == "1.0+2.0"


@pytest.mark.parametrize(
    "options",
    [
        {"ocr_viz_variant": "stars"},
        {"distances": ()},
        {"distances": (4, 2)},
        {"distances": (0, 1)},
        {"pairs_per_video": 9},
        {"val_share": -0.1},
        {"val_share": 0.5, "test_share": 0.5},
        {"val_share": float("nan")},
        {"test_share": float("nan")},
        {"val_share": float("inf")},
        {"seed": -1},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError):
        BuildOptions(**options)
