"""Which artifact of a package a machine takes: machines are described, as none here has a GPU."""

import dataclasses
import json

import pytest
from fake_tensorrt import record_of
from test_package import CONTRACT, manifest_of, write_package

from cb_runtime.backends import package as package_backend
from cb_runtime.errors import MissingPackageError, ModelError
from cb_runtime.gpus import Gpu
from cb_runtime.package import Artifact, Package, machine, open_package, write_archive
from cb_runtime.package.choice import choose
from cb_runtime.package.machine import Machine, this_machine
from cb_runtime.session import open_session
from cb_runtime.trt.flavours import FLAVOURS

LINUX = "linux-x86_64"
ADA, HOPPER, AMPERE = Gpu(0, "NVIDIA L4", "8.9"), Gpu(0, "NVIDIA H100", "9.0"), Gpu(0, "NVIDIA A100", "8.0")
RELEASES = {"tensorrt": "11.4", "rtx": "1.7"}

FP32, FP16, INT8 = (Artifact(f"onnx-{precision}/model.onnx", precision) for precision in ("fp32", "fp16", "int8"))
ONNX = (FP32, FP16, INT8)


def engine(name, precision="fp16", **changes):
    """Return an engine of a package and what its sidecar says."""
    values = {"platform": LINUX, "tensorrt_version": "11.4", **changes}
    record = record_of(CONTRACT.replace(precision=precision), "0" * 64, **values)
    return Artifact(f"{name}/model.engine", precision), record


ADA_FP16 = engine("ada-fp16")
ADA_INT8 = engine("ada-int8", "int8")
HOPPER_FP16 = engine("hopper-fp16", compute_capabilities=("9.0",))
ANY_FP16 = engine("any-fp16", compute_capabilities=("8.0",), hardware_compat="ampere+")
RTX_FP16 = engine("rtx-fp16", flavour="rtx", tensorrt_version="1.7", compute_capabilities=("8.0", "8.6", "8.9"))
WINDOWS = engine("windows-fp16", platform="windows-amd64")
OLDER = engine("older-fp16", tensorrt_version="10.9")
OLDER_FOR_LATER = engine("later-fp16", tensorrt_version="10.9", version_compatible=True)


def chosen(engines=(), device="auto", gpus=(), releases=RELEASES, staged=(), reuse=True, onnx=ONNX):
    artifacts = [*onnx, *(artifact for artifact, _ in engines)]
    stages = [f"{artifact.stages}/classifier.onnx" for artifact in staged]
    names = ["README.md", "golden.npz", *(artifact.file for artifact in artifacts), *stages]
    manifest = manifest_of(dict.fromkeys(names, b""), artifacts)
    records = {artifact.file: record for artifact, record in engines}
    return choose(manifest, records, device, Machine(LINUX, tuple(gpus), releases), reuse=reuse)


def order(choice):
    return [f"{attempt.artifact.folder} on {attempt.device}" for attempt in choice.attempts]


CPU = ["onnx-int8 on cpu", "onnx-fp32 on cpu", "onnx-fp16 on cpu"]
CUDA = ["onnx-fp16 on cuda:0", "onnx-fp32 on cuda:0", "onnx-int8 on cuda:0"]


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_on_a_cpu_int8_is_first_and_half_precision_last(device):
    found = chosen([ADA_FP16], device)
    assert order(found) == CPU
    assert found.attempts[0].why == "onnx-int8 is the fastest of onnx-int8, onnx-fp32, onnx-fp16 on a CPU"


def test_a_staged_graph_is_worth_more_than_its_arithmetic_where_frames_are_reused():
    assert order(chosen(staged=[FP32]))[0] == "onnx-fp32 on cpu"
    assert "onnx-fp32, in stages, is the fastest" in chosen(staged=[FP32]).attempts[0].why
    assert order(chosen(staged=[FP32], reuse=False)) == CPU
    assert order(chosen(staged=[FP32, INT8]))[0] == "onnx-int8 on cpu"
    assert order(chosen(device="cuda", gpus=[ADA], staged=[FP32]))[0] == "onnx-fp32 on cuda:0"


