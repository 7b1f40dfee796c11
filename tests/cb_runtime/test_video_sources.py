from itertools import pairwise

import numpy as np
import pytest
from pretended_nvdec import pretend_nvdec
from tiny_videos import (
    FRAMES,
    HEIGHT,
    MILLISECONDS,
    VARIABLE_PTS,
    WIDTH,
    make_video,
    picture,
)

from cb_runtime.errors import InputError
from cb_runtime.geometry import Box
from cb_runtime.layout import layout_from_region
from cb_runtime.spans import Span
from cb_runtime.video import open_source
from cb_runtime.video.database import VideoDatabase, write_video_database

FILES = {
    "mp4_b_frames": ("v.mp4", {}),
    "mkv": ("v.mkv", {}),
    "ts": ("v.ts", {}),
    "vp9": ("v.webm", {"codec": "libvpx-vp9", "b_frames": 0}),
    "avi": ("v.avi", {"codec": "mpeg4", "b_frames": 0}),
    "variable_rate": ("v.mkv", {"pts": VARIABLE_PTS, "time_base": MILLISECONDS}),
    "ten_bit": ("v.mkv", {"pixel_format": "yuv420p10le"}),
    "odd_size": ("v.mkv", {"size": (63, 47), "codec": "ffv1", "b_frames": 0}),
}


@pytest.fixture(scope="module", params=[*FILES, "database", "nvdec"])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    name, options = FILES.get(request.param, ("v.mp4", {}))
    path = make_video(folder / name, **options)
    if request.param == "database":
        video = open_source(path)
        write_video_database(folder / "v.db", video, layout_from_region(video.info, Box(0, 0, WIDTH, HEIGHT)))
        path = folder / "v.db"
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "nvdec":
            pretend_nvdec(patch)
        yield open_source(path, decoder="nvdec" if request.param == "nvdec" else "cpu")


class TestEveryFrameSource:
    """The conformance suite: what a user may expect of any frame source."""

    def test_gives_every_frame_once_in_order(self, source):
        frames = list(source.frames())
        assert [frame.index for frame in frames] == list(range(FRAMES))
        assert all(one.pts < next_.pts for one, next_ in pairwise(frames))
        assert source.report.frames == FRAMES

    def test_starts_at_time_zero(self, source):
        assert next(source.frames()).pts == 0

    def test_a_sound_video_has_no_problems_to_report(self, source):
        list(source.frames())
        assert not source.report.partial
        assert source.report.messages == []

    def test_can_be_read_again_and_by_two_readers_at_once(self, source):
        pairs = list(zip(source.frames(), source.frames(), strict=True))
        assert len(pairs) == FRAMES
        assert all(np.array_equal(one.image, other.image) for one, other in pairs)

    def test_pictures_are_rgb_of_the_displayed_size(self, source):
        frame = next(source.frames())
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (source.info.height, source.info.width, 3)
        expected = picture(0, source.info.width, source.info.height)
        assert np.abs(frame.image.astype(int) - expected)[:20].mean() < 20  # lossy, but right

    @pytest.mark.parametrize("box", [Box(8, 8, 40, 24), Box(7, 5, 33, 30), Box(1, 1, 2, 2), Box(30, 20, 63, 47)])
    def test_a_region_has_the_pixels_of_the_whole_frame(self, source, box):
        for whole, part in zip(source.frames(), source.frames(box), strict=True):
            expected = whole.image[box.top : box.bottom, box.left : box.right]
            difference = np.abs(part.image.astype(int) - expected)
            assert part.image.shape == expected.shape
            assert part.image.flags.c_contiguous
            # FFmpeg interpolates the chroma of whole frames of odd height in its own way.
            assert difference.max() == 0 or (source.info.height % 2 and difference.mean() < 8)

    def test_a_region_outside_the_frame_is_refused(self, source):
        with pytest.raises(InputError, match=r"[Rr]egion"):
            source.frames(Box(0, 0, source.info.width + 1, 10))

    def test_samples_are_whole_frames_spread_evenly(self, source):
        by_pts = {frame.pts: frame.image for frame in source.frames()}
        samples = list(source.sample(4))
        times = list(by_pts)
        assert len(samples) == 4
        assert all(np.array_equal(sample.image, by_pts[sample.pts]) for sample in samples)
        places = [times.index(sample.pts) for sample in samples]
        assert places == sorted(set(places))
        assert places[0] < FRAMES / 2 < places[-1]

    def test_more_samples_than_frames_gives_every_frame_at_most_once(self, source):
        times = [sample.pts for sample in source.sample(100)]
        assert times == sorted(set(times))
        assert len(times) >= FRAMES - 1

    def test_gives_the_frames_of_some_times_once_more(self, source):
        frames = list(source.frames())
        wanted = [frames[number] for number in (0, 3, 4, FRAMES // 2, FRAMES - 1)]
        before = source.report
        again = list(source.again([*(frame.pts for frame in wanted), frames[-1].pts + 10**6]))
        assert [(frame.index, frame.pts) for frame in again] == [(-1, frame.pts) for frame in wanted]
        assert all(np.array_equal(one.image, other.image) for one, other in zip(again, wanted, strict=True))
        assert source.report is before

    def test_gives_a_region_of_frames_once_more(self, source):
        box = Box(8, 8, 40, 24)
        wanted = list(source.frames(box))[5]
        (again,) = source.again([wanted.pts], box)
        assert np.array_equal(again.image, wanted.image)
        with pytest.raises(InputError, match=r"[Rr]egion"):
            list(source.again([0], Box(0, 0, source.info.width + 1, 10)))

    def test_states_length_and_rate(self, source):
        assert source.info.frame_count == FRAMES or not source.info.frame_count_exact
        assert source.info.duration_seconds == pytest.approx(0.8, abs=0.45)
        assert source.info.average_rate

    def test_stopping_early_is_no_problem(self, source):
        for frame in source.frames():
            if frame.index == 3:
                break
        assert not source.report.partial


@pytest.fixture(params=["file", "database"])
def closable(request, tmp_path):
    video = open_source(make_video(tmp_path / "v.mp4"))
    if request.param == "file":
        return video
    write_video_database(tmp_path / "v.db", video, layout_from_region(video.info, Box(0, 0, 32, 32)))
    return open_source(tmp_path / "v.db")


def test_a_closed_source_gives_no_more_frames(closable):
    times = [frame.pts for frame in closable.frames()]
    running = closable.frames(), closable.sample(5), closable.again(times)
    for frames in running:
        next(frames)
    closable.close()
    assert [list(frames) for frames in running] == [[], [], []]
    with pytest.raises(ValueError, match="closed"):
        closable.frames()
    with pytest.raises(ValueError, match="closed"):
        closable.sample(1)
    with pytest.raises(ValueError, match="closed"):
        closable.again(times)


def test_a_video_database_is_told_by_its_name(tmp_path):
    video = open_source(make_video(tmp_path / "v.mp4"))
    write_video_database(tmp_path / "v.DB", video, None, [Span(0, 512, video.info.time_base, 0, 1)])
    assert isinstance(open_source(tmp_path / "v.DB"), VideoDatabase)
