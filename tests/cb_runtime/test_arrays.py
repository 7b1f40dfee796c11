"""Arrays of other libraries as inputs: through DLPack, from main memory and from a GPU's."""

import hashlib
import importlib.util
import sys

import numpy as np
import pytest
from fake_arrays import CPU, CUDA_HOST, CUDA_MANAGED, ROCM, FakeArray, lent
from fake_tensorrt import expected_logits, record_of
from test_tensorrt_backend import METADATA, PLAN, Machine, feeds
from tiny_models import tiny_model

from cb_runtime.arrays import DeviceArray, feeds_from_inputs
from cb_runtime.errors import ContractError, MissingPackageError
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.session import open_session
from cb_runtime.trt.sidecar import BatchProfile


def has_cuda_core():
    try:
        return importlib.util.find_spec("cuda.core") is not None
    except ModuleNotFoundError:  # of the parent package
        return False


needs_cuda_core = pytest.mark.skipif(
    not has_cuda_core(), reason="cuda-core is not installed: pip install 'cb-toolkit[dlpack]'"
)


class TestInMainMemory:
    @pytest.fixture
    def predictor(self, tmp_path):
        return BoundaryPredictor(tiny_model(tmp_path / "m.onnx"), "cpu", batch_size=4)

    def test_tensors_of_pytorch_give_what_their_numpy_arrays_give(self, predictor):
        torch = pytest.importorskip("torch")
        given = feeds(9)
        tensors = {name: torch.from_numpy(values) for name, values in given.items()}
        np.testing.assert_array_equal(predictor.predict_pairs(tensors), predictor.predict_pairs(given))
        np.testing.assert_array_equal(predictor.session.run(tensors), predictor.session.run(given))

    @pytest.mark.parametrize("kind", [CPU, CUDA_HOST])
    def test_arrays_of_any_library_that_offers_dlpack_are_taken(self, predictor, kind):
        given = feeds(3)
        np.testing.assert_array_equal(predictor.predict_pairs(lent(given, kind=kind)), predictor.predict_pairs(given))

    def test_they_are_taken_without_a_copy_and_numpy_arrays_are_left_as_they_are(self):
        given = feeds(2)
        assert feeds_from_inputs(given, on_gpu=False) is given
        mixed = lent(given, "frame1", kind=CPU)
        taken = feeds_from_inputs(mixed, on_gpu=False)
        assert taken["frame1"].ctypes.data == mixed["frame1"].values.ctypes.data
        assert taken["frame2"] is given["frame2"]

    @pytest.mark.parametrize("values", [np.zeros((2, 7), np.float32), np.zeros((2, 6), np.float64)])
    def test_they_are_checked_as_all_inputs_are(self, predictor, values):
        given = {**feeds(2), "spatial_features": FakeArray(values, CPU)}
        with pytest.raises(ContractError, match=r"'spatial_features' must be float32 \(batch, 6\)"):
            predictor.predict_pairs(given)

    def test_a_tensor_that_cannot_be_lent_is_named_with_the_reason(self, predictor):
        torch = pytest.importorskip("torch")
        given = {**feeds(2), "spatial_features": torch.zeros(2, 6, requires_grad=True)}
        with pytest.raises(ContractError, match=r"'spatial_features' cannot be read through DLPack: .*detach"):
            predictor.predict_pairs(given)

    def test_an_array_in_a_gpus_memory_is_not_taken_by_onnx_runtime(self, predictor):
        with pytest.raises(ContractError, match=r"'frame1' lies on cuda:1, and this model takes .* main memory only"):
            predictor.predict_pairs(lent(feeds(2), "frame1", index=1))
        array = DeviceArray(None, 0, np.dtype(np.uint8), (2, 48, 480, 3), 1)
        with pytest.raises(ContractError, match=r"'frame1' lies on cuda:1.*\.cpu\(\)"):
            predictor.session.run({**feeds(2), "frame1": array})

    def test_an_array_on_an_unknown_kind_of_device_is_refused(self, predictor):
        with pytest.raises(ContractError, match="'frame1' lies on a device of DLPack's kind 10"):
            predictor.predict_pairs(lent(feeds(2), "frame1", kind=ROCM))


@pytest.fixture
def engine_file(tmp_path):
    path = tmp_path / "best.engine"
    path.write_bytes(PLAN)
    record_of(METADATA, hashlib.sha256(PLAN).hexdigest()).save(path)
    return path


