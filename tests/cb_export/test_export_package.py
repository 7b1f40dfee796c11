"""`cb export --package`: one file with all that is needed, and nothing beside it."""

import json
import zipfile

import pytest
from click.testing import CliRunner
from tiny_pairs import logits_of, random_inputs, seeded_model

from cb_export.cli.export import export
from cb_export.package import write_package
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ParityError
from cb_runtime.package import Artifact, open_package
from cb_runtime.session import open_session
from cb_runtime.trt.sidecar import BatchProfile, EngineRecord


def run(*arguments):
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def test_a_package_is_the_only_file_written_and_answers_as_the_checkpoint(checkpoint, tmp_path):
    place = tmp_path / "out" / "best.cbx"
    done = run("--checkpoint", checkpoint, "--package", place, "--licence", "Apache-2.0", "--batches", "1,2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["package"] == str(place)
    assert [path.name for path in place.parent.iterdir()] == ["best.cbx"]
    inputs = random_inputs(3)
    assert abs(open_session(place).run(inputs) - logits_of(seeded_model(), inputs)).max() < 1e-5
    manifest = open_package(place).manifest
    assert manifest.contract == open_session(place).metadata
    assert manifest.licence == "Apache-2.0"
    assert set(manifest.members) == {"README.md", "golden.npz", "onnx-fp32/model.onnx", "onnx-fp32/parity.json"}
    with zipfile.ZipFile(place) as file:
        card = file.read("README.md").decode()
        assert json.loads(file.read("onnx-fp32/parity.json"))["ok"] is True
    for part in ("# tiny_pairs", "Intended use", "| f1 | 0.5 |", "| fp32 |", "100.00%", "Apache-2.0"):
        assert part in card


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--package", "best.zip"], "must be a file *.cbx"),
        (["--package", "a.cbx", "--output", "a.onnx"], "Give either --output or --package"),
        (["--package", "a.cbx", "--allow-parity-failure"], "exclude each other"),
        (["--package", "a.cbx", "--format", "trt", "--unverified"], "exclude each other"),
        (["--licence", "MIT"], "give --package too"),
    ],
)
def test_options_that_cannot_be_obeyed_end_with_exit_code_2(checkpoint, options, says):
    done = run("--checkpoint", checkpoint, *options)
    assert done.exit_code == 2
    assert says in done.stderr


def test_an_engine_is_packed_with_its_sidecar_and_the_only_gpu_it_runs_on(tmp_path):
    engine, golden = tmp_path / "m.engine", tmp_path / "g.npz"
    engine.write_bytes(b"plan")
    golden.write_bytes(b"golden")
    metadata = ModelMetadata("x", precision="fp16", parity={"ok": True})
    one = EngineRecord("0" * 64, "tensorrt", "11.4", "linux-x86_64", ("8.9",), "none", BatchProfile(1, 8, 16), metadata)
    for record, only in ((one, "8.9"), (one.replace(hardware_compat="ampere+"), None)):
        record.save(engine)
        manifest = write_package(tmp_path / "a.cbx", engine, golden, metadata)
        assert manifest.artifacts == (Artifact("engine-fp16/m.engine", "fp16", only),)
        assert "engine-fp16/m.engine.json" in open_package(tmp_path / "a.cbx").manifest.members


def test_an_artifact_without_a_passed_gate_is_not_packed(tmp_path):
    with pytest.raises(ParityError, match="has not passed the parity gate"):
        write_package(tmp_path / "a.cbx", tmp_path / "a.onnx", tmp_path / "g.npz", ModelMetadata("x"))
    assert list(tmp_path.iterdir()) == []
