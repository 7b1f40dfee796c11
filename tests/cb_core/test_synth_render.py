import errno
import json
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pysubs2
import pytest

from cb_core.synth import collection, render
from cb_core.synth.collection import render_collection, render_videos
from cb_core.synth.plan import SynthOptions, plan_video
from cb_core.synth.render import CaptionPainter, draw_frames, render_video
from cb_core.synth.truth import read_truth
from cb_runtime.errors import InputError, UsageError

SIZE = (224, 128)
READABLE_SIZE = (448, 256)
"""Large enough that letters of every font keep their contrast."""


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.time_base, [
            (frame.pts - (stream.start_time or 0), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(stream)
        ]


def truth_of(video):
    return read_truth(video.with_name(video.stem + ".truth.json"))


@pytest.fixture(scope="module")
def grey_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grey")
    cv2.imwrite(str(folder / "grey.png"), np.full((200, 300, 3), 110, np.uint8))
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos of ten seconds with all that varies."""
    return render_videos(tmp_path_factory.mktemp("videos"), 6, 10, seed=11, size=SIZE)


@pytest.fixture(scope="module")
def plain_videos(tmp_path_factory, grey_folder):
    """Four videos in which nothing but the captions is apt to change."""
    return render_videos(
        tmp_path_factory.mktemp("plain"), 4, 10, 3, size=READABLE_SIZE, frame_rate=Fraction(25), backgrounds=grey_folder
    )


def test_the_encoded_frames_have_exactly_the_pts_of_the_truth(videos):
    for video in videos:
        truth = truth_of(video)
        time_base, frames = decoded(video)
        assert [time_base.numerator, time_base.denominator] == truth["time_base"]
        assert [pts for pts, _ in frames] == truth["pts"]
        assert len(truth["pts"]) == len(truth["opacity"]) == truth["frames"]
        assert frames[0][1].shape == (truth["height"], truth["width"], 3)


def test_caption_times_are_the_pts_of_their_frames(videos):
    for truth in map(truth_of, videos):
        pts = [*truth["pts"], truth["end_pts"]]
        for caption in truth["captions"]:
            assert caption["start_pts"] == pts[caption["start_frame"]]
            assert caption["end_pts"] == pts[caption["end_frame"]]


def test_every_caption_is_a_cue_of_the_subtitles(videos):
    for video in videos:
        captions = truth_of(video)["captions"]
        cues = pysubs2.load(str(video.with_suffix(".srt")))
        assert [cue.plaintext for cue in cues] == [caption["text"] for caption in captions]


def test_the_picture_changes_in_the_caption_region_at_each_boundary(plain_videos):
    checked = 0
    for video in plain_videos:
        truth = truth_of(video)
        frames = [image.astype(int) for _, image in decoded(video)[1]]
        for caption in truth["captions"]:
            left, top, right, bottom = caption["region"]
            for fade, frame in (
                (caption["fade_in"], caption["start_frame"]),
                (caption["fade_out"], caption["end_frame"]),
            ):
                before, after = (fade[0] - 1, fade[1]) if fade else (frame - 1, frame)
                if before < 0 or after >= len(frames):
                    continue
                change = np.abs(frames[after] - frames[before])[top:bottom, left:right]
                assert change.max() > 60, (video, caption)
                checked += 1
    assert checked >= 12


def drawn(plan, painter):
    return [frame.copy() for frame in draw_frames(plan, painter)]


class NoPainter:
    def draw(self, frame, index):
        pass


@pytest.mark.parametrize("index", range(3))
def test_captions_change_exactly_the_frames_and_the_region_that_the_truth_says(index):
    plan = plan_video(SynthOptions(6, 5, SIZE, Fraction(25)), index)
    painter = CaptionPainter(plan)
    with_captions, without = drawn(plan, painter), drawn(plan, NoPainter())
    for number, (image, bare) in enumerate(zip(with_captions, without, strict=True)):
        rows, columns = np.nonzero((image != bare).any(axis=2))
        shown = [k for k, event in enumerate(plan.events) if event.first_frame <= number <= event.last_frame]
        assert bool(len(rows)) == bool(shown), number
        if shown:
            boxes = [painter.regions[k] for k in shown]
            assert min(box.top for box in boxes) <= rows.min()
            assert rows.max() < max(box.bottom for box in boxes)
            assert min(box.left for box in boxes) <= columns.min()
            assert columns.max() < max(box.right for box in boxes)


def test_the_videos_region_holds_all_captions(videos):
    for truth in map(truth_of, videos):
        left, top, right, bottom = truth["region"]
        for caption in truth["captions"]:
            assert left <= caption["region"][0] < caption["region"][2] <= right <= truth["width"]
            assert top <= caption["region"][1] < caption["region"][3] <= bottom <= truth["height"]


def test_karaoke_recolours_the_caption_but_not_its_shape():
    plan = plan_video(SynthOptions(4, 1, (854, 480), Fraction(25)), 0)
    style = replace(plan.style, karaoke=(255, 0, 0), colours=((255, 255, 255),), fades=0.0, softness=0.0)
    events = tuple(replace(event, colour=0, fade_in_frames=0, fade_out_frames=0) for event in plan.events[:1])
    plan = replace(plan, style=style, events=events)
    painter = CaptionPainter(plan)
    reds = []
    for index in range(events[0].end_frame):
        frame = np.zeros((480, 854, 3), np.uint8)
        painter.draw(frame, index)
        reds.append(int(((frame[..., 0] > 200) & (frame[..., 1] < 50)).sum()))
    shown = reds[events[0].start_frame :]
    assert shown[0] == 0 < shown[-1]
    assert shown == sorted(shown)


def test_the_same_seed_gives_the_same_frames_and_truth(tmp_path):
    first, again = (render_videos(tmp_path / name, 2, 2, 7, size=SIZE) for name in ("a", "b"))
    for one, other in zip(first, again, strict=True):
        assert truth_of(one) == truth_of(other)
        pairs = zip(decoded(one)[1], decoded(other)[1], strict=True)
        assert all(a[0] == b[0] and np.array_equal(a[1], b[1]) for a, b in pairs)


def test_another_seed_gives_other_videos_and_more_videos_leave_the_first_as_they_were(tmp_path):
    one = render_videos(tmp_path / "a", 1, 2, 7, size=SIZE)
    more = render_videos(tmp_path / "b", 2, 2, 7, size=SIZE)
    other = render_videos(tmp_path / "c", 1, 2, 8, size=SIZE)
    assert truth_of(one[0]) == truth_of(more[0])
    assert truth_of(one[0])["captions"] != truth_of(other[0])["captions"]
    assert truth_of(more[0])["captions"] != truth_of(more[1])["captions"]


def test_several_processes_render_what_one_does(tmp_path):
    calls = []
    alone = render_videos(tmp_path / "a", 2, 1, 9, size=SIZE)
    together = render_videos(tmp_path / "b", 2, 1, 9, size=SIZE, jobs=2, progress=lambda *call: calls.append(call))
    assert [truth_of(video) for video in alone] == [truth_of(video) for video in together]
    assert calls[-1][1] == calls[-1][2] == sum(truth_of(video)["frames"] for video in together)


def test_rendering_processes_end_with_one_that_is_killed(tmp_path):
    script = """
from cb_core.synth.collection import render_videos
if __name__ == "__main__":
    render_videos("videos", 2000, 1, 9, size=(224, 128), jobs=2, progress=lambda _, done, __: print(done, flush=True))
"""
    (tmp_path / "render.py").write_text(script, encoding="utf-8")
    with subprocess.Popen([sys.executable, "render.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as parent:
        assert [int(parent.stdout.readline()) > 0 for _ in range(2)] == [False, True]
        parent.kill()
        # The processes it started hold the other end of the pipe as long as they live.
        parent.communicate(timeout=60)


def test_a_failure_in_another_process_keeps_its_message(tmp_path, grey_folder):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"x\.png cannot be read"):
        render_videos(tmp_path / "out", 2, 1, 0, size=SIZE, backgrounds=tmp_path / "bad", jobs=2)


OPTIONS = SynthOptions(1, 2, SIZE, Fraction(10))


def test_finished_videos_are_kept_and_missing_ones_rendered(tmp_path):
    assert render_collection(tmp_path, 2, OPTIONS).rendered == 2
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    calls = []
    again = render_collection(tmp_path, 3, OPTIONS, progress=lambda *call: calls.append(call))
    assert again.rendered == 1
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert calls[-1][1:] == (10, 10)


@pytest.mark.parametrize("part", ["video", "subtitles"])
def test_a_video_that_lacks_one_of_its_files_is_rendered_again(tmp_path, part):
    files = render_collection(tmp_path, 1, OPTIONS).files[0]
    getattr(files, part).unlink()
    assert render_collection(tmp_path, 1, OPTIONS).rendered == 1
    assert getattr(files, part).exists()


def test_an_interruption_leaves_no_half_video(tmp_path):
    plan = plan_video(OPTIONS, 0)

    def stop(done):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_video(plan, tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_told_to_stop_leaves_no_half_video(tmp_path, monkeypatch):
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr(collection, "_stop", stop)
    with pytest.raises(KeyboardInterrupt):
        collection._render_one(tmp_path, OPTIONS, 0)
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_a_killed_run_is_cleared_away(tmp_path):
    (tmp_path / ".video_0000.abc.mp4").write_bytes(b"half")
    files = render_video(plan_video(OPTIONS, 0), tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([files.video, files.subtitles, files.truth])


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(render, "encode_video", full)
    with pytest.raises(InputError, match="disk is full"):
        render_video(plan_video(OPTIONS, 0), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_videos_of_other_settings_are_not_replaced_unless_asked(tmp_path):
    first = render_collection(tmp_path, 1, OPTIONS).files[0]
    other = replace(OPTIONS, seed=3)
    before = first.truth.read_bytes()
    with pytest.raises(UsageError, match="other settings"):
        render_collection(tmp_path, 1, other)
    assert first.truth.read_bytes() == before
    assert render_collection(tmp_path, 1, other, overwrite=True).rendered == 1
    assert json.loads(first.truth.read_text(encoding="utf-8"))["seed"] == 3
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("part", ["video", "subtitles"])
def test_files_that_are_not_ours_are_not_replaced_unless_asked(tmp_path, part):
    theirs = getattr(render_collection(tmp_path / "a", 1, OPTIONS).files[0], part).name
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / theirs).write_bytes(b"mine")
    with pytest.raises(UsageError, match="not rendered by cb synth"):
        render_collection(tmp_path / "b", 1, OPTIONS)
    assert (tmp_path / "b" / theirs).read_bytes() == b"mine"
    assert render_collection(tmp_path / "b", 1, OPTIONS, overwrite=True).rendered == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": 0.5}, "at least 1 second"),
        ({"seed": -1}, "seed"),
        ({"size": (63, 64)}, "size"),
        ({"size": (10, 10)}, "size"),
        ({"frame_rate": Fraction(1000)}, "frame rate"),
    ],
)
def test_options_that_cannot_be_obeyed_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        render_collection(tmp_path / "out", 1, replace(OPTIONS, **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("numbers", [{"videos": 0}, {"videos": 1, "jobs": 0}])
def test_numbers_below_one_are_refused(tmp_path, numbers):
    with pytest.raises(UsageError, match="at least 1"):
        render_collection(tmp_path, options=OPTIONS, **numbers)
