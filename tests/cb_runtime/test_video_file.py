import socket
from contextlib import contextmanager
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.error import InvalidDataError
from tiny_videos import (
    FRAMES,
    HEIGHT,
    MILLISECONDS,
    VARIABLE_PTS,
    WIDTH,
    cut_off,
    make_video,
    overwrite,
    packet_places,
    picture,
    set_display_matrix,
)

from cb_runtime.errors import InputError
from cb_runtime.geometry import Box
from cb_runtime.video import decoding, open_source
from cb_runtime.video.file import VideoFile
from cb_runtime.video.pixels import Orientation
from cb_runtime.video.types import DecodeReport

FASTSTART = {"movflags": "+faststart"}


class TestTime:
    def test_b_frame_delay_and_edit_list_shift_nothing(self, tmp_path):
        video = VideoFile(make_video(tmp_path / "v.mp4", b_frames=3))
        assert [frame.pts * video.info.time_base for frame in video.frames()] == [
            Fraction(index, 25) for index in range(FRAMES)
        ]

    def test_a_stream_that_starts_late_starts_at_zero(self, tmp_path):
        pts = [5000 + 40 * index for index in range(FRAMES)]
        video = VideoFile(make_video(tmp_path / "v.mkv", pts=pts, time_base=MILLISECONDS))
        assert [frame.pts for frame in video.frames()] == [40 * index for index in range(FRAMES)]
        assert not video.report.partial
        assert [sample.pts for sample in video.sample(2)] == [200, 600]

    def test_variable_frame_rate_keeps_every_time(self, tmp_path):
        video = VideoFile(make_video(tmp_path / "v.mkv", pts=VARIABLE_PTS, time_base=MILLISECONDS))
        assert video.info.time_base == MILLISECONDS
        assert [frame.pts for frame in video.frames()] == VARIABLE_PTS

    def test_matroska_has_milliseconds_and_no_drift_at_ntsc_rates(self, tmp_path):
        video = VideoFile(make_video(tmp_path / "v.mkv", rate=Fraction(24000, 1001), frames=50))
        assert video.info.time_base == MILLISECONDS
        exact = [index * 1001 / 24 for index in range(50)]
        assert [frame.pts for frame in video.frames()] == pytest.approx(exact, abs=1)

    def test_the_last_frame_has_a_duration(self, tmp_path):
        *_, last = VideoFile(make_video(tmp_path / "v.mp4")).frames()
        assert last.pts + last.duration == 20 * 512

    def test_a_raw_stream_without_times_is_refused_with_a_way_out(self, tmp_path):
        with pytest.raises(InputError, match="ffmpeg -framerate"):
            VideoFile(make_video(tmp_path / "v.h264"))

    def test_an_endless_raw_stream_is_refused_without_decoding_it_all(self):
        decoded = iter(SimpleNamespace(pts=None) for _ in range(1000))
        assert list(decoding.timed_frames(decoded, DecodeReport())) == []
        assert len(list(decoded)) == 900

    def test_frames_whose_time_is_missing_or_does_not_advance_are_left_out_and_counted(self):
        report = DecodeReport()
        decoded = [SimpleNamespace(pts=pts, time_base=MILLISECONDS) for pts in (0, None, 40, 40, 20, 80)]
        assert [frame.pts for frame in decoding.timed_frames(decoded, report)] == [0, 40, 80]
        assert report.skipped_without_pts == 3
        assert report.partial

    def test_a_video_that_starts_after_its_sound_says_so(self, tmp_path):
        path = tmp_path / "v.mkv"
        with av.open(str(path), "w") as container:
            video, sound = container.add_stream("libx264", rate=25), container.add_stream("pcm_s16le", rate=8000)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(picture(index), "rgb24")
                frame.pts, frame.time_base = 25 + index, Fraction(1, 25)
                container.mux(video.encode(frame))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 2), np.int16), "s16", "mono")
            silence.sample_rate, silence.pts = 8000, 0
            container.mux(sound.encode(silence))
            for stream in (video, sound):
                container.mux(stream.encode(None))
        source = VideoFile(path)
        assert next(frames := source.frames()).pts == 0
        assert len(list(frames)) == FRAMES - 1
        assert "starts 1.0" in source.report.messages[0]
        assert not source.report.partial


class TestSamples:
    def test_samples_of_a_container_without_length_are_spread_too(self, tmp_path):
        path = make_video(tmp_path / "v.mkv", container_options={"live": "1"})
        video = VideoFile(path)
        assert video.info.duration_seconds is None
        assert video.info.frame_count is None
        assert len(list(video.sample(4))) == 4

    def test_a_malformed_length_tag_is_passed_over(self):
        stream = SimpleNamespace(duration=None, time_base=MILLISECONDS, metadata={"DURATION": "unknown"})
        container = SimpleNamespace(start_time=0, duration=2_000_000, streams=[stream])
        assert decoding.stated_end(container, stream) == 2000
        stream.metadata = {"DURATION-eng": "00:00:01.500000000"}
        assert decoding.stated_end(container, stream) == 1500


