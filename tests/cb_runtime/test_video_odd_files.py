"""Promises about files that players show and that are not as they should be: joined, cut, without times."""

from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.error import InvalidDataError
from tiny_videos import FRAMES, HEIGHT, MILLISECONDS, WIDTH, make_video, packet_places, picture

from cb_runtime.video import decoding
from cb_runtime.video.file import VideoFile
from cb_runtime.video.types import DecodeReport


def times_of(video):
    return [float(frame.pts * video.info.time_base) for frame in video.frames()]


@pytest.mark.parametrize(("codec", "b_frames"), [("libx264", 3), ("libx264", 0), ("mpeg4", 2), ("mpeg4", 0)])
def test_frames_of_an_avi_are_shown_in_turn_whatever_order_they_are_stored_in(tmp_path, codec, b_frames):
    video = VideoFile(make_video(tmp_path / "v.avi", codec=codec, b_frames=b_frames))
    assert times_of(video) == pytest.approx([index / 25 for index in range(FRAMES)])
    assert not video.report.partial
    again = list(video.again([frame.pts for frame in video.frames()][7::6]))
    positions = [int(np.argmax(frame.image[HEIGHT // 2 + 3, :, 2] > 200)) for frame in again]
    assert positions == pytest.approx([3 * index % (WIDTH - 8) for index in range(7, FRAMES, 6)], abs=1)


def test_a_clock_that_begins_anew_is_told_with_a_way_out(tmp_path):
    once = make_video(tmp_path / "once.ts", frames=50).read_bytes()
    (tmp_path / "twice.ts").write_bytes(once + once)
    video = VideoFile(tmp_path / "twice.ts")
    assert len(times_of(video)) == 50
    (jump,) = [message for message in video.report.messages if "jumps back" in message]
    assert "ffmpeg -i FILE -c copy" in jump
    assert video.report.skipped_without_pts > 40


def test_a_frame_that_is_merely_out_of_order_is_no_new_clock():
    report = DecodeReport()
    frames = [SimpleNamespace(pts=pts, time_base=MILLISECONDS) for pts in (0, 400, 200, 440)]
    assert [frame.pts for frame in decoding.timed_frames(frames, report)] == [0, 400, 440]
    assert report.messages == []


def test_a_recording_that_begins_between_key_frames_says_what_is_lost(tmp_path):
    options = {"key_every": 30, "b_frames": 0, "codec_options": {"sc_threshold": "0"}}
    path = make_video(tmp_path / "v.ts", frames=60, **options)
    whole = path.read_bytes()
    tenth, _ = packet_places(path)[10]
    path.write_bytes(whole[tenth:])
    video = VideoFile(path)
    assert times_of(video) == pytest.approx([0.04 * index for index in range(20, 50)])
    assert "The first 0.80 s cannot be decoded" in video.report.messages[0]


def test_packets_that_nothing_can_be_made_of_are_borne_before_the_first_frame_only():
    def decode():
        raise InvalidDataError(1, "no parameter sets")

    bad = SimpleNamespace(is_corrupt=False, decode=decode)
    good = SimpleNamespace(is_corrupt=False, decode=lambda: [SimpleNamespace(is_corrupt=False)])
    stream = SimpleNamespace(codec_context=SimpleNamespace(decode=lambda packet: []))
    report = DecodeReport()
    packets = [*[bad] * 500, good, *[bad] * 500, good]
    assert len(list(decoding.decoded_frames(packets, stream, report))) == 1
    assert report.errors == 500 + decoding.GIVE_UP_AFTER
    assert report.truncated


def test_what_is_damaged_in_the_sound_ends_no_video(tmp_path):
    """Of a fragmented MP4 that is cut off, the sound of the last fragment lies behind its pictures."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}) as container:
        video, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=8000)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size = 1000
        video.codec_context.max_b_frames = 0
        for index in range(100):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(index), "rgb24")))
            noise = np.random.default_rng(index).uniform(-1, 1, (1, 320)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
            frame.sample_rate, frame.pts = 8000, 320 * index
            container.mux(sound.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    pictures_end = sum(packet_places(path)[79])
    path.write_bytes(path.read_bytes()[:pictures_end])
    assert len(times_of(VideoFile(path))) == 80