def test_on_a_gpu_the_fastest_engine_for_it_is_first_then_onnx_then_the_cpu():
    found = chosen([ADA_FP16, ADA_INT8], gpus=[ADA])
    assert order(found) == ["ada-int8 on cuda:0", "ada-fp16 on cuda:0", *CUDA, *CPU]
    assert found.attempts[0].why.endswith("on a GPU, NVIDIA L4 (compute capability 8.9)")
    assert found.left_out == ()


def test_a_gpu_that_was_asked_for_leaves_the_cpu_out():
    assert order(chosen([ADA_FP16], "cuda:0", [ADA])) == ["ada-fp16 on cuda:0", *CUDA]


@pytest.mark.parametrize(
    ("other", "gpu", "says"),
    [
        (ADA_FP16, HOPPER, "ada-fp16 (built for compute capability 8.9, here is 9.0)"),
        (HOPPER_FP16, ADA, "hopper-fp16 (built for compute capability 9.0, here is 8.9)"),
        (WINDOWS, ADA, "windows-fp16 (built on windows-amd64, this is linux-x86_64)"),
        (OLDER, ADA, "older-fp16 (built by TensorRT 10.9, here is 11.4)"),
    ],
)
def test_an_engine_that_cannot_run_here_is_left_out_with_the_reason(other, gpu, says):
    found = chosen([other], gpus=[gpu])
    assert order(found) == [*CUDA, *CPU]
    assert found.left_out == (says,)


def test_an_engine_of_a_flavour_that_is_not_here_is_left_out_with_where_to_look():
    (line,) = chosen([ADA_FP16], gpus=[ADA], releases={"rtx": "1.7"}).left_out
    assert line == "ada-fp16 (TensorRT is not installed here, or does not work: see `cb doctor`)"


def test_engines_for_several_gpus_come_after_those_for_this_one():
    engines = [ANY_FP16, RTX_FP16, ADA_FP16]
    assert order(chosen(engines, "cuda", [ADA]))[:3] == [
        "ada-fp16 on cuda:0",
        "rtx-fp16 on cuda:0",
        "any-fp16 on cuda:0",
    ]
    assert order(chosen(engines, "cuda", [HOPPER]))[:1] == ["any-fp16 on cuda:0"]
    assert order(chosen([ADA_INT8, ANY_FP16], "cuda", [AMPERE]))[:1] == ["any-fp16 on cuda:0"]


def test_an_engine_for_later_releases_runs_there():
    assert order(chosen([OLDER_FOR_LATER], "cuda", [ADA]))[0] == "later-fp16 on cuda:0"


def test_of_several_gpus_auto_takes_the_one_that_the_engine_was_built_for():
    both = [HOPPER, dataclasses.replace(ADA, index=1)]
    assert order(chosen([ADA_FP16], gpus=both))[:2] == ["ada-fp16 on cuda:1", "onnx-fp16 on cuda:0"]
    assert order(chosen([ADA_FP16], "cuda:1", both))[0] == "ada-fp16 on cuda:1"
    assert order(chosen([ADA_FP16], "cuda:0", both))[0] == "onnx-fp16 on cuda:0"


def test_a_gpu_that_the_driver_does_not_show_is_left_to_the_engine():
    assert order(chosen([ADA_FP16], "cuda:0"))[0] == "ada-fp16 on cuda:0"


def test_the_only_artifact_for_a_place_is_called_so():
    found = chosen(gpus=[ADA], onnx=[FP32])
    assert found.attempts[1].why == "onnx-fp32 is the only one of 1 artifacts for a CPU"


