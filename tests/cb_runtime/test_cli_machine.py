"""`cb inspect`, `cb verify` and `cb doctor`: what a model is, whether it is right here, what works here."""

import ctypes
import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from needed_cores import needs_two_cores
from test_parity import golden_of
from tiny_models import tiny_model

from cb_runtime import doctor
from cb_runtime.backends import Availability
from cb_runtime.cli import main
from cb_runtime.contract import ModelMetadata
from cb_runtime.session import open_session


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path):
    metadata = ModelMetadata("tiny", model_config={"depth": 3}, dataset_name="films", parity={"ok": True})
    return tiny_model(tmp_path / "best.onnx", metadata)


@pytest.fixture
def golden(model, tmp_path):
    samples = golden_of(open_session(model))
    samples.save(tmp_path / "best.golden.npz")
    return samples


def test_inspect_prints_the_whole_contract(model):
    output = run("inspect", model).stdout
    for part in ("tiny", "model config.depth", "films", "mirror_tile", "input frame1", "uint8 (batch, 48, 480, 3)"):
        assert part in output


def test_inspect_json_reads_back_to_the_metadata(model):
    document = json.loads(run("inspect", model, "--json").stdout)
    assert document["metadata"]["architecture_name"] == "tiny"
    assert len(document["file"]["sha256"]) == 64
    assert document["file"]["golden_samples"] is None


def test_inspect_tells_sizes_and_lineage(tmp_path):
    metadata = ModelMetadata(
        "tiny",
        checkpoint_sha256="ab" * 32,
        git_commit="c0ffee-dirty",
        export_commit="decade",
        dataset_name="films",
        dataset_digest="cd" * 32,
        training_versions={"torch": "2.14"},
        lora_merge={"layers": 3, "max_abs_logit_difference": 1e-7},
        calibration={"sha256": "ef" * 32, "overlaps_parity": False},
        keep_float=("head", "encoder"),
    )
    model = tiny_model(tmp_path / "best.onnx", metadata)
    golden_of(open_session(model)).save(tmp_path / "best.golden.npz")
    document = json.loads(run("inspect", model, "--json").stdout)
    assert document["file"]["bytes"] == model.stat().st_size
    assert document["file"]["beside"] == {"best.golden.npz": (tmp_path / "best.golden.npz").stat().st_size}
    lineage = document["lineage"]
    assert lineage["checkpoint_sha256"] == "ab" * 32
    assert lineage["training"] == {"commit": "c0ffee", "dirty": True, "versions": {"torch": "2.14"}}
    assert (lineage["export"]["commit"], lineage["export"]["dirty"]) == ("decade", False)
    assert lineage["dataset"] == {"name": "films", "digest": "cd" * 32}
    assert lineage["lora_merge"]["layers"] == 3
    assert lineage["calibration"] == {"sha256": "ef" * 32, "overlaps_parity": False}
    assert lineage["keep_float"] == ["head", "encoder"]
    shown = run("inspect", model).stdout
    for part in (
        "lineage.training.dirty",
        "True",
        "lineage.training.versions.torch",
        "lineage.lora merge.layers",
        "head, encoder",
    ):
        assert part in shown


def test_lineage_that_nobody_recorded_is_null(model):
    lineage = json.loads(run("inspect", model, "--json").stdout)["lineage"]
    assert lineage["training"] == {"commit": None, "dirty": None, "versions": None}
    assert lineage["lora_merge"] is None


