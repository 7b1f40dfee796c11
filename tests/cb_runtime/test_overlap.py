"""A video whose stages run at the same time: the same answers as in turn, an end in time, and nothing left behind."""

import signal
import threading
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)
from tiny_models import CAPTION, EMPTY, OTHER, REGION_TEXT, bright_video, levels_of, tiny_model
from tiny_videos import make_video

from cb_runtime import cores, limits, source_scoring
from cb_runtime import predictor as predictor_module
from cb_runtime import video as video_sources
from cb_runtime.errors import ContractError, InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.pipeline import Profile
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.session import Session
from cb_runtime.video import open_source
from cb_runtime.video.types import DecodeReport, Frame, VideoInfo

PATIENCE = 30
RUNS = ((EMPTY, 20), (CAPTION, 30), (EMPTY, 10), (CAPTION, 25), (OTHER, 25), (EMPTY, 10))
SPANS = [(20, 50), (60, 85), (85, 110)]
LEVELS = levels_of(*RUNS)


def every_pair(*arguments, **options):
    """Return a predictor that looks at every pair: in these videos most frames are equal."""
    return BoundaryPredictor(*arguments, **({"skip": "none", "coarse": 1} | options))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return bright_video(tmp_path_factory.mktemp("video") / "film.mp4", LEVELS)


class Source:
    """Frames made as they are read; `at` maps a frame's number to something that is done before it is given."""

    def __init__(self, levels, at):
        self.levels, self.at = levels, at
        self.report, self.closed, self.reading = DecodeReport(), False, False
        self.info = VideoInfo("fake.mp4", 320, 160, Fraction(1, 25), Fraction(25), len(levels), None)

    def frames(self, region=None):
        self.reading = True
        try:
            for index, level in enumerate(self.levels):
                self.at.get(index, lambda: None)()
                yield Frame(index, index, 1, np.full((region.height, region.width, 3), level, np.uint8))
        finally:
            self.reading = False

    def again(self, times, region=None):
        shape = (region.height, region.width, 3)
        return (Frame(-1, pts, 1, np.full(shape, self.levels[pts], np.uint8)) for pts in times)

    def sample(self, count):
        for index in range(count):
            yield Frame(-1, index, 1, np.full((160, 320, 3), index, np.uint8))

    def close(self):
        self.closed = True


@pytest.fixture
def source(monkeypatch):
    def use(levels=LEVELS, at=None):
        made = Source(levels, at or {})
        monkeypatch.setattr(video_sources, "open_source", lambda path, **options: made)
        return made

    return use


def released(source):
    return source.closed and not source.reading


def scores_of(scored):
    return [at[distance] for at in (scored.scores.forward_at, scored.scores.backward_at) for distance in at]


def assert_same(one, other):
    for first, second in zip(scores_of(one), scores_of(other), strict=True):
        np.testing.assert_array_equal(first, second)
    assert list(one.pts) == list(other.pts)
    assert list(one.durations) == list(other.durations)
    assert one.messages == other.messages
    assert one.products.frames == other.products.frames
    np.testing.assert_array_equal(one.products.gram(0, 40), other.products.gram(0, 40))


class TestAnswers:
    @pytest.mark.parametrize("batch_size", [3, 16])
    def test_of_the_whole_graph_are_the_same_to_the_last_bit(self, model, video, batch_size):
        predictor = every_pair(model, threads=1, backend="onnxruntime", batch_size=batch_size)
        assert_same(*(predictor.score_video(video, region=REGION_TEXT, overlap=way) for way in (True, False)))

    @pytest.mark.parametrize(
        ("backend", "skip", "coarse"),
        [("onnxruntime", "none", 1), ("onnxruntime", "noise", 1), ("onnxruntime", "equal", 8), ("openvino", "none", 1)],
    )
    def test_of_the_staged_model_in_the_box_are_the_same_to_the_last_bit(self, tmp_path, backend, skip, coarse):
        pytest.importorskip(backend)
        moving = make_video(tmp_path / "moving.mp4", frames=60, size=(320, 96))
        predictor = every_pair(threads=1, backend=backend, skip=skip, coarse=coarse)
        assert predictor.session.stages is not None
        ways = [predictor.score_video(moving, region="3,31,301,77", overlap=way) for way in (True, False)]
        assert_same(*ways)
        assert len(ways[0].pts) == 60
        assert ways[0].scores.forward.std() > 0

    def test_are_captions_to_the_frame(self, model, video):
        track = every_pair(model).predict_video(video, region=REGION_TEXT, overlap=True)
        assert [(span.start_frame, span.end_frame) for span in track.spans] == SPANS


