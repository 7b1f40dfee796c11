"""Features that stay on the GPU that computed them.

ONNX Runtime is the real one, on the CPU, where it is pretended to have CUDA (`pretended_cuda.py`); the last test is for
a real GPU.
"""

import weakref
from pathlib import Path

import numpy as np
import pytest
from moving_strips import DISTANCES, VECTORS, moving, pictures, score
from pretended_cuda import FakeRuntime
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)

from cb_runtime import resident
from cb_runtime.arrays import DeviceArray
from cb_runtime.backends import onnxruntime as ort_backend
from cb_runtime.contract import IMAGE_INPUTS
from cb_runtime.errors import ContractError, ModelError
from cb_runtime.models import default_model_path
from cb_runtime.pipeline import Pipeline
from cb_runtime.pipeline.batcher import Batcher
from cb_runtime.resident import Row, RowPicker, rows_of
from cb_runtime.session import Session, open_session
from cb_runtime.skipping import Skipping

ENCODER, CLASSIFIER, PICKER = (
    {"pictures"},
    {f"{role}_features" for role in IMAGE_INPUTS} | {*VECTORS},
    {"rows", "places"},
)


@pytest.fixture
def runtime(monkeypatch):
    made = FakeRuntime()
    monkeypatch.setattr(ort_backend, "require", lambda module: made)
    return made


@pytest.fixture
def on_gpu(runtime):
    session = open_session(default_model_path(), backend="onnxruntime", device="cuda:2", measure=False)
    runtime.bound.clear()
    return session


@pytest.fixture(scope="module")
def on_cpu():
    return open_session(default_model_path(), backend="onnxruntime", device="cpu", measure=False)


def assert_same(one, other):
    for distance in one.distances:
        np.testing.assert_array_equal(one.forward_at[distance], other.forward_at[distance])
        np.testing.assert_array_equal(one.backward_at[distance], other.backward_at[distance])


class TestAnswers:
    @pytest.mark.parametrize("skipping", [("none", 1), ("equal", 1), ("equal", 8)])
    def test_are_those_of_features_that_come_to_the_host(self, on_gpu, on_cpu, skipping):
        strips = moving(24, still=(5, 6, 17))
        there, here = (score(session, strips, skipping=Skipping(*skipping)) for session in (on_gpu, on_cpu))
        assert there.forward.std() > 0
        assert (there.frames_encoded, there.pairs_scored) == (here.frames_encoded, here.pairs_scored)
        assert_same(there, here)

    def test_are_the_same_when_encoding_runs_ahead(self, on_gpu, on_cpu):
        strips = moving(24)
        with Pipeline(overlapped=True) as pipeline:
            there = score(on_gpu, strips, pipeline=pipeline)
        assert_same(there, score(on_cpu, strips))

    def test_are_the_same_where_several_videos_share_the_model(self, on_gpu, on_cpu):
        with Batcher(16) as batcher:
            shared = batcher.session(on_gpu)
            assert shared.stages.resident
            assert_same(score(shared, moving(12)), score(on_cpu, moving(12)))

    def test_of_rows_that_others_are_joined_with_are_right(self, on_gpu):
        """A batcher joins and cuts arrays of rows as it does features."""
        stages = on_gpu.stages.resident
        one, other = (stages.encode("frame1", pictures(2, seed)) for seed in (1, 2))
        joined = np.concatenate([one, other])[1:]
        ocr = np.repeat(stages.encode("ocr_viz", pictures(1)), 3)
        features = {"ocr_viz_features": ocr, "frame1_features": joined, "frame2_features": joined[::-1]}
        host = on_gpu.stages
        frames = np.concatenate([pictures(2, 1), pictures(2, 2)])[1:]
        wanted = host.run(
            {"ocr_viz": np.repeat(pictures(1), 3, 0), "frame1": frames, "frame2": frames[::-1].copy(), **VECTORS}
        )
        np.testing.assert_allclose(stages.classify(features | VECTORS), wanted, rtol=1e-4, atol=1e-5)


class TestTraffic:
    def test_only_pictures_places_and_vectors_go_up_and_only_logits_come_down(self, on_gpu, runtime):
        score(on_gpu, moving(12))
        kinds = {frozenset(bound.places): bound for bound in runtime.bound}
        assert kinds.keys() == {frozenset(ENCODER), frozenset(CLASSIFIER), frozenset(PICKER)}
        for bound in runtime.bound:
            came_from = {name for name, place in bound.places.items() if place == "host"}
            goes_to = bound.answer
            if set(bound.places) == CLASSIFIER:
                assert (came_from, goes_to) == ({*VECTORS}, "cpu")
            elif set(bound.places) == PICKER:
                assert (came_from, goes_to) == ({"places"}, "cuda:2")
            else:
                assert (came_from, goes_to) == (ENCODER, "cuda:2")
            assert bound.waited == set(bound.places), "inputs may still be filled by another stream"

    def test_every_strip_goes_up_once(self, on_gpu, runtime):
        scores = score(on_gpu, moving(12), batch_size=4)
        encoders = [bound for bound in runtime.bound if set(bound.places) == ENCODER]
        assert scores.frames_encoded == 12
        assert len(encoders) == 1 + 12 // 4, "the video's picture, and three batches of strips"

    def test_batches_that_are_not_full_are_filled_up_so_that_nothing_is_planned_anew(self, on_gpu, on_cpu, runtime):
        there = score(on_gpu, moving(10), batch_size=4)
        for inputs in (ENCODER, CLASSIFIER):
            sizes = [bound.rows for bound in runtime.bound if set(bound.places) == inputs]
            assert set(sizes[sizes.index(4) :]) == {4}
        assert_same(there, score(on_cpu, moving(10), batch_size=4))

    @pytest.mark.parametrize("coarse", [1, 8])
    def test_features_are_let_go_when_no_pair_needs_them_any_more(self, on_gpu, runtime, monkeypatch, coarse):
        batches, alive = weakref.WeakSet(), []

        def watched(batch):
            batches.add(batch)
            return rows_of(batch)

        monkeypatch.setattr(resident, "rows_of", watched)

        def strips():
            for strip in moving(96):
                runtime.bound.clear()  # ours keep what was bound to them
                alive.append(sum(map(len, batches)))
                yield strip

        score(on_gpu, strips(), batch_size=4, skipping=Skipping("none", coarse))
        assert len(alive) == 96
        # The picture; as many frames as the largest distance spans, and some batches. A search keeps two windows.
        assert 1 < max(alive) <= (1 + DISTANCES[-1] + 6 * 4 if coarse == 1 else 1 + 2 * (8 * 4 + DISTANCES[-1]))


