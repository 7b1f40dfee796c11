"""One model for several threads: requests that wait together are run together, and each gets its own answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)
from tiny_models import strips_of, tiny_model

from cb_runtime.errors import ContractError, ModelError
from cb_runtime.pipeline import Halted, Profile
from cb_runtime.pipeline.batcher import Batcher
from cb_runtime.session import open_session

PATIENCE = 30


class Graph:
    """Doubles its rows; its first run waits until it is let go."""

    def __init__(self, held=False):
        self.batches, self.let_go, self.running = [], threading.Event(), threading.Event()
        self.fails_with = None
        if not held:
            self.let_go.set()

    def run(self, feeds):
        self.running.set()
        assert self.let_go.wait(PATIENCE)
        self.batches.append(feeds["x"].ravel().tolist())
        if self.fails_with:
            raise self.fails_with
        return 2 * feeds["x"]


def rows(*values):
    return {"x": np.array(values, np.float32)[:, None]}


def ask_together(batcher, asked, first):
    """Let requests wait while the first graph runs; return their answers."""
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = [pool.submit(batcher.run, *asked[0])]
        assert first.running.wait(PATIENCE)
        for number, request in enumerate(asked[1:], 1):
            answers.append(pool.submit(batcher.run, *request))
            wait_until(lambda number=number: batcher._asked.qsize() == number)
        first.let_go.set()
    return answers


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def lists(answers):
    return [answer.result().ravel().tolist() for answer in answers]


def test_what_waits_while_the_model_runs_is_run_together_and_each_gets_its_own_rows():
    graph = Graph(held=True)
    with Batcher(8) as batcher:
        answers = ask_together(
            batcher, [(graph, rows(1)), (graph, rows(2, 3)), (graph, rows(4)), (graph, rows(5))], graph
        )
    assert graph.batches == [[1], [2, 3, 4, 5]]
    assert lists(answers) == [[2], [4, 6], [8], [10]]


def test_a_run_has_no_more_rows_than_allowed_but_what_fits_is_taken_along():
    graph = Graph(held=True)
    with Batcher(4) as batcher:
        asked = [
            (graph, rows(1)),
            (graph, rows(2, 3, 4)),
            (graph, rows(5, 6)),
            (graph, rows(7)),
            (graph, rows(*range(9))),
        ]
        answers = ask_together(batcher, asked, graph)
    assert graph.batches == [[1], [2, 3, 4, 7], [5, 6], list(range(9))]
    assert lists(answers)[2:] == [[10, 12], [14], [2 * value for value in range(9)]]


def test_requests_for_other_graphs_are_not_joined():
    encoder, classifier = Graph(held=True), Graph()
    with Batcher(8) as batcher:
        asked = [
            (encoder, rows(1)),
            (classifier, rows(2)),
            (encoder, rows(3)),
            (classifier, rows(4)),
            (encoder, rows(5)),
        ]
        ask_together(batcher, asked, encoder)
    assert encoder.batches == [[1], [3, 5]]
    assert classifier.batches == [[2, 4]]


def test_nobody_waits_for_others_to_fill_a_batch():
    graph = Graph()
    with Batcher(1000) as batcher:
        assert batcher.run(graph, rows(1)).tolist() == [[2]]
        assert batcher.run(graph, rows(2)).tolist() == [[4]]
    assert graph.batches == [[1], [2]]


def test_what_a_run_raises_is_raised_to_all_who_were_in_it_and_to_nobody_after():
    graph = Graph(held=True)
    graph.fails_with = ModelError("out of memory")
    with Batcher(8) as batcher:
        answers = ask_together(batcher, [(graph, rows(1)), (graph, rows(2)), (graph, rows(3))], graph)
        for answer in answers:
            with pytest.raises(ModelError, match="out of memory"):
                answer.result()
        graph.fails_with = None
        assert batcher.run(graph, rows(4)).tolist() == [[8]]


def test_who_asks_after_the_end_is_told_and_does_not_wait_for_ever():
    with Batcher(8) as batcher:
        pass
    with pytest.raises(Halted):
        batcher.run(Graph(), rows(1))


def test_a_profile_is_told_what_the_model_does():
    profile = Profile()
    with Batcher(8, profile) as batcher:
        for value in range(3):
            batcher.run(Graph(), rows(value, value))
    (stage,) = profile.stages
    assert (stage.name, stage.items, stage.unit) == ("shared model", 6, "rows")
    assert stage.seconds[:2].min() > 0


class TestSession:
    @pytest.fixture
    def session(self, tmp_path):
        return open_session(tiny_model(tmp_path / "best.onnx"), threads=1)

    def inputs(self, *levels):
        strips = np.stack(strips_of(levels))
        vectors = {name: np.zeros((len(levels), size), np.float32) for name, size in (("spatial_features", 6),)}
        return {
            "ocr_viz": strips,
            "frame1": strips,
            "frame2": strips[::-1].copy(),
            "font_embedding": np.zeros((len(levels), 512), np.float32),
            **vectors,
        }

    def test_answers_as_the_one_it_shares(self, session):
        with Batcher(16) as batcher:
            shared = batcher.session(session)
            np.testing.assert_array_equal(shared.run(self.inputs(20, 200)), session.run(self.inputs(20, 200)))
            assert shared.describe() == session.describe()
            assert shared.metadata is session.metadata

    def test_of_a_staged_model_shares_every_part(self):
        session = open_session_of_the_box()
        pictures = np.random.default_rng(0).integers(0, 256, (3, 48, 480, 3), np.uint8)
        with Batcher(16) as batcher:
            shared = batcher.session(session)
            roles = ("ocr_viz", "frame1", "frame2")
            inputs = {f"{role}_features": shared.stages.encode(role, pictures) for role in roles}
            for role in roles:
                np.testing.assert_array_equal(inputs[f"{role}_features"], session.stages.encode(role, pictures))
            inputs |= {
                "spatial_features": np.zeros((3, 6), np.float32),
                "font_embedding": np.zeros((3, 512), np.float32),
            }
            np.testing.assert_array_equal(shared.stages.classify(inputs), session.stages.classify(inputs))

    def test_refuses_wrong_inputs_before_they_are_joined_with_others(self, session):
        with Batcher(16) as batcher:
            wrong = self.inputs(20, 200) | {"frame1": np.zeros((2, 48, 480, 3), np.float32)}
            with pytest.raises(ContractError, match="frame1"):
                batcher.session(session).run(wrong)


def open_session_of_the_box():
    from cb_runtime.models import default_model_path

    return open_session(default_model_path(), threads=1)