QUARTER_TURNS = {
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "counterclockwise": ((0, -1, 1, 0), lambda image: np.rot90(image)),
    "half": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
}


class TestPicture:
    @pytest.mark.parametrize("turn", QUARTER_TURNS)
    def test_rotation_is_applied_to_picture_size_and_region(self, tmp_path, turn):
        matrix, turned = QUARTER_TURNS[turn]
        path = make_video(tmp_path / "v.mp4")
        stored = next(VideoFile(path).frames()).image
        set_display_matrix(path, *matrix)
        video = VideoFile(path)
        whole = next(video.frames()).image
        assert (video.info.height, video.info.width, 3) == whole.shape
        assert np.array_equal(whole, turned(stored))
        part = next(video.frames(Box(3, 5, 29, 40))).image
        assert np.array_equal(part, whole[5:40, 3:29])

    def test_other_angles_are_left_as_stored(self, tmp_path):
        path = make_video(tmp_path / "v.mp4")
        set_display_matrix(path, 1, 1, -1, 1)
        assert VideoFile(path)._orientation == Orientation()

    @pytest.mark.parametrize(
        ("colour", "expected"),
        # Y, Cb, Cr = 120, 90, 200 by the formulas of BT.601, BT.709 and BT.2020, limited and full range.
        [((5, 1), (236, 77, 44)), ((1, 1), (250, 91, 41)), ((9, 1), (242, 81, 40)), ((1, 2), (233, 93, 49))],
    )
    def test_colour_matrix_and_range_of_the_stream_are_honoured(self, tmp_path, colour, expected):
        path = tmp_path / "v.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = colour
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane, value in zip(frame.planes, (120, 90, 200), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.colorspace, frame.color_range = colour
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        pixel = next(VideoFile(path).frames(Box(3, 3, 9, 9))).image[0, 0]
        assert np.abs(pixel.astype(int) - expected).max() <= 1

    def test_odd_sizes_are_read_whole(self, tmp_path):
        path = make_video(tmp_path / "v.mkv", size=(63, 47), codec="ffv1", b_frames=0)
        video = VideoFile(path)
        assert (video.info.width, video.info.height) == (63, 47)
        assert next(video.frames(Box(60, 44, 63, 47))).image.shape == (3, 3, 3)

    def test_frames_of_another_size_are_scaled_to_the_first(self, tmp_path):
        small, large = make_video(tmp_path / "a.ts"), make_video(tmp_path / "b.ts", size=(128, 96))
        path = tmp_path / "both.ts"
        path.write_bytes(small.read_bytes() + large.read_bytes())
        shapes = {frame.image.shape for frame in VideoFile(path).frames(Box(0, 20, 64, 40))}
        assert shapes == {(20, 64, 3)}


class TestDamage:
    def test_a_truncated_mp4_keeps_what_was_decoded(self, tmp_path):
        path = make_video(tmp_path / "v.mp4", container_options=FASTSTART)
        whole, places = list(VideoFile(path).frames()), packet_places(path)
        cut_off(path, 0.8)
        video = VideoFile(path)
        frames = list(video.frames())
        assert 5 < len(frames) < FRAMES
        size = path.stat().st_size
        assert len(frames) == sum(
            position + length <= size for position, length in places
        )  # none that was whole is lost
        images = {frame.pts: frame.image for frame in whole}
        assert all(np.array_equal(frame.image, images[frame.pts]) for frame in frames)
        assert video.report.partial
        assert video.report.truncated
        assert any("cut off" in message for message in video.report.messages)

    def test_a_truncated_mkv_keeps_what_was_decoded(self, tmp_path):
        path = make_video(tmp_path / "v.mkv", key_every=5)
        cut_off(path, 0.6)
        video = VideoFile(path)
        assert 2 < len(list(video.frames())) < FRAMES
        assert video.report.truncated

    @pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
    def test_samples_of_a_truncated_file_tell_that_it_is(self, tmp_path, name):
        """Where no text is seen in them, nothing else is read."""
        options = {"container_options": {"movflags": "faststart"}} if name == "v.mp4" else {}
        path = make_video(tmp_path / name, frames=200, **options)
        whole = VideoFile(path)
        list(whole.sample(12))
        assert not whole.report.partial
        cut_off(path, 0.5)
        video = VideoFile(path)
        assert len(list(video.sample(12))) < 12
        assert video.report.truncated
        assert any("s could not be read: the file is cut off" in message for message in video.report.messages)

    def test_a_video_cut_before_its_index_is_refused(self, tmp_path):
        path = make_video(tmp_path / "v.mp4")
        cut_off(path, 0.6)
        with pytest.raises(InputError, match="cut off"):
            VideoFile(path)

    def test_a_video_cut_before_its_first_frame_is_refused(self, tmp_path):
        path = make_video(tmp_path / "v.mp4", container_options=FASTSTART)
        position, _ = packet_places(path)[0]
        path.write_bytes(path.read_bytes()[: position + 4])
        with pytest.raises(InputError, match=r"No frame of .* could be decoded"):
            VideoFile(path)

    def test_damaged_packets_in_the_middle_are_skipped_and_counted(self, tmp_path):
        path = make_video(tmp_path / "v.mp4", frames=60, b_frames=0)
        overwrite(path, packet_places(path)[22:26])
        video = VideoFile(path)
        frames = list(video.frames())
        assert 50 <= len(frames) < 60
        assert frames[-1].pts == 59 * 512
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert video.report.errors >= 1
        assert video.report.partial
        assert not video.report.truncated
        assert any("damaged packets" in message for message in video.report.messages)

    def test_after_32_damaged_packets_in_a_row_the_rest_is_given_up(self, tmp_path):
        path = make_video(tmp_path / "v.mp4", frames=120, b_frames=0)
        overwrite(path, packet_places(path)[20:100])
        video = VideoFile(path)
        frames = list(video.frames())
        assert 15 <= len(frames) <= 21
        assert video.report.truncated
        assert any("Gave up" in message for message in video.report.messages)

    def test_reading_goes_on_after_a_packet_that_cannot_be_read(self):
        calls = iter([["a"], ["b", "c"]])

        def demux(_):
            yield from (rest := next(calls))
            if rest == ["a"]:
                raise InvalidDataError(1, "bad")

        assert list(decoding.packets_of(SimpleNamespace(demux=demux), None)) == ["a", None, "b", "c"]

    def test_a_file_that_cannot_be_read_any_more_ends(self):
        def demux(_):
            raise InvalidDataError(1, "bad")

        def decode(_):
            raise InvalidDataError(1, "drained")

        report = DecodeReport()
        stream = SimpleNamespace(codec_context=SimpleNamespace(decode=decode))
        assert (
            list(decoding.decoded_frames(decoding.packets_of(SimpleNamespace(demux=demux), stream), stream, report))
            == []
        )
        assert report.truncated
        assert report.errors == decoding.PATIENCE_AT_FIRST

    def test_samples_are_taken_from_what_can_be_read_of_a_file_without_length(self, tmp_path, monkeypatch):
        video = VideoFile(make_video(tmp_path / "v.mkv", container_options={"live": "1"}, b_frames=0))
        opened = video._opened

        class CutOff:
            def __init__(self, container):
                self.container, self.packets = container, 0

            def __getattr__(self, name):
                return getattr(self.container, name)

            def demux(self, stream):
                for packet in self.container.demux(stream):
                    self.packets += 1
                    if self.packets > 10:
                        raise InvalidDataError(1, "cut off")
                    yield packet

        @contextmanager
        def cut_off_after_ten_packets():
            with opened() as (container, stream):
                yield CutOff(container), stream

        monkeypatch.setattr(video, "_opened", cut_off_after_ten_packets)
        samples = [sample.pts for sample in video.sample(3)]
        assert samples == sorted(set(samples))
        assert samples
        assert samples[-1] <= 9 * 40

    def test_metadata_in_a_broken_encoding_is_no_obstacle(self, tmp_path):
        path = make_video(tmp_path / "v.mkv")
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURAT\x80ON"))
        assert len(list(VideoFile(path).frames())) == FRAMES


class TestNotAVideo:
    def test_a_missing_file(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            open_source(tmp_path / "none.mp4")

    def test_a_folder(self, tmp_path):
        with pytest.raises(InputError, match="is a folder"):
            open_source(tmp_path)

    def test_an_empty_file(self, tmp_path):
        (tmp_path / "v.mp4").touch()
        with pytest.raises(InputError, match="is empty"):
            open_source(tmp_path / "v.mp4")

    @pytest.mark.parametrize("name", ["v.mp4", "v.txt"])
    def test_a_text_file_whatever_its_name(self, tmp_path, name):
        (tmp_path / name).write_text("hello world\n" * 50)
        with pytest.raises(InputError, match="video"):
            open_source(tmp_path / name)

    def test_a_file_with_sound_only(self, tmp_path):
        path = tmp_path / "v.mkv"
        with av.open(str(path), "w") as container:
            sound = container.add_stream("pcm_s16le", rate=8000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16", "mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
        with pytest.raises(InputError, match="no video stream"):
            open_source(path)

    def test_a_playlist_fetches_nothing(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
            (tmp_path / "v.m3u8").write_text(f"#EXTM3U\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n")
            with pytest.raises(InputError):
                open_source(tmp_path / "v.m3u8")
            server.settimeout(0.1)
            with pytest.raises(TimeoutError):
                server.accept()

    def test_the_name_of_a_video_is_never_taken_for_a_protocol(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        make_video(tmp_path / "http:v.mp4")
        assert len(list(VideoFile("http:v.mp4").frames())) == FRAMES