class Meeting:
    """An executor whose first run ends only when `awaited` is set; keeps the threads that ran it."""

    def __init__(self, executor, awaited):
        self._executor, self._awaited, self.met = executor, awaited, None

    def __getattr__(self, name):
        return getattr(self._executor, name)

    def run(self, feeds):
        if self.met is None:
            self.met = self._awaited.wait(PATIENCE)
        return self._executor.run(feeds)


def test_frames_are_decoded_while_the_model_runs(model, source):
    decoded = threading.Event()
    source(at={12: decoded.set})  # the first batch of pairs is full with the fifth frame
    predictor = every_pair(model)
    meeting = Meeting(predictor.session._executor, decoded)
    predictor.session = Session(meeting)
    predictor.score_video("x", region=REGION_TEXT, overlap=True)
    assert meeting.met


@pytest.mark.parametrize(("cores_here", "device", "threads_seen"), [(1, "cpu", 1), (2, "cpu", 2), (1, "cuda:0", 2)])
def test_stages_overlap_where_something_can_run_beside_the_model(
    model, source, monkeypatch, cores_here, device, threads_seen
):
    monkeypatch.setattr(predictor_module, "usable_cores", lambda: cores_here)
    monkeypatch.setattr(Session, "device", device)
    threads = set()
    source(at={3: lambda: threads.add(threading.current_thread())})
    every_pair(model).score_video("x", region=REGION_TEXT)
    assert len(threads | {threading.current_thread()}) == threads_seen


class TestEnds:
    def test_an_error_while_decoding_is_raised_and_the_video_released(self, model, source):
        def fails():
            raise InputError("no further")

        made = source(at={40: fails})
        with pytest.raises(InputError, match="no further"):
            every_pair(model).score_video("x", region=REGION_TEXT, overlap=True)
        assert released(made)

    def test_an_error_in_the_strips_is_raised_and_the_video_released(self, model, source, monkeypatch):
        def failing(image, preprocessing, anchor):
            raise ContractError("no strip")

        made = source()
        monkeypatch.setattr(source_scoring, "strip", failing)
        with pytest.raises(ContractError, match="no strip") as caught:
            every_pair(model).score_video("x", region=REGION_TEXT, overlap=True)
        assert released(made), caught

    @pytest.mark.parametrize("part", ["encode", "classify"])
    def test_an_error_of_the_model_is_raised_and_the_video_released(self, source, monkeypatch, part):
        made = source()
        predictor = every_pair(threads=1, backend="onnxruntime")

        def failing(*inputs):
            raise MemoryError(part)

        first = predictor.session.stages.encode
        if part == "encode":  # the picture is encoded before any frame
            monkeypatch.setattr(
                predictor.session.stages, part, lambda role, x: first(role, x) if role == "ocr_viz" else failing()
            )
        else:
            monkeypatch.setattr(predictor.session.stages, part, failing)
        with pytest.raises(MemoryError, match=part):
            predictor.score_video("x", region=REGION_TEXT, overlap=True)
        assert released(made)

    def test_ctrl_c_ends_all_stages_and_releases_the_video(self, model, source):
        def interrupted(phase, done, total=None):
            if done > 20:
                signal.raise_signal(signal.SIGINT)

        made = source(LEVELS * 4)
        with pytest.raises(KeyboardInterrupt):
            every_pair(model).score_video("x", region=REGION_TEXT, overlap=True, progress=interrupted)
        assert released(made)

    def test_ctrl_c_while_the_decoder_is_waited_for(self, model, source):
        go_on = threading.Event()

        def slow():
            threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
            threading.Timer(0.2, go_on.set).start()
            go_on.wait(PATIENCE)

        made = source(at={30: slow})
        with pytest.raises(KeyboardInterrupt):
            every_pair(model).score_video("x", region=REGION_TEXT, overlap=True)
        assert released(made)


