"""Staged graphs as engines: each frame encoded once on the GPU, features that stay there, answers as without.

The GPU is made of host memory (`fake_tensorrt.py`), and its engines compute what their plans, ONNX files, say.
"""

import gc
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_tensorrt import CudaError, FakeCuda, OnnxEngine, fake_tensorrt, record_of
from moving_strips import SHAPE, VECTORS, moving, pictures, score
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)

from cb_runtime.arrays import DeviceArray
from cb_runtime.backends import tensorrt as backend
from cb_runtime.contract import IMAGE_INPUTS
from cb_runtime.errors import ContractError, ModelError
from cb_runtime.files import sha256_of_file
from cb_runtime.gpus import Gpu
from cb_runtime.models import default_model_path
from cb_runtime.onnx_artifact import metadata_of_file
from cb_runtime.package.writing import Packable
from cb_runtime.pipeline import Pipeline
from cb_runtime.pipeline.batcher import Batcher
from cb_runtime.resident import Row, rows_of
from cb_runtime.session import open_session
from cb_runtime.skipping import Skipping
from cb_runtime.stages import MANIFEST, Manifest, read_manifest, stages_path
from cb_runtime.trt import stages as engine_stages
from cb_runtime.trt.cuda import Cuda, Memory
from cb_runtime.trt.sidecar import BatchProfile
from cb_runtime.trt.stages import RowCopier

PROFILE = BatchProfile(2, 4, 8)


class Machine:
    """A machine with a GPU, and the model in the box as an engine with its stages."""

    def __init__(self, folder, monkeypatch, memory=2**40, rtx=False):
        self.cuda = FakeCuda(memory)
        self.plans = []

        def engine(plan):
            self.plans.append(bytes(plan))
            return OnnxEngine(plan, self.cuda, PROFILE)

        module = fake_tensorrt(engine, rtx=rtx)
        monkeypatch.setattr(backend, "load_flavour", lambda flavour: module)
        monkeypatch.setattr(backend, "cuda_runtime", lambda extra: self.cuda)
        monkeypatch.setattr(backend, "list_gpus", lambda: (Gpu(0, "NVIDIA GeForce RTX 4090", "8.9"),))
        self.artifact = folder / "best.engine"
        write_engine(self.artifact)

    def open(self, **options):
        return open_session(self.artifact, **options)

    def count(self, what):
        return sum(entry[0] == what for entry in self.cuda.log)


def write_engine(artifact):
    """Write the model in the box as an engine whose plans are its ONNX files."""
    onnx = default_model_path()
    shutil.copyfile(onnx, artifact)
    record_of(metadata_of_file(onnx), sha256_of_file(artifact), profile=PROFILE).save(artifact)
    folder = stages_path(artifact)
    folder.mkdir()
    manifest = read_manifest(onnx)
    for name in manifest.members:
        shutil.copyfile(stages_path(onnx) / name, folder / name.replace(".onnx", ".engine"))
    digests = {name.replace(".onnx", ".engine"): digest for name, digest in manifest.members.items()}
    Manifest(sha256_of_file(artifact), manifest.roles, digests).save(folder)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def on_cpu():
    return open_session(default_model_path(), backend="onnxruntime", device="cpu", measure=False)


def assert_same(one, other):
    for distance in one.distances:
        np.testing.assert_allclose(one.forward_at[distance], other.forward_at[distance], atol=1e-5)
        np.testing.assert_allclose(one.backward_at[distance], other.backward_at[distance], atol=1e-5)


class TestAnswers:
    @pytest.mark.parametrize("batch_size", [1, 4, 7, 20])
    @pytest.mark.parametrize("skipping", [("none", 1), ("equal", 1), ("equal", 8)])
    def test_are_those_of_the_onnx_files(self, machine, on_cpu, skipping, batch_size):
        """Also in batches below the least and above the largest that the engines were built for."""
        strips, options = moving(24, still=(5, 6, 17)), {"skipping": Skipping(*skipping), "batch_size": batch_size}
        there, here = (score(session, strips, **options) for session in (machine.open(), on_cpu))
        assert there.forward.std() > 0
        assert (there.frames_encoded, there.pairs_scored) == (here.frames_encoded, here.pairs_scored)
        assert_same(there, here)

    def test_are_the_same_with_tensorrt_for_rtx(self, tmp_path, monkeypatch, on_cpu):
        there = score(Machine(tmp_path, monkeypatch, rtx=True).open(), moving(12))
        assert_same(there, score(on_cpu, moving(12)))

    def test_are_the_same_when_stages_run_ahead_and_videos_share_the_model(self, machine, on_cpu):
        with Batcher(16) as batcher, Pipeline(overlapped=True) as pipeline:
            shared = batcher.session(machine.open())
            assert shared.stages.resident
            assert_same(score(shared, moving(24), pipeline=pipeline), score(on_cpu, moving(24)))

    def test_are_right_from_several_threads_at_once(self, machine, on_cpu):
        session, videos = machine.open(), [pictures(9, seed) for seed in range(4)]
        with ThreadPoolExecutor(4) as threads:
            for there, strips in zip(threads.map(lambda strips: score(session, strips), videos), videos, strict=True):
                assert_same(there, score(on_cpu, strips))

    def test_of_features_that_came_to_the_host_are_the_same(self, machine, on_cpu):
        pairs = {role: pictures(3, seed) for seed, role in enumerate(IMAGE_INPUTS)} | VECTORS
        np.testing.assert_allclose(machine.open().stages.run(pairs), on_cpu.run(pairs), rtol=1e-4, atol=1e-5)


