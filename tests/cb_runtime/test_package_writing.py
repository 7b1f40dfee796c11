"""`cb package create`: several proven artifacts of one model in one file, gathered without PyTorch."""

import hashlib
import json
import shutil

import pytest
from click.testing import CliRunner
from fake_tensorrt import record_of
from test_parity import golden_of
from tiny_models import tiny_model

from cb_runtime.cli import main
from cb_runtime.contract import Decoding, ModelMetadata
from cb_runtime.errors import ModelError, ParityError, UsageError
from cb_runtime.golden import golden_path
from cb_runtime.package import open_package
from cb_runtime.package.writing import Packable, package_artifacts, write_package
from cb_runtime.session import open_session

PROVEN = {"ok": True, "golden": {"argmax_agreement": 1.0, "max_abs_difference": 1e-6}}
METADATA = ModelMetadata("tiny", checkpoint_sha256="a" * 64, validation_metrics={"f1": 0.5}, parity=PROVEN)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    golden_of(open_session(tiny_model(folder / "model.onnx", METADATA))).save(folder / "golden.npz")
    return folder / "golden.npz"


@pytest.fixture
def onnx(tmp_path, samples):
    """Return a function that writes an ONNX file with its golden samples; its name is its precision."""

    def write(precision="fp32", **changes):
        path = tiny_model(tmp_path / f"{precision}.onnx", METADATA.replace(precision=precision, **changes))
        shutil.copyfile(samples, golden_path(path))
        return path

    return write


@pytest.fixture
def engine(tmp_path, samples):
    """Return a function that writes an engine with its sidecar and golden samples."""

    def write(name="ada", precision="fp16", plan=b"plan", **changes):
        path = tmp_path / f"{name}.engine"
        path.write_bytes(plan)
        metadata = METADATA.replace(precision=precision)
        record_of(metadata, hashlib.sha256(plan).hexdigest(), **changes).save(path)
        shutil.copyfile(samples, golden_path(path))
        return path

    return write


def run(*arguments):
    return CliRunner().invoke(main, ["package", "create", *map(str, arguments)])


def test_a_package_of_several_artifacts_is_written_and_opened_by_the_best_for_this_machine(onnx, engine, tmp_path):
    hopper = engine("hopper", compute_capabilities=("9.0",))
    place = tmp_path / "out" / "best.cbx"
    done = run(place, onnx("fp32"), onnx("int8"), engine(), hopper, "--licence", "MIT", "--json")
    assert done.exit_code == 0, done.output
    folders = ["onnx-fp32", "onnx-int8", "engine-fp16-8.9-tensorrt-10.9.0", "engine-fp16-9.0-tensorrt-10.9.0"]
    assert [artifact["file"].split("/")[0] for artifact in json.loads(done.stdout)["artifacts"]] == folders
    package = open_package(place)
    assert [artifact.compute_capability for artifact in package.manifest.artifacts] == [None, None, "8.9", "9.0"]
    assert package.manifest.contract == METADATA
    assert package.records().keys() == {f"{folder}/model.engine" for folder in folders[2:]}
    described = open_session(place, device="cpu").describe()
    assert described["artifact"] == "onnx-int8/model.onnx"
    assert described["self_checked"] == 10
    card = package.read("README.md").decode()
    for row in ("| onnx-int8 | int8 |", "| engine-fp16-9.0-tensorrt-10.9.0 | fp16 | 4 | 100.00% | 1e-06 |", "MIT"):
        assert row in card


def test_the_command_says_what_it_packed(onnx, tmp_path):
    done = run(tmp_path / "best.cbx", onnx())
    assert "best.cbx: tiny, " in done.stdout
    assert "  onnx-fp32: " in done.stdout


def test_engines_of_other_releases_or_gpus_stand_beside_each_other(engine, onnx, tmp_path):
    engines = [
        engine("a"),
        engine("b", tensorrt_version="11.4"),
        engine("c", hardware_compat="ampere+"),
        engine("d", flavour="rtx", compute_capabilities=("8.6", "8.9")),
    ]
    manifest = package_artifacts(tmp_path / "best.cbx", engines)
    assert [(artifact.folder, artifact.compute_capability) for artifact in manifest.artifacts] == [
        ("engine-fp16-8.9-tensorrt-10.9.0", "8.9"),
        ("engine-fp16-8.9-tensorrt-11.4", "8.9"),
        ("engine-fp16-8.0-or-later-tensorrt-10.9.0", None),
        ("engine-fp16-8.6+8.9-rtx-10.9.0", None),
    ]


