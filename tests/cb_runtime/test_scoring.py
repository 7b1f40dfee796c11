"""Scoring the pairs of a video."""

import numpy as np
import pytest
from tiny_models import levels_of, strips_of, tiny_model

from cb_runtime.contract import LABELS, REVERSED_LABEL, ModelMetadata
from cb_runtime.errors import ContractError, ModelError, UsageError
from cb_runtime.features import VideoInputs
from cb_runtime.scoring import score_strips
from cb_runtime.session import Session, open_session

INPUTS = VideoInputs(np.full((48, 480, 3), 7, np.uint8), np.arange(6, dtype=np.float32), np.full(512, 0.5, np.float32))


class RecordingExecutor:
    """Answers with the first pixels of both frames, and keeps what it was fed."""

    def __init__(self):
        self.metadata, self.pairs, self.constants, self.batches = ModelMetadata("fake"), [], [], []

    def run(self, feeds):
        one, other = feeds["frame1"][:, 0, 0, 0], feeds["frame2"][:, 0, 0, 0]
        self.pairs += list(zip(one.tolist(), other.tolist(), strict=True))
        self.batches.append(len(one))
        self.constants.append({name: feeds[name].copy() for name in ("ocr_viz", "spatial_features", "font_embedding")})
        return np.stack([one, other, one, other, one], axis=1).astype(np.float32)

    def describe(self):
        return {"backend": "fake", "device": "cpu", "reason": "test"}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return open_session(tiny_model(tmp_path_factory.mktemp("model") / "best.onnx"))


@pytest.mark.parametrize("distances", [(1,), (1, 2, 3), (1, 3)])
def test_every_pair_at_every_distance_is_scored_once_in_each_direction(distances):
    executor = RecordingExecutor()
    score_strips(Session(executor), strips_of(range(7)), INPUTS, distances=distances, batch_size=3)
    pairs = [(one, other) for one in range(7) for other in range(7) if abs(one - other) in distances]
    assert sorted(executor.pairs) == pairs


@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_every_batch_but_the_last_is_full(batch_size):
    executor = RecordingExecutor()
    score_strips(Session(executor), strips_of(range(9)), INPUTS, batch_size=batch_size)
    pairs = 2 * (8 + 7 + 6)
    full, rest = divmod(pairs, batch_size)
    assert executor.batches == [batch_size] * full + [rest] * (rest > 0)


def test_each_answer_stands_at_its_distance_frame_and_direction():
    class Telling(RecordingExecutor):
        def run(self, feeds):
            one, other = (feeds[name][:, 0, 0, 0].astype(np.float32) for name in ("frame1", "frame2"))
            return np.log(np.stack([one, other, 1000 + 0 * one, 1 + 0 * one, 1 + 0 * one], axis=1))

    scores = score_strips(Session(Telling()), strips_of(range(1, 9)), INPUTS, batch_size=5)
    assert scores.distances == (1, 2, 3)
    for distance in scores.distances:
        forward, backward = scores.forward_at[distance], scores.backward_at[distance]
        earlier, later = np.arange(1, 9 - distance), np.arange(1 + distance, 9)
        np.testing.assert_allclose(forward[:, :2] / forward[:, 3:], np.stack([earlier, later], 1), rtol=1e-4)
        np.testing.assert_allclose(backward[:, :2] / backward[:, 3:], np.stack([later, earlier], 1), rtol=1e-4)
    assert scores.count == 2 * (7 + 6 + 5)
    assert scores.forward is scores.forward_at[1]
    assert scores.backward is scores.backward_at[1]


def test_the_video_s_own_inputs_reach_every_pair():
    executor = RecordingExecutor()
    score_strips(Session(executor), strips_of([1, 2, 3]), INPUTS, batch_size=4)
    for fed in executor.constants:
        assert (fed["ocr_viz"] == INPUTS.ocr_viz).all()
        assert (fed["spatial_features"] == INPUTS.spatial_features).all()
        assert (fed["font_embedding"] == INPUTS.font_embedding).all()


def test_backward_labels_are_the_forward_labels_turned_round(session):
    scores = score_strips(session, strips_of([20, 200, 120, 120, 20, 20]), INPUTS)
    labels = [LABELS[index] for index in scores.forward.argmax(axis=1)]
    assert labels == ["empty_valid", "different", "same", "valid_empty", "empty_empty"]
    assert np.asarray(REVERSED_LABEL)[scores.backward.argmax(axis=1)].tolist() == scores.forward.argmax(axis=1).tolist()