class TestTraffic:
    def test_strips_go_up_once_and_only_logits_come_down(self, machine):
        session, frames = machine.open(), 16
        machine.cuda.copied.clear()
        scores = score(session, moving(frames), batch_size=8)
        strip, row = int(np.prod(SHAPE)), 4 * 5
        up, down = machine.cuda.copied["HostToDevice"], machine.cuda.copied["DeviceToHost"]
        vectors = scores.pairs_scored * 4 * (6 + 512)
        padding = 8  # batches are filled up to a size that stays
        assert frames * strip < up < (frames + 2 * padding) * strip + 2 * vectors
        assert down <= (scores.pairs_scored + padding) * row

    def test_batch_sizes_that_are_met_again_are_replayed_as_graphs(self, machine):
        session = machine.open()
        score(session, moving(40), batch_size=8)
        assert machine.count("captured")
        assert machine.count("launched") > 5 * machine.count("captured")

    def test_batches_above_the_largest_overlap_in_two_lanes(self, machine):
        session = machine.open()
        encoder = session.stages.resident._encoders["frame"].part
        rows = session.stages.resident.encode("frame1", pictures(20))
        assert (len(rows), encoder.lanes.made) == (20, 2)

    def test_features_that_stay_have_no_place_on_the_host(self, machine):
        session = machine.open()
        score(session, moving(16), batch_size=8)
        features = session.stages.resident._encoders["frame"].part.output.shape[1:]
        assert 0 < machine.cuda.page_locked < 8 * 4 * int(np.prod(features)), "less than one batch of features"

    def test_memory_of_features_is_used_again_and_given_back(self, machine):
        session = machine.open()
        score(session, moving(40))
        left = machine.cuda.memory
        score(session, moving(40))
        assert machine.cuda.memory == left, "the second video needs no more than the first"
        del session
        gc.collect()
        assert not machine.cuda.blocks


class TestOpening:
    def test_says_that_frames_are_encoded_once_and_that_features_stay(self, machine):
        told = machine.open().describe()
        assert (told["backend"], told["features_reused"], told["features_stay"]) == ("tensorrt", True, True)

    def test_without_reuse_only_the_whole_is_opened(self, machine):
        session = machine.open(reuse=False)
        assert session.stages is None
        assert len(machine.plans) == 1

    def test_an_engine_without_a_staged_graph_runs_whole(self, machine):
        shutil.rmtree(stages_path(machine.artifact))
        assert not machine.open().describe()["features_reused"]

    def test_stages_of_another_engine_are_refused(self, machine):
        manifest = stages_path(machine.artifact) / MANIFEST
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "artifact_sha256": "0" * 64}))
        with pytest.raises(ContractError, match=r"best\.engine\.staged is not the staged graph.*another artifact"):
            machine.open()

    def test_a_part_with_one_changed_byte_is_never_given_to_tensorrt(self, machine):
        part = stages_path(machine.artifact) / "classifier.engine"
        part.write_bytes(part.read_bytes()[:-1] + b"\x01")
        with pytest.raises(ContractError, match=r"classifier\.engine was changed or damaged"):
            machine.open()
        assert len(machine.plans) == 1

    def test_parts_of_another_kind_are_refused(self, machine):
        folder = stages_path(machine.artifact)
        manifest = json.loads((folder / MANIFEST).read_text())
        members = {name.replace(".engine", ".onnx"): digest for name, digest in manifest["members"].items()}
        (folder / MANIFEST).write_text(json.dumps({**manifest, "members": members}))
        with pytest.raises(ContractError, match=r"its parts are no \.engine files"):
            machine.open()

    def test_features_that_are_not_the_right_ones_stop_it(self, machine, monkeypatch):
        pieces = engine_stages._pieces
        monkeypatch.setattr(engine_stages, "_pieces", lambda rows, features: pieces(rows[::-1], features))
        with pytest.raises(ModelError, match=r"best\.engine that stay on cuda:0 are not those.*--no-reuse"):
            machine.open()

    def test_an_onnx_file_of_the_same_name_keeps_its_own(self, machine, tmp_path):
        assert stages_path(tmp_path / "best.onnx") == tmp_path / "best.staged"
        assert stages_path(machine.artifact) == tmp_path / "best.engine.staged"

    def test_a_package_holds_it(self, machine):
        packable = Packable(machine.artifact, metadata_of_file(default_model_path()))
        names = packable.contents(packable.entry)
        folder = packable.entry.folder
        assert packable.entry.stages == f"{folder}/model.engine.staged"
        assert f"{folder}/model.engine.staged/classifier.engine" in names
        assert f"{folder}/model.engine.staged/{MANIFEST}" in names


