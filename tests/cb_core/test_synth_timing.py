from fractions import Fraction

import av
import numpy as np
import pytest

from cb_core.synth import encode
from cb_core.synth.encode import Encoding, available_codecs, check_times, encode_video, pick_encoding
from cb_core.synth.timing import make_timing, rate_from_text
from cb_runtime.errors import UsageError

SIZE = (96, 64)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("auto", None), ("25", Fraction(25)), ("23.976", Fraction(24000, 1001)), ("30000/1001", Fraction(30000, 1001))],
)
def test_frame_rates_are_read_exactly(text, rate):
    assert rate_from_text(text) == rate


@pytest.mark.parametrize("text", ["fast", "0", "-5", "1/0", "1000"])
def test_impossible_frame_rates_are_refused(text):
    with pytest.raises(UsageError, match="frame rate"):
        rate_from_text(text)


@pytest.mark.parametrize("matroska", [False, True])
def test_frame_times_rise_and_last_as_long_as_asked(matroska):
    for seed in range(30):
        timing = make_timing(np.random.default_rng(seed), 5, None, matroska=matroska)
        assert timing.pts[0] == 0
        assert np.all(np.diff(timing.pts) > 0)
        assert timing.end_pts > timing.pts[-1]
        assert timing.seconds(timing.frames) == pytest.approx(5, abs=0.35)
        assert timing.frame_at(timing.seconds(7)) == 7


def test_some_videos_have_a_variable_frame_rate_unless_one_is_asked_for():
    drawn = [make_timing(np.random.default_rng(seed), 2, None, matroska=False) for seed in range(60)]
    assert {timing.variable for timing in drawn} == {True, False}
    asked = [make_timing(np.random.default_rng(seed), 2, Fraction(25), matroska=False) for seed in range(60)]
    assert {(timing.variable, timing.rate) for timing in asked} == {(False, Fraction(25))}


def noise_frames(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("codec", available_codecs())
@pytest.mark.parametrize("seed", [1, 3, 26])  # constant, and two kinds of variable frame rate
def test_files_show_exactly_the_planned_times(tmp_path, codec, suffix, seed):
    bits = 0.2 if codec == "mpeg4" else None
    encoding = Encoding(codec, suffix, {"deadline": "realtime", "cpu-used": "8"} if "vp9" in codec else {}, bits)
    timing = make_timing(np.random.default_rng(seed), 1, None, matroska=encoding.matroska)
    path = tmp_path / f"x{suffix}"
    encode_video(path, noise_frames(timing.frames), timing, SIZE, encoding)
    base = check_times(path, timing)
    with av.open(str(path)) as container:
        start = container.streams.video[0].start_time or 0
        decoded = [(frame.pts - start) * base for frame in container.decode(video=0)]
    assert decoded == [int(pts) * timing.time_base for pts in timing.pts]


def test_a_file_with_other_times_than_planned_is_never_published(tmp_path):
    timing = make_timing(np.random.default_rng(0), 1, Fraction(25), matroska=False)
    path = tmp_path / "x.mp4"
    encode_video(path, noise_frames(timing.frames - 1), timing, SIZE, Encoding("mpeg4", ".mp4", {}, 0.2))
    with pytest.raises(RuntimeError, match="other frame times"):
        check_times(path, timing)


def test_high_definition_video_says_that_its_colours_are_bt709(tmp_path):
    timing = make_timing(np.random.default_rng(0), 1, Fraction(2), matroska=False)
    for size, matrix in (((96, 720), 1), ((96, 64), 5)):
        path = tmp_path / f"{size[1]}.mp4"
        frames = [np.zeros((size[1], size[0], 3), np.uint8)] * timing.frames
        encode_video(
            path, frames, timing, size, Encoding("libx264", ".mp4") if "libx264" in available_codecs() else MPEG4
        )
        with av.open(str(path)) as container:
            assert next(container.decode(video=0)).colorspace == matrix


MPEG4 = Encoding("mpeg4", ".mp4", {}, 0.2)


def test_without_x264_and_vp9_videos_are_mpeg4(monkeypatch):
    monkeypatch.setattr(encode, "available_codecs", lambda: ("mpeg4",))
    assert {pick_encoding(np.random.default_rng(seed)).codec for seed in range(10)} == {"mpeg4"}


def test_codecs_that_are_not_there_are_not_offered():
    assert not encode._has("no_such_codec")
    assert "mpeg4" in available_codecs()