class TestRowPicker:
    @pytest.fixture
    def picker(self, runtime):
        session = ort_backend._cuda_session(runtime, ort_backend._PICK_ROWS, "cuda:2", "fp32")
        return RowPicker(ort_backend.OrtPart(session, "cuda:2"))

    def batch(self, *values):
        array = np.array(values, np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
        return DeviceArray(array, array.ctypes.data, array.dtype, array.shape, 2)

    @pytest.mark.parametrize(
        "wanted",
        [[(0, 1)], [(0, 2), (0, 0), (0, 0)], [(1, 1), (0, 2), (1, 0), (2, 0), (0, 2), (2, 3)], [(2, 0), (0, 0)]],
    )
    def test_puts_rows_of_any_batches_together_in_any_order(self, picker, wanted):
        batches = [self.batch(1, 2, 3), self.batch(10, 20), self.batch(100, 200, 300, 400)]
        rows = np.array([Row(batches[batch], place) for batch, place in wanted], object)
        together = picker.together(rows)
        assert (together.shape, together.dtype, together.device) == ((len(wanted), 2, 3), np.float32, 2)
        expected = [batches[batch].source[place] for batch, place in wanted]
        np.testing.assert_array_equal(together.source.numpy().reshape(together.shape), expected)

    def test_runs_once_for_each_batch_and_once_to_bring_them_into_order(self, picker, runtime):
        rows = np.concatenate([rows_of(self.batch(1, 2)), rows_of(self.batch(3, 4))])
        runtime.bound.clear()
        picker.together(rows[:2])
        assert len(runtime.bound) == 1
        picker.together(rows[[0, 2, 1, 3]])
        assert len(runtime.bound) == 1 + 3

    def test_its_graph_is_one_gather(self):
        onnx = pytest.importorskip("onnx")
        model = onnx.load(ort_backend._PICK_ROWS)
        onnx.checker.check_model(model, full_check=True)
        (node,) = model.graph.node
        assert (node.op_type, list(node.input), list(node.output)) == ("Gather", ["rows", "places"], ["picked_rows"])
        assert [attribute.i for attribute in node.attribute if attribute.name == "axis"] == [0]
        assert Path(ort_backend._PICK_ROWS).stat().st_size < 1000


class TestOpening:
    def test_says_whether_features_stay(self, on_gpu, on_cpu):
        assert on_gpu.describe()["features_stay"]
        assert not on_cpu.describe()["features_stay"]

    def test_without_reuse_nothing_stays(self, runtime):
        session = open_session(default_model_path(), backend="onnxruntime", device="cuda", measure=False, reuse=False)
        assert session.stages is None
        assert not session.describe()["features_stay"]

    def test_features_that_are_not_the_right_ones_stop_it(self, runtime, monkeypatch):
        whole = RowPicker.together
        monkeypatch.setattr(RowPicker, "together", lambda self, rows: whole(self, rows[::-1]))
        with pytest.raises(ModelError, match=r"default\.onnx that stay on cuda:0 are not those.*--no-reuse"):
            open_session(default_model_path(), backend="onnxruntime", device="cuda", measure=False)

    def test_features_that_came_to_the_host_are_not_taken_for_rows(self, on_gpu):
        features = {f"{role}_features": on_gpu.stages.encode(role, pictures(3)) for role in IMAGE_INPUTS}
        with pytest.raises(ContractError, match=r"must be object \(batch,\), got float32 \(3, "):
            on_gpu.stages.resident.classify(features | VECTORS)

    def test_no_pictures_have_no_rows(self, on_gpu):
        assert on_gpu.stages.resident.encode("frame1", pictures(0)).shape == (0,)


@pytest.mark.gpu
def test_with_a_gpu_answers_are_those_of_features_that_come_to_the_host():
    ort = pytest.importorskip("onnxruntime")
    if ort_backend.CUDA not in ort.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider")
    session = open_session(default_model_path(), backend="onnxruntime", device="cuda", measure=False)
    assert session.describe()["features_stay"]

    class Host:
        def __init__(self, executor):
            self.metadata, self.run, self.describe = executor.metadata, executor.run, executor.describe
            self.stages = executor.stages
            self.stages.resident = None

    with Pipeline(overlapped=True) as pipeline:
        there = score(session, moving(200), batch_size=32, pipeline=pipeline)
    here = score(Session(Host(session._executor)), moving(200), batch_size=32)
    for distance in DISTANCES:
        np.testing.assert_allclose(there.forward_at[distance], here.forward_at[distance], atol=1e-3)
        np.testing.assert_allclose(there.backward_at[distance], here.backward_at[distance], atol=1e-3)
