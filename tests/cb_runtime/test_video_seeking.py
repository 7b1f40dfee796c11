"""Promises about reaching frames of video files without decoding all of them."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from av.error import InvalidDataError
from tiny_videos import make_video

from cb_runtime.video import seeking
from cb_runtime.video.file import VideoFile
from cb_runtime.video.seeking import seek


def test_samples_of_a_long_video_are_reached_by_seeking(tmp_path, monkeypatch):
    jumps = []
    monkeypatch.setattr(seeking, "seek", lambda *place: jumps.append(place[2]) or seek(*place))
    video = VideoFile(make_video(tmp_path / "v.mp4", frames=200, rate=4, key_every=12))
    by_pts = {frame.pts: frame.image for frame in video.frames()}
    samples = list(video.sample(5))
    assert len(jumps) >= 4
    assert [round(sample.pts * video.info.time_base) for sample in samples] == [5, 15, 25, 35, 45]
    assert all(np.array_equal(sample.image, by_pts[sample.pts]) for sample in samples)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.avi"])
@pytest.mark.parametrize("key_every", [12, 1000])
def test_frames_read_again_are_the_same_wherever_key_frames_are(tmp_path, name, key_every):
    codec = {"codec": "mpeg4", "b_frames": 0} if name == "v.avi" else {}
    video = VideoFile(make_video(tmp_path / name, frames=120, rate=6, key_every=key_every, **codec))
    frames = list(video.frames())
    wanted = frames[::7]
    again = list(video.again([frame.pts for frame in wanted]))
    assert [frame.pts for frame in again] == [frame.pts for frame in wanted]
    assert all(np.array_equal(one.image, other.image) for one, other in zip(again, wanted, strict=True))


def test_where_an_index_tells_of_no_key_frame_ahead_nothing_is_decoded_twice(tmp_path, monkeypatch):
    jumps = []
    monkeypatch.setattr(seeking, "seek", lambda *place: jumps.append(place[2]) or seek(*place))
    for key_every, expected in ((1000, 0), (12, 10)):
        options = {"key_every": key_every, "codec_options": {"sc_threshold": "0"}}  # no other key frames
        video = VideoFile(make_video(tmp_path / f"{key_every}.mp4", frames=240, rate=2, **options))
        times = [frame.pts for frame in video.frames()]
        assert len(list(video.again(times[20::24]))) == 10
        assert len(jumps) == expected
        jumps.clear()


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_frames_that_no_other_needs_are_left_out_on_the_way(tmp_path, monkeypatch, name):
    decoded = []
    read = seeking.read_frames
    monkeypatch.setattr(seeking, "read_frames", lambda *given: (decoded.append(f) or f for f in read(*given)))
    options = {"key_every": 1000, "b_frames": 3, "codec_options": {"sc_threshold": "0"}}  # one key frame
    video = VideoFile(make_video(tmp_path / name, frames=250, **options))
    by_pts = {frame.pts: frame.image for frame in video.frames()}
    last = list(by_pts)[-1]
    (again,) = video.again([last])
    assert np.array_equal(again.image, by_pts[last])
    assert 0.3 * len(by_pts) < len(decoded) < 0.8 * len(by_pts)


def test_where_seeking_arrives_after_what_is_wanted_it_goes_further_back(tmp_path):
    options = {"key_every": 150, "codec_options": {"sc_threshold": "0"}}  # every six seconds
    video = VideoFile(make_video(tmp_path / "v.ts", frames=400, **options))
    by_pts = {frame.pts: frame.image for frame in video.frames()}
    wanted = list(by_pts)[140::135]  # well after a key frame
    again = list(video.again(wanted))
    assert [frame.pts for frame in again] == wanted
    assert all(np.array_equal(frame.image, by_pts[frame.pts]) for frame in again)


def test_a_container_that_cannot_seek_is_decoded_on():
    def refuse(*_, **__):
        raise InvalidDataError(1, "no index")

    assert not seeking.seek(SimpleNamespace(seek=refuse), None, 0)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.avi"])
def test_any_frame_is_reached_from_the_beginning_of_the_file(tmp_path, name):
    options = {"key_every": 240, "b_frames": 3, "codec_options": {"sc_threshold": "0"}}
    video = VideoFile(make_video(tmp_path / name, frames=500, **options))
    by_pts = {frame.pts: frame.image for frame in video.frames()}
    for wanted in [*list(by_pts)[3::37], list(by_pts)[-1]]:
        (again,) = video.again([wanted])
        assert np.array_equal(again.image, by_pts[wanted])


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1", "mpeg4", "libvpx-vp9"])
def test_frames_of_any_codec_are_reached_again(tmp_path, codec):
    video = VideoFile(make_video(tmp_path / "v.mkv", frames=90, codec=codec, key_every=30, b_frames=0))
    by_pts = {frame.pts: frame.image for frame in video.frames()}
    for wanted in list(by_pts)[5::12]:
        again = {frame.pts: frame.image for frame in video.again([wanted])}
        assert again.keys() == {wanted}, "a frame that the decoder took for one that it may leave out"
        assert np.array_equal(again[wanted], by_pts[wanted])


def test_a_picture_that_is_held_is_one_sample_and_brings_none_of_its_neighbours(tmp_path):
    tick = Fraction(1, 25)
    held = [*range(25), *range(525, 550)]  # for twenty of twenty-two seconds
    video = VideoFile(make_video(tmp_path / "v.mp4", frames=50, pts=held, time_base=tick, b_frames=0))
    assert [float(sample.pts * video.info.time_base) for sample in video.sample(22)] == [0.52, 21.0, 21.52]