class TestRowCopier:
    @pytest.fixture
    def cuda(self):
        return FakeCuda()

    @pytest.fixture
    def copier(self, cuda):
        return RowCopier(Cuda(cuda, 0), Memory(Cuda(cuda, 0)))

    def batch(self, *values):
        array = np.array(values, np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
        return DeviceArray(array, array.ctypes.data, array.dtype, array.shape, 0)

    @pytest.mark.parametrize(
        ("wanted", "copies"),
        [
            ([(0, 1)], 1),
            ([(0, 0), (0, 1), (0, 2), (1, 0)], 2),
            ([(0, 2), (0, 1), (0, 0)], 3),
            ([(1, 1), (0, 2), (1, 0), (2, 0), (2, 1), (0, 2), (2, 3)], 6),
            ([(2, 0), (0, 0)], 2),
        ],
    )
    def test_puts_rows_of_any_batches_together_in_any_order(self, copier, cuda, wanted, copies):
        batches = [self.batch(1, 2, 3), self.batch(10, 20), self.batch(100, 200, 300, 400)]
        together = copier.together(np.array([Row(batches[batch], place) for batch, place in wanted], object))
        assert (together.shape, together.dtype, together.device) == ((len(wanted), 2, 3), np.float32, 0)
        expected = [batches[batch].source[place] for batch, place in wanted]
        np.testing.assert_array_equal(copier.on_host(together), expected)
        assert sum(size for size in [cuda.copied["DeviceToDevice"]]) == len(wanted) * 24
        assert self.calls(batches, wanted) == copies

    def calls(self, batches, wanted):
        rows = np.array([Row(batches[batch], place) for batch, place in wanted], object)
        return len(list(engine_stages._pieces(rows, self.batch(*range(len(wanted))))))

    @pytest.mark.parametrize(("count", "copies"), [(1, 1), (2, 2), (5, 4), (128, 8)])
    def test_one_row_again_and_again_takes_few_copies(self, copier, count, copies):
        rows = np.repeat(rows_of(self.batch(5, 7))[1:], count)
        together = copier.together(rows)
        np.testing.assert_array_equal(copier.on_host(together), np.full((count, 2, 3), 7, np.float32))
        assert len(list(engine_stages._pieces(rows, together))) == copies

    def test_other_rows_that_are_equal_are_still_copied_each(self, copier):
        rows = np.concatenate([rows_of(self.batch(3)), rows_of(self.batch(3)), rows_of(self.batch(4))])
        np.testing.assert_array_equal(copier.on_host(copier.together(rows))[:, 0, 0], [3, 3, 4])


class TestMemory:
    def test_is_given_again_once_nobody_holds_it(self):
        cuda = FakeCuda()
        memory = Memory(Cuda(cuda, 0))
        first = memory.array((2, 3), np.float32)
        second = memory.array((2, 3), np.float32)
        assert first.address != second.address
        part, address = first[:1], first.address
        del first
        assert memory.array((2, 3), np.float32).address != address, "a part of it is still held"
        del part
        assert memory.array((3, 2), np.float32).address == address

    def test_of_other_sizes_is_given_back_when_it_runs_out(self):
        cuda = FakeCuda(memory=100)
        memory = Memory(Cuda(cuda, 0))
        del (kept := [memory.array((20,), np.float32)])[0]
        assert not kept
        assert cuda.memory == 20
        assert memory.array((25,), np.float32).shape == (25,)
        assert cuda.memory == 0

    def test_that_is_not_there_is_an_error_that_says_so(self):
        with pytest.raises(ModelError, match=CudaError.cudaErrorMemoryAllocation.name):
            Memory(Cuda(FakeCuda(memory=10), 0)).array((20,), np.float32)
