"""`cb export --package`: one file with all that is needed, and nothing beside it."""

import json
import zipfile

import pytest
from click.testing import CliRunner
from tiny_pairs import logits_of, random_inputs, seeded_model

from cb_export.cli.export import export
from cb_runtime.package import open_package
from cb_runtime.session import open_session


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
