"""Promises about how many frames run together on a GPU. There is none here: ONNX Runtime is pretended to have CUDA."""

import pytest
from pretended_cuda import FakeRuntime
from tiny_models import tiny_model

from cb_runtime.backends import onnxruntime as ort_backend
from cb_runtime.engine_choice import batch_size
from cb_runtime.engine_choice.batch_size import BatchSize, climbed
from cb_runtime.engine_choice.workload import CPU_BATCH, GPU_BATCH
from cb_runtime.errors import ContractError, ModelError
from cb_runtime.models import default_model_path
from cb_runtime.predictor import BoundaryPredictor


class TestClimbing:
    def test_goes_on_for_as_long_as_twice_as_many_are_clearly_faster(self):
        seconds = {128: 1.0, 256: 0.6, 512: 0.5, 1024: 0.49}
        found = climbed(seconds.__getitem__)
        assert found == BatchSize(512, "batches of 1024 are 1.02 times as fast as those of 512")

    def test_stays_where_it_begins_when_nothing_is_gained(self):
        assert climbed(lambda batch: 1.0).size == GPU_BATCH

    def test_ends_at_the_largest(self):
        asked = []
        assert climbed(lambda batch: asked.append(batch) or 1 / batch).size == batch_size.MOST
        assert asked == [128, 256, 512, 1024]

    @pytest.mark.parametrize("error", [ModelError("out of memory"), ContractError("built for at most 128")])
    def test_ends_before_what_cannot_be_run(self, error):
        def seconds(batch):
            if batch > 256:
                raise error
            return 1 / batch

        found = climbed(seconds)
        assert found.size == 256
        assert str(error) in found.why

    def test_a_model_that_does_not_run_at_all_is_an_error(self):
        def seconds(batch):
            raise ModelError("no kernel image")

        with pytest.raises(ModelError, match="no kernel image"):
            climbed(seconds)


class TestOnAGpu:
    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch, tmp_path):
        monkeypatch.setattr(ort_backend, "require", lambda module: FakeRuntime())
        monkeypatch.setenv("CB_CACHE", str(tmp_path))

    @pytest.fixture
    def measured(self, monkeypatch):
        """Sizes whose time was asked for; a frame takes half the time in batches of 256, and no less in larger ones."""
        asked = []
        time = batch_size.frame_seconds

        def frame_seconds(parts):
            asked.append(time(parts))
            return 1.0 if len(asked) == 1 else 0.5

        monkeypatch.setattr(batch_size, "frame_seconds", frame_seconds)
        return asked

    @pytest.mark.parametrize("staged", [True, False])
    def test_it_is_measured_once_and_kept(self, measured, tmp_path, staged):
        model = default_model_path() if staged else tiny_model(tmp_path / "best.onnx")
        options = {"backend": "onnxruntime", "device": "cuda:0", "reuse": staged}
        first, second = BoundaryPredictor(model, **options), BoundaryPredictor(model, **options)
        assert (first.batch_size, second.batch_size, len(measured)) == (256, 256, 3)
        assert first.model["batch_size_reason"] == "batches of 512 are 1.00 times as fast as those of 256"
        assert second.model["batch_size_reason"] == first.model["batch_size_reason"]
        assert all(0 < seconds < 1 for seconds in measured)

    def test_what_cannot_be_kept_is_said(self, measured, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("CB_CACHE", str(tmp_path / "file"))
        predictor = BoundaryPredictor(tiny_model(tmp_path / "best.onnx"), backend="onnxruntime", device="cuda:0")
        assert predictor.batch_size == 256
        assert "could not be kept" in predictor.model["batch_size_reason"]

    def test_what_the_caller_says_is_not_measured(self, measured, tmp_path):
        model = tiny_model(tmp_path / "best.onnx")
        options = {"backend": "onnxruntime", "device": "cuda:0"}
        assert BoundaryPredictor(model, **options, batch_size=7).batch_size == 7
        assert BoundaryPredictor(model, **options, measure=False).batch_size == GPU_BATCH
        assert BoundaryPredictor(model, backend="onnxruntime", device="cpu").batch_size == CPU_BATCH
        assert measured == []