@needs_cuda_core
class TestInTheMemoryOfAGpu:
    @pytest.fixture
    def machine(self, monkeypatch):
        return Machine(monkeypatch)

    @pytest.fixture
    def session(self, engine_file, machine):
        return open_session(engine_file)

    @pytest.mark.parametrize("names", [("frame1",), ("frame1", "frame2", "ocr_viz"), ()])
    @pytest.mark.parametrize("count", [1, 3, 8, 9, 31])
    def test_they_are_answered_as_those_in_main_memory(self, session, count, names):
        given = feeds(count)
        np.testing.assert_allclose(session.run(lent(given, *names)), expected_logits(given), rtol=1e-6)

    def test_managed_memory_is_taken_too(self, session):
        given = feeds(2)
        answer = session.run(lent(given, "frame1", kind=CUDA_MANAGED))
        np.testing.assert_allclose(answer, expected_logits(given), rtol=1e-6)

    def test_the_stream_that_reads_an_array_waits_for_it(self, session):
        given = lent(feeds(9), "frame1")
        session.run(given)
        looked, *waited = given["frame1"].streams
        assert looked == -1
        assert len(set(waited)) == 2, "nine pairs run on two streams"
        assert min(waited) >= 1

    def test_they_are_copied_on_the_gpu_and_the_others_uploaded(self, session, machine, monkeypatch):
        kinds, copy = [], machine.cuda.cudaMemcpyAsync

        def spy(to, origin, size, kind, stream):
            kinds.append((kind.name, size))
            return copy(to, origin, size, kind, stream)

        monkeypatch.setattr(machine.cuda, "cudaMemcpyAsync", spy)
        session.run(lent(feeds(2), "frame1", "frame2", "ocr_viz"))
        pictures = [size for kind, size in kinds if kind == "cudaMemcpyDeviceToDevice"]
        assert pictures == [2 * 48 * 480 * 3] * 3
        assert sorted(size for kind, size in kinds if kind == "cudaMemcpyHostToDevice") == [2 * 6 * 4, 2 * 512 * 4]

    def test_places_may_alternate_and_a_graph_holds_only_what_lies_in_main_memory(self, session, machine):
        for seed, names in enumerate([(), (), (), None, None, None, ("frame1",), ("frame1",), None, ()]):
            given = feeds(3, seed)
            answer = session.run(given if names is None else lent(given, *names))
            np.testing.assert_allclose(answer, expected_logits(given), rtol=1e-6)
        captured = [size for what, size in machine.cuda.log if what == "captured"]
        # Uploads and the engine itself; the answer goes where it belongs behind the graph.
        assert captured == [0 + 1, 5 + 1, 4 + 1]

    def test_fewer_pairs_than_the_smallest_batch_are_filled_up(self, tmp_path, monkeypatch):
        profile = BatchProfile(4, 4, 8)
        path = tmp_path / "small.engine"
        path.write_bytes(PLAN)
        record_of(METADATA, hashlib.sha256(PLAN).hexdigest(), profile=profile).save(path)
        Machine(monkeypatch, profile=profile)
        session = open_session(path)
        for count in (1, 3, 9):
            given = feeds(count)
            np.testing.assert_allclose(session.run(lent(given)), expected_logits(given), rtol=1e-6)

    def test_a_predictor_cuts_them_into_batches(self, engine_file, machine):
        predictor = BoundaryPredictor(engine_file, batch_size=5)
        given = feeds(12)
        found = predictor.predict_pairs(lent(given))
        np.testing.assert_allclose(found, predictor.predict_pairs(given), rtol=1e-6)

    def test_an_empty_batch_gives_an_empty_answer(self, session):
        assert session.run(lent(feeds(0))).shape == (0, 5)

    def test_they_are_checked_as_all_inputs_are(self, session):
        given = {**feeds(2), "spatial_features": FakeArray(np.zeros((2, 7), np.float32))}
        with pytest.raises(
            ContractError, match=r"'spatial_features' must be float32 \(batch, 6\), got float32 \(2, 7\)"
        ):
            session.run(given)

    def test_an_array_that_is_not_contiguous_is_refused(self, session):
        given = {**feeds(2), "spatial_features": FakeArray(np.zeros((2, 12), np.float32)[:, ::2])}
        with pytest.raises(ContractError, match=r"'spatial_features' is not contiguous.*\.contiguous\(\)"):
            session.run(given)

    def test_strides_of_axes_of_length_one_do_not_matter(self, session):
        given = feeds(1)
        rows = np.zeros((1, 12), np.float32)[:, :6]
        rows[:] = given["spatial_features"]
        answer = session.run({**given, "spatial_features": FakeArray(rows)})
        np.testing.assert_allclose(answer, expected_logits(given), rtol=1e-6)

    def test_an_array_on_another_gpu_is_refused(self, session):
        with pytest.raises(ContractError, match="'frame1' lies on cuda:1, and the engine runs on cuda:0"):
            session.run(lent(feeds(2), "frame1", index=1))

    def test_an_array_that_its_library_does_not_lend_is_named_with_the_reason(self, session, monkeypatch):
        def refuse(self, **options):
            raise BufferError("tensors on meta have no data")

        given = lent(feeds(2), "frame1")
        monkeypatch.setattr(FakeArray, "__dlpack__", refuse)
        with pytest.raises(ContractError, match="'frame1' cannot be read through DLPack: tensors on meta"):
            session.run(given)


def test_without_cuda_core_the_extra_is_named(engine_file, monkeypatch):
    Machine(monkeypatch)
    for name in [name for name in sys.modules if name.startswith("cuda.core")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingPackageError, match=r"cuda\.core.*cb-toolkit\[dlpack\]"):
        open_session(engine_file).run(lent(feeds(2), "frame1"))