@pytest.mark.parametrize("batch_size", [2, 3, 7, 100])
def test_the_answer_does_not_depend_on_the_batch_size(session, batch_size):
    strips = strips_of(levels_of((20, 3), (200, 4), (120, 5), (20, 2)))
    one_by_one = score_strips(session, strips, INPUTS, batch_size=1)
    batched = score_strips(session, strips, INPUTS, batch_size=batch_size)
    for distance in (1, 2, 3):
        np.testing.assert_allclose(batched.forward_at[distance], one_by_one.forward_at[distance], atol=1e-6)
        np.testing.assert_allclose(batched.backward_at[distance], one_by_one.backward_at[distance], atol=1e-6)


@pytest.mark.parametrize("frames", [0, 1])
def test_fewer_than_two_frames_have_no_pair(session, frames):
    scores = score_strips(session, strips_of([200] * frames), INPUTS)
    for distance in (1, 2, 3):
        assert scores.forward_at[distance].shape == scores.backward_at[distance].shape == (0, 5)


def test_a_video_shorter_than_a_distance_has_no_pair_at_it(session):
    scores = score_strips(session, strips_of([20, 200, 200]), INPUTS)
    assert [len(scores.forward_at[distance]) for distance in (1, 2, 3)] == [2, 1, 0]


def test_strips_are_read_as_they_are_needed_and_never_all_kept():
    read, read_at_run = 0, []

    def strips():
        nonlocal read
        for strip in strips_of(range(100)):
            read += 1
            yield strip

    class Counting(RecordingExecutor):
        def run(self, feeds):
            read_at_run.append(read)
            return super().run(feeds)

    score_strips(Session(Counting()), strips(), INPUTS, batch_size=10)
    assert len(read_at_run) == 59, "the 588 pairs in batches of ten"
    assert all(read <= 10 * run / 6 + 4 for run, read in enumerate(read_at_run, 1)), "six pairs are due with each strip"


def test_a_strip_may_be_overwritten_once_the_next_is_asked_for():
    def reused():
        strip = np.empty((48, 480, 3), np.uint8)
        for level in range(5):
            strip[...] = level
            yield strip

    executor = RecordingExecutor()
    score_strips(Session(executor), reused(), INPUTS, distances=(1, 2))
    assert sorted(executor.pairs) == [(i, j) for i in range(5) for j in range(5) if abs(i - j) in (1, 2)]


def test_progress_counts_frames():
    seen = []
    score_strips(
        Session(RecordingExecutor()),
        strips_of(range(5)),
        INPUTS,
        distances=(1,),
        batch_size=4,
        total=5,
        progress=lambda phase, done, total: seen.append((phase, done, total)),
    )
    assert seen == [("Scoring", 3, 5), ("Scoring", 5, 5)]


def test_logits_that_are_not_finite_are_an_error_naming_the_frames():
    class Broken(RecordingExecutor):
        def run(self, feeds):
            logits = super().run(feeds)
            logits[feeds["frame1"][:, 0, 0, 0] == 3] = np.nan
            return logits

    with pytest.raises(ModelError, match="not finite for the pair of frames 3 and 4"):
        score_strips(Session(Broken()), strips_of([0, 1, 2, 5, 3, 6]), INPUTS, distances=(1,), batch_size=2)


def test_strips_of_another_size_are_refused():
    with pytest.raises(ContractError, match="must be uint8"):
        score_strips(Session(RecordingExecutor()), [np.zeros((32, 480, 3), np.uint8)] * 2, INPUTS)


@pytest.mark.parametrize("odd", [np.zeros((48, 480, 3), np.float32), np.zeros((480, 3), np.uint8)])
def test_a_strip_unlike_the_others_is_refused(odd):
    with pytest.raises(ContractError, match="must be alike"):
        score_strips(Session(RecordingExecutor()), [*strips_of([1]), odd], INPUTS)


def test_a_batch_below_one_is_refused():
    with pytest.raises(UsageError, match="--batch"):
        score_strips(Session(RecordingExecutor()), [], INPUTS, batch_size=0)


@pytest.mark.parametrize("distances", [(), (2, 3), (1, 1), (1, 99)])
def test_distances_that_do_not_ascend_from_one_are_refused(distances):
    with pytest.raises(UsageError, match="must ascend from 1"):
        score_strips(Session(RecordingExecutor()), [], INPUTS, distances=distances)
