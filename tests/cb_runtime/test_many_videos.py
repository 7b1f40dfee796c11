"""Many videos through one predictor: in order, as one after another, and each failing alone."""

import threading
from contextlib import closing

import numpy as np
import pytest
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)
from tiny_models import CAPTION, EMPTY, OTHER, REGION_TEXT, bright_video, levels_of, tiny_model
from tiny_videos import make_video

from cb_runtime import video as video_sources
from cb_runtime.errors import InputError, ModelError, UsageError
from cb_runtime.pipeline import Profile
from cb_runtime.pipeline.batcher import Batcher
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.session import Session

PATIENCE = 30
RUNS = {
    "a": ((EMPTY, 6), (CAPTION, 10), (EMPTY, 4)),
    "b": ((EMPTY, 3), (CAPTION, 5), (EMPTY, 4), (OTHER, 9)),
    "c": ((CAPTION, 7), (OTHER, 8), (EMPTY, 30)),
    "d": ((EMPTY, 12),),
}
SPANS = {"a": [(6, 16)], "b": [(3, 8), (12, 21)], "c": [(0, 7), (7, 15)], "d": []}


def every_pair(*arguments, **options):
    """Return a predictor that looks at every pair: in these videos most frames are equal."""
    return BoundaryPredictor(*arguments, **({"skip": "none", "coarse": 1} | options))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [bright_video(folder / f"{name}.mp4", levels_of(*runs)) for name, runs in RUNS.items()]


def spans_of(results):
    return {result.path.stem: [(span.start_frame, span.end_frame) for span in result.track.spans] for result in results}


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_results_come_in_the_order_given_with_the_captions_of_each(model, videos, jobs):
    results = list(every_pair(model).predict_videos(videos, jobs=jobs, region=REGION_TEXT))
    assert [result.path for result in results] == videos
    assert spans_of(results) == SPANS
    assert all(result.error is None for result in results)


@pytest.mark.parametrize("boxed", [True, False])
def test_probabilities_are_those_of_one_video_after_another(model, tmp_path, monkeypatch, boxed):
    """Joined batches may change the last bits, no more."""
    moving = [make_video(tmp_path / f"{frames}.mp4", frames=frames, size=(320, 96)) for frames in (9, 25, 40)]
    predictor = every_pair(None if boxed else model, threads=1, backend="onnxruntime")
    alone = [predictor.score_video(video, region="3,31,301,77") for video in moving]
    scored, whole = {}, BoundaryPredictor.score_video

    def kept(self, path, **options):
        scored[path] = whole(self, path, **options)
        return scored[path]

    monkeypatch.setattr(BoundaryPredictor, "score_video", kept)
    list(predictor.predict_videos(moving, jobs=3, region="3,31,301,77"))
    for video, one in zip(moving, alone, strict=True):
        many = scored[video]
        assert list(many.pts) == list(one.pts)
        for ways in ("forward_at", "backward_at"):
            for distance, expected in getattr(one.scores, ways).items():
                found = getattr(many.scores, ways)[distance]
                np.testing.assert_allclose(found, expected, atol=1e-5)
                np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_batches_are_filled_across_videos(model, videos, monkeypatch):
    asked, three_ask, whole = [], threading.Event(), Batcher.run

    def counting(self, graph, feeds):
        asked.append(threading.current_thread().name)
        if len(set(asked)) == 3:
            three_ask.set()
        return whole(self, graph, feeds)

    class Recording:
        """Waits in its first run until three videos have asked."""

        def __init__(self, executor):
            self._executor, self.metadata, self.describe, self.sizes = (
                executor,
                executor.metadata,
                executor.describe,
                [],
            )

        def run(self, feeds):
            assert three_ask.wait(PATIENCE)
            self.sizes.append(len(feeds["frame1"]))
            return self._executor.run(feeds)

    monkeypatch.setattr(Batcher, "run", counting)
    predictor = every_pair(model, batch_size=1000)
    recording = Recording(predictor.session._executor)
    predictor.session = Session(recording)
    results = list(predictor.predict_videos(videos[:3], jobs=3, region=REGION_TEXT))
    assert spans_of(results) == {name: SPANS[name] for name in "abc"}
    pairs = [result.track.statistics["pairs"] for result in results]
    assert sum(recording.sizes) == sum(pairs), "each pair is run once"
    assert len(recording.sizes) == 2, "what two videos asked while the first was run is one run"


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_bad_video_fails_alone(model, videos, tmp_path, jobs):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video at all")
    given = [videos[0], bad, tmp_path / "gone.mp4", videos[1]]
    results = list(every_pair(model).predict_videos(given, jobs=jobs, region=REGION_TEXT))
    assert [result.track is None for result in results] == [False, True, True, False]
    assert all(isinstance(results[number].error, InputError) for number in (1, 2))
    assert "gone.mp4" in str(results[2].error)


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_is_wrong_with_the_model_ends_all(model, videos, monkeypatch, jobs):
    predictor = every_pair(model)
    monkeypatch.setattr(
        type(predictor.session._executor),
        "run",
        lambda self, feeds: np.full((len(feeds["frame1"]), 5), np.nan, np.float32),
    )
    with pytest.raises(ModelError, match="not finite"):
        list(predictor.predict_videos(videos, jobs=jobs, region=REGION_TEXT))