def test_two_artifacts_of_one_kind_are_refused(onnx, engine, tmp_path):
    one = onnx()
    with pytest.raises(UsageError, match=r"are both onnx-fp32\. Leave one of them out"):
        package_artifacts(tmp_path / "best.cbx", [one, one])
    with pytest.raises(UsageError, match=r"are both engine-fp16-8\.9-tensorrt-10\.9\.0"):
        package_artifacts(tmp_path / "best.cbx", [engine("a"), engine("b", plan=b"other")])


@pytest.mark.parametrize("changes", [{"checkpoint_sha256": "b" * 64}, {"decoding": Decoding(min_frames=2)}])
def test_artifacts_of_different_models_are_refused_with_what_differs(onnx, tmp_path, changes):
    with pytest.raises(UsageError, match=f"not of the same model as .*differ in {next(iter(changes))}"):
        package_artifacts(tmp_path / "best.cbx", [onnx("fp32"), onnx("int8", **changes)])
    assert not (tmp_path / "best.cbx").exists()


@pytest.mark.parametrize("parity", [None, {"ok": None}, {"ok": False}])
def test_an_artifact_that_was_not_proven_is_refused(onnx, tmp_path, parity):
    with pytest.raises(ParityError, match=r"int8\.onnx has not passed the parity gate"):
        package_artifacts(tmp_path / "best.cbx", [onnx("fp32"), onnx("int8", parity=parity)])


def test_different_golden_samples_are_refused(onnx, samples, tmp_path):
    one, other = onnx("fp32"), onnx("int8")
    golden_path(other).write_bytes(b"others")
    with pytest.raises(UsageError, match=r"int8\.golden\.npz and .*fp32\.golden\.npz are different golden samples"):
        package_artifacts(tmp_path / "best.cbx", [one, other])
    with pytest.raises(UsageError, match=r"int8\.golden\.npz and .*golden\.npz are different golden samples"):
        package_artifacts(tmp_path / "best.cbx", [one, other], samples)


def test_missing_golden_samples_are_named_and_can_be_given_for_all(onnx, samples, tmp_path):
    one, other = onnx("fp32"), onnx("int8")
    golden_path(other).unlink()
    done = run(tmp_path / "best.cbx", one, other)
    assert done.exit_code == 4
    assert "int8.golden.npz are missing" in done.stderr
    assert run(tmp_path / "best.cbx", one, other, "--golden", samples).exit_code == 0
    assert run(tmp_path / "best.cbx", one, other, "--golden", tmp_path / "no.npz").exit_code == 4


def test_what_cannot_be_packed_is_refused(onnx, tmp_path):
    one = onnx()
    for name in ("best.pt", "other.cbx"):
        with pytest.raises(UsageError, match=rf"holds artifacts \(\.onnx, \.engine\), and {name} is none of them"):
            package_artifacts(tmp_path / "best.cbx", [one, tmp_path / name])
    with pytest.raises(ModelError, match=r"no\.onnx does not exist"):
        package_artifacts(tmp_path / "best.cbx", [tmp_path / "no.onnx"])
    with pytest.raises(UsageError, match=r"must be a file \*\.cbx"):
        package_artifacts(tmp_path / "best.zip", [one])
    assert run(tmp_path / "best.cbx").exit_code == 2


def test_an_engine_that_is_not_its_sidecars_is_refused(engine, tmp_path):
    path = engine()
    path.write_bytes(b"other")
    with pytest.raises(ModelError, match="SHA-256 differs"):
        package_artifacts(tmp_path / "best.cbx", [path])


def test_a_build_that_fails_leaves_an_older_package_alone(onnx, samples, tmp_path):
    place = tmp_path / "best.cbx"
    place.write_bytes(b"older")
    with pytest.raises(FileNotFoundError):
        write_package(place, [Packable(tmp_path / "gone.onnx", METADATA)], samples)
    assert place.read_bytes() == b"older"
