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


def test_every_neighbouring_pair_is_scored_once_in_each_direction():
    executor = RecordingExecutor()
    score_strips(Session(executor), strips_of([1, 2, 3, 4, 5]), INPUTS, batch_size=3)
    assert sorted(executor.pairs) == [(1, 2), (2, 1), (2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4)]
    assert max(executor.batches) == 3


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
    np.testing.assert_allclose(batched.forward, one_by_one.forward, atol=1e-6)
    np.testing.assert_allclose(batched.backward, one_by_one.backward, atol=1e-6)


@pytest.mark.parametrize("frames", [0, 1])
def test_fewer_than_two_frames_have_no_pair(session, frames):
    scores = score_strips(session, strips_of([200] * frames), INPUTS)
    assert scores.forward.shape == scores.backward.shape == (0, 5)


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
    assert read_at_run == sorted([11, 21, 31, 41, 51, 61, 71, 81, 91, 100] * 2)


def test_progress_counts_frames():
    seen = []
    score_strips(
        Session(RecordingExecutor()),
        strips_of(range(5)),
        INPUTS,
        batch_size=2,
        total=5,
        progress=lambda phase, done, total: seen.append((phase, done, total)),
    )
    assert seen == [("Scoring", 3, 5), ("Scoring", 5, 5)]


def test_logits_that_are_not_finite_are_an_error_naming_the_frame():
    class Broken(RecordingExecutor):
        def run(self, feeds):
            logits = super().run(feeds)
            logits[feeds["frame1"][:, 0, 0, 0] == 3] = np.nan
            return logits

    with pytest.raises(ModelError, match="not finite for the pair at frame 3"):
        score_strips(Session(Broken()), strips_of(range(6)), INPUTS, batch_size=2)


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