def test_closing_early_ends_all_that_runs(model, videos):
    with closing(every_pair(model).predict_videos(videos * 5, jobs=2, region=REGION_TEXT)) as results:
        assert next(results).path == videos[0]


def test_options_reach_every_video(model, videos):
    predictor, options = every_pair(model), {"region": REGION_TEXT, "min_frames": 12, "distances": (1,)}
    found = list(predictor.predict_videos(videos, jobs=2, **options))
    for result in found:
        assert result.track.spans == predictor.predict_video(result.path, **options).spans
    assert spans_of(found)["a"] != SPANS["a"], "that caption has ten frames"
    assert {tuple(result.track.statistics["distances"]) for result in found} == {(1,)}


def test_progress_names_the_video_and_its_place(model, videos):
    seen = set()
    told = lambda phase, done, total=None: seen.add(phase)  # noqa: E731
    list(every_pair(model).predict_videos(videos[:2], jobs=2, region=REGION_TEXT, progress=told))
    assert seen == {"1/2 a.mp4: Scoring", "1/2 a.mp4: done", "2/2 b.mp4: Scoring", "2/2 b.mp4: done"}


def test_a_profile_has_the_stages_of_all_and_the_shared_model(model, videos):
    profile = Profile()
    list(every_pair(model).predict_videos(videos, jobs=2, region=REGION_TEXT, profile=profile))
    items = {stage.name: stage.items for stage in profile.stages}
    frames = sum(len(levels_of(*runs)) for runs in RUNS.values())
    assert items["decode"] == items["strips"] == items["spans"] == frames
    assert items["shared model"] == items["model"]


def test_no_videos_have_no_results(model):
    assert list(every_pair(model).predict_videos([], jobs=2)) == []


def test_less_than_one_job_is_refused_at_once(model, videos):
    with pytest.raises(UsageError, match="--jobs must be 1 or more"):
        every_pair(model).predict_videos(videos, jobs=0)


def test_a_predictor_serves_threads_of_its_owner_s(model, videos):
    halt, found = threading.Event(), {}

    def work(shared, video):
        found[video] = shared.predict_video(video, region=REGION_TEXT)

    with every_pair(model).shared(halt) as shared:
        threads = [threading.Thread(target=work, args=(shared, video)) for video in videos]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    spans = {video.stem: [(span.start_frame, span.end_frame) for span in track.spans] for video, track in found.items()}
    assert spans == SPANS


def test_videos_are_opened_by_the_threads_that_work_on_them(model, videos, monkeypatch):
    whole, seen = video_sources.open_source, set()

    def opened(path, **options):
        seen.add(threading.current_thread() is threading.main_thread())
        return whole(path, **options)

    monkeypatch.setattr(video_sources, "open_source", opened)
    list(every_pair(model).predict_videos(videos, jobs=2, region=REGION_TEXT))
    list(every_pair(model).predict_videos(videos, jobs=1, region=REGION_TEXT))
    assert seen == {True, False}