class TestThisMachine:
    def test_tensorrt_is_asked_for_its_release_only_where_a_gpu_is(self, monkeypatch):
        monkeypatch.setattr(machine, "list_gpus", lambda: ())
        monkeypatch.setattr(machine, "flavour_version", None)
        assert this_machine().releases == {}

    def test_a_flavour_that_is_broken_or_missing_is_none(self, monkeypatch):
        def version_of(flavour):
            if flavour.name == "tensorrt":
                raise ModelError("libnvinfer is missing")
            return "1.7"

        monkeypatch.setattr(machine, "list_gpus", lambda: (ADA,))
        monkeypatch.setattr(machine, "flavour_version", version_of)
        monkeypatch.setattr(type(FLAVOURS["rtx"]), "is_installed", True)
        assert this_machine() == Machine(machine.this_platform(), (ADA,), {"rtx": "1.7"})
        monkeypatch.setattr(type(FLAVOURS["rtx"]), "is_installed", False)
        assert this_machine().releases == {}


@pytest.fixture
def with_engines(tmp_path):
    """Return a package of an ONNX file and two engines, of which one is no plan at all."""
    path = write_package(tmp_path / "best.cbx", tmp_path)
    opened = open_package(path)
    contents = {name: opened.read(name) for name in opened.manifest.members}
    engines = [engine("ada-int8", "int8"), engine("hopper-fp16", compute_capabilities=("9.0",))]
    for artifact, record in engines:
        contents[artifact.file] = b"plan"
        contents[f"{artifact.file}.json"] = json.dumps(record.to_dict()).encode()
    manifest = manifest_of(contents, [*opened.manifest.artifacts, *(artifact for artifact, _ in engines)])
    write_archive(path, {"manifest.json": manifest.to_bytes(), **contents})
    return path


def on(monkeypatch, *gpus):
    monkeypatch.setattr(package_backend, "this_machine", lambda: Machine(LINUX, gpus, RELEASES))


def test_the_reason_names_what_was_left_out_and_what_was_tried_before(with_engines, monkeypatch):
    on(monkeypatch, ADA)
    described = open_session(with_engines).describe()
    assert (described["artifact"], described["device"]) == ("onnx-fp32/model.onnx", "cpu")
    assert "tried before: " in described["reason"]
    assert "left out: hopper-fp16 (built for compute capability 9.0, here is 8.9)" in described["reason"]


def test_where_no_artifact_can_run_each_one_is_named_with_its_reason(with_engines, monkeypatch):
    on(monkeypatch, ADA)
    with pytest.raises(
        ModelError, match=r"(?s)nothing that runs here on device cuda:0.*hopper-fp16 \(built for.*ada-int8"
    ):
        open_session(with_engines, device="cuda:0")


def test_without_engines_or_gpu_nothing_is_left_out(with_engines, monkeypatch):
    on(monkeypatch)
    assert "left out" not in open_session(with_engines).describe()["reason"]


def test_a_missing_engine_package_does_not_hide_the_onnx_file(with_engines, monkeypatch):
    def missing(package, artifact, attempt, options, right=package_backend._open_inner):
        if artifact.suffix == ".engine":
            raise MissingPackageError("cuda", "trt")
        return right(package, artifact, attempt, options)

    on(monkeypatch, ADA)
    monkeypatch.setattr(package_backend, "_open_inner", missing)
    assert "pip install 'cb-toolkit[trt]'" in open_session(with_engines).describe()["reason"]


@pytest.mark.parametrize("sidecar", [b"{", b"[]", b"{}", None])
def test_an_engine_whose_sidecar_is_none_or_missing_is_refused(tmp_path, sidecar):
    artifact, _ = ADA_FP16
    contents = {"README.md": b"", "golden.npz": b"", artifact.file: b"plan"}
    contents |= {} if sidecar is None else {f"{artifact.file}.json": sidecar}
    manifest = manifest_of(contents, [artifact])
    write_archive(tmp_path / "best.cbx", {"manifest.json": manifest.to_bytes(), **contents})
    package = open_package(tmp_path / "best.cbx")
    assert isinstance(package, Package)
    with pytest.raises(ModelError, match=r"is refused: .*ada-fp16/model\.engine\.json"):
        package.records()
