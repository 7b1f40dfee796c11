from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from cb_core.synth.backgrounds import Background, plan_stretches
from cb_core.synth.distractors import Clock, Logo, Ticker, pick_distractors
from cb_core.synth.encode import Encoding, encode_video
from cb_core.synth.fonts import find_fonts
from cb_core.synth.media import VideoLoop, covering, find_backgrounds, read_picture
from cb_core.synth.shots import media_shot, shot_maker
from cb_core.synth.style import pick_style
from cb_core.synth.textures import TEXTURES
from cb_core.synth.timing import make_timing
from cb_runtime.errors import InputError

SIZE = (160, 96)
TIMING = make_timing(np.random.default_rng(0), 8, Fraction(25), matroska=False)


def background_frames(seed, files=()):
    rng = np.random.default_rng(seed)
    stretches = plan_stretches(rng, TIMING, [20, 60])
    background = Background(rng, TIMING, SIZE, shot_maker(SIZE, files), stretches)
    return [background.frame(index) for index in range(TIMING.frames)]


def test_shots_follow_each_other_without_gaps():
    for seed in range(40):
        stretches = plan_stretches(np.random.default_rng(seed), TIMING, [20, 60])
        assert stretches[0].start == 0
        assert stretches[-1].stop == TIMING.frames
        assert all(a.stop == b.start for a, b in pairwise(stretches))
        assert all(s.start < s.fade_from <= s.stop for s in stretches)


@pytest.mark.parametrize("maker", TEXTURES, ids=lambda maker: maker.__name__)
@pytest.mark.parametrize("size", [(134, 90), (900, 500)])
def test_every_texture_is_a_picture_of_the_size_asked_for(maker, size):
    picture = maker(np.random.default_rng(0), *size)
    assert picture.shape == (size[1], size[0], 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 0


def test_backgrounds_are_the_same_for_the_same_seed_and_others_for_another():
    first, again, other = background_frames(3), background_frames(3), background_frames(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_backgrounds_move_and_cut():
    changes = [
        np.abs(np.diff(np.stack(background_frames(seed)).astype(int), axis=0)).mean((1, 2, 3)) for seed in range(6)
    ]
    assert max(change.max() for change in changes) > 20
    assert sum(float(np.median(change)) > 0 for change in changes) >= 2


@pytest.fixture
def picture_folder(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((50, 400, 3), (0, 0, 200), np.uint8))
    return tmp_path


@pytest.fixture
def video_file(tmp_path):
    path = tmp_path / "clean.mp4"
    timing = make_timing(np.random.default_rng(0), 1, Fraction(10), matroska=False)
    frames = [np.full((64, 96, 3), (20 * index, 0, 200), np.uint8) for index in range(10)]
    encode_video(path, frames, timing, (96, 64), Encoding("mpeg4", ".mp4", {}, 0.3))
    return path


def test_the_users_pictures_become_backgrounds(picture_folder):
    shot = media_shot(np.random.default_rng(0), find_backgrounds(picture_folder), SIZE)
    frame = shot.frame(0.0, 0.0)
    assert frame.shape == (96, 160, 3)
    assert frame[..., 0].mean() > 150 > 20 > frame[..., 2].mean()


def test_the_users_videos_run_at_their_own_speed_and_begin_anew(video_file):
    loop = VideoLoop(video_file, SIZE, 0.0)
    reds = [float(loop.frame(seconds)[..., 0].mean()) for seconds in (0.0, 0.05, 0.55, 0.95, 1.05)]
    assert reds[0] == reds[1] < reds[2] < reds[3]
    assert reds[4] == pytest.approx(reds[0], abs=3)


def test_a_video_can_begin_anywhere(video_file):
    shot = media_shot(np.random.default_rng(0), [video_file], SIZE)
    assert shot.frame(0.0, 0.0).shape == (96, 160, 3)


def test_cutouts_of_other_pictures_move_over_a_picture(tmp_path):
    for name, colour in (("one", (0, 0, 200)), ("two", (0, 200, 0))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((200, 300, 3), colour, np.uint8))
    files = find_backgrounds(tmp_path)

    def colours(seed, moving):
        frame = media_shot(np.random.default_rng(seed), files, SIZE, moving).frame(0.0, 0.0).astype(int)
        return {"red" if red > green else "green" for red, green, _ in frame.reshape(-1, 3)}

    assert all(len(colours(seed, 0.0)) == 1 for seed in range(12))
    assert any(len(colours(seed, 1.0)) == 2 for seed in range(12))


def test_of_a_picture_that_is_larger_than_the_frame_any_part_can_be_kept():
    picture = np.repeat(np.arange(200, dtype=np.uint8)[:, None, None], 100, axis=1).repeat(3, axis=2)
    upper, lower = (covering(picture, (100, 50), (0.5, place)) for place in (0.0, 1.0))
    assert (upper[0, 0, 0], lower[-1, 0, 0]) == (0, 199)


def test_pictures_cover_the_frame_with_their_aspect_kept():
    assert covering(np.zeros((10, 500, 3), np.uint8), SIZE).shape == (96, 160, 3)
    assert covering(np.zeros((900, 40, 3), np.uint8), SIZE).shape == (96, 160, 3)


def test_a_missing_background_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_backgrounds(tmp_path / "none")


def test_a_folder_without_pictures_and_videos_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="No picture or video"):
        find_backgrounds(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.png cannot be read"):
        read_picture(path)
    with pytest.raises(InputError, match=r"y\.png cannot be read"):
        read_picture(tmp_path / "y.png")


def test_a_video_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"x\.mp4 cannot be read"):
        VideoLoop(path, SIZE, 0.5)


def test_a_file_without_a_video_stream_is_named(tmp_path):
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no video frame"):
        VideoLoop(path, SIZE, 0.0)


def drawn_distractors():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        style = pick_style(rng, find_fonts(), *SIZE)
        found, style_after = pick_distractors(rng, style, TIMING, SIZE)
        yield found, style, style_after


def test_logos_clocks_and_tickers_occur_and_change_frames_as_their_kind_does():
    seen = {}
    for found, _, _ in drawn_distractors():
        seen.update({type(distractor): distractor for distractor in found})
    assert set(seen) == {Logo, Clock, Ticker}
    for distractor in seen.values():
        frames = [np.full((SIZE[1], SIZE[0], 3), 90, np.uint8) for _ in (TIMING.frames - 1, TIMING.frames - 30)]
        distractor.draw(frames[0], TIMING.frames - 1)
        distractor.draw(frames[1], TIMING.frames - 30)
        assert (frames[0] != 90).any()
        assert np.array_equal(*frames) == (isinstance(distractor, Logo) and distractor.speed == (0.0, 0.0))


def test_captions_make_room_for_a_ticker_beside_them():
    moved = [(style, after) for found, style, after in drawn_distractors() if style.margin != after.margin]
    assert moved
    assert all(after.margin > style.margin for style, after in moved)


def test_a_logo_that_comes_late_is_not_drawn_before():
    late = next(d for found, _, _ in drawn_distractors() for d in found if isinstance(d, Logo) and d.shown[0] > 0)
    frame = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    late.draw(frame, late.shown[0] - 1)
    assert (frame == 90).all()