@contextmanager
def turned_clock(monkeypatch):
    """Make time limits go by a clock; yields a function that lets it run."""
    now = [0.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    yield passes


class TestTimeLimit:
    @pytest.mark.parametrize("overlap", [True, False])
    def test_what_was_read_until_then_is_scored_and_decoded(self, model, source, monkeypatch, overlap):
        with turned_clock(monkeypatch) as passes:
            made = source(at={70: lambda: passes(9)})
            track = every_pair(model).predict_video("x", region=REGION_TEXT, overlap=overlap, timeout=8)
        frames = track.statistics["frames"]
        assert 62 <= frames <= 70  # the clock may be turned while frames before wait for their strips
        assert [(span.start_frame, span.end_frame) for span in track.spans] == [(20, 50), (60, frames)]
        assert track.partial
        assert track.statistics["timed_out"]
        assert f"8 s (--timeout) was reached: only the first {frames} frames were scored" in track.messages[0]
        assert released(made)

    def test_a_video_that_is_done_in_time_is_whole(self, model, source):
        source()
        track = every_pair(model).predict_video("x", region=REGION_TEXT, timeout=1000)
        assert (track.partial, track.messages, track.statistics["timed_out"]) == (False, (), False)

    def test_that_ends_while_the_layout_is_sought_leaves_nothing_scored(self, model, source, monkeypatch):
        with turned_clock(monkeypatch) as passes:

            class Slow:
                engine, version, asked = "slow", "1", 0

                def __call__(self, image):
                    self.asked += 1
                    passes(3)
                    return [(Box(32, 96, 288, 128), 0.9)]

            made, slow = source(), Slow()
            track = every_pair(model).predict_video("x", detector=slow, timeout=5)
        assert slow.asked == 2
        assert (track.spans, track.layout, track.partial) == ((), None, True)
        assert "no frame was scored" in track.messages[0]
        assert released(made)

    @pytest.mark.parametrize("seconds", [0, -1, float("nan")])
    def test_must_be_more_than_nothing(self, model, source, seconds):
        source()
        with pytest.raises(UsageError, match="--timeout must be more than 0"):
            every_pair(model).predict_video("x", region=REGION_TEXT, timeout=seconds)


def test_a_profile_has_every_stage_with_its_items(model, source):
    class Detector:
        engine, version = "fake", "1"

        def __call__(self, image):
            return [(Box(32, 96, 288, 128), 0.9)]

    source()
    profile = Profile()
    every_pair(model).predict_video("x", detector=Detector(), profile=profile)
    items = {stage.name: (stage.items, stage.unit) for stage in profile.stages}
    assert items.pop("layout")[0] >= 12
    assert items.pop("sample") >= (12, "frames")
    assert items == {
        "decode": (120, "frames"),
        "strips": (120, "frames"),
        "model": (2 * (119 + 118 + 117), "pairs"),
        "spans": (120, "frames"),
    }
    assert profile.slowest().name in {"decode", "strips", "model"}


def test_a_profile_of_a_staged_model_has_encoder_and_classifier(source):
    source(LEVELS[:40])
    profile = Profile()
    predictor = every_pair(threads=1, backend="onnxruntime")
    track = predictor.predict_video("x", region=REGION_TEXT, profile=profile)
    items = {stage.name: stage.items for stage in profile.stages}
    assert (items["encode"], items["classify"]) == (40, track.statistics["pairs_scored"])
    assert items["classify"] >= 2 * 39


def test_a_profile_of_a_coarse_to_fine_search_has_its_stages(source):
    source(LEVELS[:40])
    profile = Profile()
    predictor = every_pair(threads=1, backend="onnxruntime", coarse=8)
    track = predictor.predict_video("x", region=REGION_TEXT, profile=profile)
    stages = {stage.name: stage for stage in profile.stages}
    assert (stages["compare"].items, stages["search"].items) == (40, 40)
    assert stages["encode"].items == track.statistics["frames_encoded"]
    assert stages["classify"].items == track.statistics["pairs_scored"]
    parts = stages["encode"].seconds.sum() + stages["classify"].seconds.sum()
    assert 0 < parts <= stages["search"].seconds.sum(), "they are parts of the search"
    assert not any(stages[part].streaming for part in ("encode", "classify")), "the search as a whole sets the rate"


class TestDecodeThreads:
    def threads_of(self, video, **options):
        source = open_source(video, **options)
        with source._opened() as (_, stream):
            return stream.codec_context.thread_count

    def test_are_those_asked_for(self, video):
        assert [self.threads_of(video, decode_threads=count) for count in (1, 3)] == [1, 3]

    @pytest.mark.parametrize(("cores_here", "wanted"), [(1, 1), (2, 1), (8, 4), (64, 8)])
    def test_are_half_of_the_cores_otherwise(self, video, monkeypatch, cores_here, wanted):
        monkeypatch.setattr(cores, "usable_cores", lambda: cores_here)
        assert self.threads_of(video) == wanted

    def test_reach_the_decoder_from_the_predictor(self, model, source, monkeypatch):
        made, asked = source(), []
        monkeypatch.setattr(video_sources, "open_source", lambda path, **options: asked.append(options) or made)
        every_pair(model).predict_video("x", region=REGION_TEXT, decode_threads=5)
        assert asked == [{"decode_threads": 5, "decoder": "cpu", "gpu": 0}]

    def test_do_not_change_the_frames(self, video):
        one, other = ([frame.image for frame in open_source(video, decode_threads=n).frames()] for n in (1, 3))
        np.testing.assert_array_equal(one, other)

    def test_are_at_least_one(self, video):
        with pytest.raises(UsageError, match="--decode-threads must be 1 or more"):
            open_source(video, decode_threads=0)