def test_inspect_refuses_what_is_not_ours(tmp_path):
    result = run("inspect", tiny_model(tmp_path / "m.onnx", with_metadata=False), "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["error"]["type"] == "ContractError"


def test_verify_passes_with_the_golden_samples_beside_the_model(model, golden):
    result = run("verify", model, "--backend", "onnxruntime")
    assert result.exit_code == 0, result.output
    assert "Parity holds at fp32" in result.stdout
    assert result.stdout.strip().splitlines()[-1].startswith("Ran best.onnx with onnxruntime on cpu")


@needs_two_cores
@pytest.mark.parametrize("command", ["verify", "bench"])
def test_the_engine_asked_for_runs_with_the_streams_asked_for(model, golden, command):
    pytest.importorskip("openvino")
    few = {"bench": ("--runs", "1", "--rounds", "1", "--batch", "2", "--no-memory"), "verify": ("--batch", "2")}
    wanted = ("--backend", "openvino", "--threads", "2", "--streams", "2", "--precision", "fp32", "--json")
    document = json.loads(run(command, model, *few[command], *wanted).stdout)
    engine = document["session"] if command == "verify" else document["artifacts"][0]["engine"]
    assert (engine["backend"], engine["streams"], engine["threads"], engine["precision"]) == ("openvino", 2, 2, "fp32")


def test_verify_fails_with_code_7_and_says_what_differs(model, golden, tmp_path):
    other = dataclasses.replace(golden, logits=golden.logits + np.float32(0.5))
    other.save(tmp_path / "other.npz")
    result = run("verify", model, "--golden", tmp_path / "other.npz", "--batch", "1,4", "--json")
    assert result.exit_code == 7
    document = json.loads(result.stdout)
    assert document["parity"]["ok"] is False
    assert document["parity"]["batches"] == [1, 4]
    assert document["error"]["exit_code"] == 7
    assert "differ by" in document["parity"]["failures"][0]
    assert "does not decide as PyTorch did" in run("verify", model, "--golden", tmp_path / "other.npz").stderr


def test_verify_without_golden_samples_says_where_they_come_from(model):
    result = run("verify", model)
    assert result.exit_code == 4
    assert "--golden" in result.stderr


@pytest.mark.parametrize("batch", ["one", "0", "1,,2"])
def test_verify_refuses_batch_sizes_that_are_none(model, golden, batch):
    assert run("verify", model, "--batch", batch).exit_code == 2


def test_doctor_says_that_inference_can_run_here():
    result = run("doctor")
    assert result.exit_code == 0
    assert "`cb infer` can run here." in result.stdout
    assert "onnxruntime" in result.stdout


@pytest.mark.parametrize(
    ("missing", "fix"),
    [("cb_runtime.backends.gone", "pip install --force-reinstall cb-toolkit"), ("libengine", "reinstall engine")],
)
def test_doctor_tells_a_broken_installation_of_ours_from_a_broken_engine(monkeypatch, missing, fix):
    def broken(name):
        raise ImportError(f"No module named '{missing}'", name=missing)

    monkeypatch.setattr(doctor, "backend_names", lambda: ["engine"])
    monkeypatch.setattr(doctor, "load_backend", broken)
    (check,) = doctor._backends()
    assert (check.ok, check.fix) == (False, fix)


def test_doctor_json_lists_every_part():
    document = json.loads(run("doctor", "--json").stdout)
    assert document["can_infer"] is True
    groups = {check["group"] for check in document["checks"]}
    assert groups == {"base", "backend", "gpu", "cache", "extra"}
    assert all(check["ok"] or check["fix"] or check["group"] == "gpu" for check in document["checks"])


def test_doctor_says_where_measured_engines_are_kept_and_what_openvino_computes(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("CB_CACHE", str(tmp_path))
    checks = {(check.group, check.name): check for check in doctor.check_machine()}
    assert checks["cache", "engines"].detail == f"{tmp_path / 'engines.json'} holds 0 choices of an engine"
    assert "FP32" in checks["backend", "openvino"].detail.split(" computes ")[1].split(", ")
    (tmp_path / "file").touch()
    monkeypatch.setenv("CB_CACHE", str(tmp_path / "file"))
    (check,) = [check for check in doctor.check_machine() if check.group == "cache"]
    assert not check.ok
    assert check.fix == "set CB_CACHE to a folder that can be written"


def test_doctor_names_the_extra_that_brings_a_missing_package(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    extras = {check.name: check for check in doctor.check_machine() if check.group == "extra"}
    assert extras["ocr"].fix == "pip install 'cb-toolkit[ocr]'"
    assert "rapidocr" in extras["ocr"].detail


def test_doctor_survives_broken_packages_and_says_that_nothing_runs(monkeypatch):
    def broken(name):
        raise OSError(f"{name}: wrong ELF class")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    monkeypatch.setattr(doctor, "load_backend", broken)
    checks = doctor.check_machine()
    assert not doctor.can_infer(checks)
    assert any("wrong ELF class" in check.detail and check.fix for check in checks if check.group == "backend")
    assert "cannot run here yet" in run("doctor").stdout


def test_doctor_without_a_backend_cannot_infer(monkeypatch):
    class Absent:
        def available(self):
            return Availability(False, "not installed", "install it")

    monkeypatch.setattr(doctor, "load_backend", lambda name: Absent())
    assert not doctor.can_infer(doctor.check_machine())


def test_doctor_names_codecs_that_this_pyav_cannot_decode(monkeypatch):
    monkeypatch.setattr(doctor, "VIDEO_CODECS", ("h264", "betamax"))
    (check,) = [check for check in doctor.check_machine() if check.name == "video codecs"]
    assert not check.ok
    assert "betamax" in check.detail


class FakeDriver:
    """libcuda of a machine with some GPUs."""

    def __init__(self, count):
        self.count = count

    def cuDriverGetVersion(self, pointer):  # noqa: N802  (NVIDIA's name)
        pointer._obj.value = 13020

    def cuInit(self, flags):  # noqa: N802  (NVIDIA's name)
        return 0 if self.count else 100

    def cuDeviceGetCount(self, pointer):  # noqa: N802  (NVIDIA's name)
        pointer._obj.value = self.count


@pytest.mark.parametrize(
    ("count", "ok", "says"), [(2, True, "2 found, driver for CUDA 13.2"), (0, False, "shows no GPU")]
)
def test_doctor_counts_gpus_by_the_driver(monkeypatch, count, ok, says):
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda name: FakeDriver(count))
    (check,) = [check for check in doctor.check_machine() if check.name == "NVIDIA GPU"]
    assert check.ok is ok
    assert says in check.detail


def test_doctor_says_when_there_is_no_driver(monkeypatch):
    def missing(name):
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert "no NVIDIA driver" in doctor._gpu().detail
