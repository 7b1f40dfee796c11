"""Opening models and running checked inputs."""

import subprocess
import sys

import numpy as np
import pytest
from tiny_models import strips_of, tiny_model

from cb_runtime.contract import LABELS, ModelMetadata
from cb_runtime.errors import ContractError, ModelError, UsageError
from cb_runtime.session import Session, open_session


def pair_inputs(before, after, count=1):
    (one,), (other,) = strips_of([before]), strips_of([after])
    return {
        "ocr_viz": np.zeros((count, 48, 480, 3), np.uint8),
        "frame1": np.repeat(one[None], count, axis=0),
        "frame2": np.repeat(other[None], count, axis=0),
        "spatial_features": np.zeros((count, 6), np.float32),
        "font_embedding": np.zeros((count, 512), np.float32),
    }


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return open_session(tiny_model(tmp_path_factory.mktemp("model") / "best.onnx"), backend="onnxruntime")


class FakeExecutor:
    def __init__(self, answer):
        self.metadata, self.answer = ModelMetadata("fake"), answer

    def run(self, feeds):
        return self.answer

    def describe(self):
        return {"backend": "fake", "device": "cpu", "reason": "test"}


@pytest.mark.parametrize(
    ("before", "after", "label"),
    [
        (200, 200, "same"),
        (200, 120, "different"),
        (20, 20, "empty_empty"),
        (20, 200, "empty_valid"),
        (200, 20, "valid_empty"),
    ],
)
def test_each_label_can_be_the_answer(session, before, after, label):
    probabilities = session.probabilities(pair_inputs(before, after))
    assert LABELS[probabilities[0].argmax()] == label
    assert probabilities.sum() == pytest.approx(1)


def test_a_session_says_what_it_runs_on_and_why(session):
    described = session.describe()
    assert described["backend"] == "onnxruntime"
    assert described["provider"] == "CPUExecutionProvider"
    assert described["reason"]
    assert session.device == "cpu"


def test_the_cpu_is_taken_as_asked_with_the_threads_asked_for(tmp_path):
    described = open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", device="cpu", threads=1).describe()
    assert described["reason"] == "as asked"
    assert described["threads"] == 1


def test_an_empty_batch_gives_an_empty_answer(session):
    assert session.run(pair_inputs(20, 20, count=0)).shape == (0, 5)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "frame1",
            np.zeros((1, 3, 48, 480), np.uint8),
            r"'frame1' must be uint8 \(batch, 48, 480, 3\), got uint8 \(1, 3, 48",
        ),
        ("frame2", np.zeros((1, 48, 480, 3), np.float32), "'frame2' must be uint8 .*, got float32"),
        (
            "spatial_features",
            np.zeros((1, 7), np.float32),
            r"'spatial_features' must be float32 \(batch, 6\), got float32 \(1, 7",
        ),
        ("font_embedding", np.zeros((1, 512)), "'font_embedding' must be float32 .*, got float64"),
        ("ocr_viz", np.zeros((2, 48, 480, 3), np.uint8), "one batch size"),
        ("picture", np.zeros(1), "takes inputs ocr_viz, frame1"),
        ("spatial_features", [[0.0] * 6], "'spatial_features' must be a NumPy array, got list"),
        ("spatial_features", None, "must be a NumPy array, got NoneType"),
        ("spatial_features", np.float32(0), "must be a NumPy array, got float32"),
        ("spatial_features", np.array(0, np.float32), r"must be float32 \(batch, 6\), got float32 \(\)"),
    ],
)
def test_wrong_inputs_are_refused_with_what_was_expected(session, name, value, says):
    with pytest.raises(ContractError, match=says):
        session.run({**pair_inputs(20, 20), name: value})


def test_inputs_without_names_are_refused(session):
    with pytest.raises(ContractError, match="mapping of names to NumPy arrays, got list"):
        session.run(list(pair_inputs(20, 20).values()))


def test_a_missing_input_is_named(session):
    inputs = pair_inputs(20, 20)
    del inputs["frame2"]
    with pytest.raises(ContractError, match="got ocr_viz, frame1, spatial_features"):
        session.run(inputs)


@pytest.mark.parametrize("answer", [np.zeros((1, 4), np.float32), np.zeros((2, 5), np.float32), np.zeros((1, 5))])
def test_a_model_that_answers_in_another_form_is_refused(answer):
    with pytest.raises(ContractError, match=r"must answer with float32 \(1, 5\)"):
        Session(FakeExecutor(answer)).run(pair_inputs(20, 20))


def test_a_file_of_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"opens .*\.onnx"):
        open_session(tmp_path / "model.bin")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.onnx does not exist"):
        open_session(tmp_path / "gone.onnx")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:one", "cpu:0", ""])
def test_an_unknown_device_is_refused(tmp_path, device):
    with pytest.raises(UsageError, match="Choose auto, cpu, cuda"):
        open_session(tmp_path / "gone.onnx", device=device)


def test_less_than_one_thread_is_refused(tmp_path):
    with pytest.raises(UsageError, match="Threads"):
        open_session(tmp_path / "gone.onnx", threads=0)


def test_importing_and_opening_leave_heavy_packages_alone(tmp_path):
    path = tiny_model(tmp_path / "m.onnx")
    code = (
        "import sys, cb_runtime\n"
        "assert 'numpy' not in sys.modules and 'onnxruntime' not in sys.modules, 'import cb_runtime is not cheap'\n"
        f"cb_runtime.open_session({str(path)!r})\n"
        "heavy = {'torch', 'sqlalchemy', 'onnx', 'PIL', 'cb_export'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
