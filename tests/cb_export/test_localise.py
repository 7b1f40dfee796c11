"""A precision that loses the agreement: what is told, and that `--keep-float` takes what was found."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from fragile_pairs import LOUD, fragile_pairs, write_fragile
from test_export_command import wrong_bias
from tiny_pairs import write_run

from cb_core import registry
from cb_export.cli.export import export
from cb_export.localise import Localisation, localise
from cb_export.options import ExportOptions
from cb_export.source import merge, read_source
from cb_export.targets import onnx as onnx_target
from cb_runtime.session import open_session


@pytest.fixture(autouse=True)
def fragile_architecture(tiny_architecture, monkeypatch):
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "fragile_pairs": fragile_pairs})


def run(*arguments):
    return CliRunner().invoke(export, ["--batches", "1,2", *map(str, arguments)])


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_failed_gate_names_the_modules_to_keep_in_float_and_they_make_it_pass(tmp_path, precision):
    checkpoint = write_fragile(tmp_path, LOUD[precision])
    failed = run("--checkpoint", checkpoint, "--precision", precision)
    assert failed.exit_code == 7
    assert "In float32 it agrees" in failed.stderr
    assert not checkpoint.with_suffix(".onnx").exists()
    (names,) = re.findall(r"--keep-float (\S+)", failed.stderr)
    assert all(name.startswith("fragile") for name in names.split(","))

    done = run("--checkpoint", checkpoint, "--precision", precision, "--keep-float", names)
    assert done.exit_code == 0, done.output
    assert f"Kept in float: {names.replace(',', ', ')}" in done.stdout
    metadata = open_session(checkpoint.with_suffix(".onnx")).metadata
    assert (metadata.precision, metadata.keep_float) == (precision, tuple(names.split(",")))
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(checkpoint.with_suffix(".onnx")).graph.initializer}
    kept = {
        kind for name, kind in kinds.items() if name.removeprefix("architecture.").startswith(tuple(names.split(",")))
    }
    assert kept == {onnx.TensorProto.FLOAT}
    assert {"int8": onnx.TensorProto.INT8, "fp16": onnx.TensorProto.FLOAT16}[precision] in kinds.values()


def test_what_fails_in_float32_is_told_to_be_the_exporters_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_bias)
    failed = run("--checkpoint", write_fragile(tmp_path, LOUD["int8"]), "--precision", "int8")
    assert failed.exit_code == 7
    assert "It does not agree in float32 either, so int8 is not at fault" in failed.stderr
    assert "--keep-float" not in failed.stderr


def located(checkpoint, precision):
    options = ExportOptions(precision=precision, batches=(1, 2))
    return localise(merge(read_source(checkpoint, options), options), options)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_agrees_on_the_cpu_leaves_the_engine_at_fault(tmp_path, precision):
    outcome = located(write_run(tmp_path), precision)
    assert outcome.whole.passes
    assert outcome.found is None
    assert "the engine that was built is at fault" in str(outcome)


def test_where_no_set_helps_that_is_said(tmp_path, monkeypatch):
    whole = located(write_fragile(tmp_path, LOUD["int8"]), "int8")
    nothing = Localisation("int8", whole.float32, whole.whole, type(whole.found)(whole.found.alone, ()))
    assert "No set of blocks makes it agree. Export it with --precision fp32." in str(nothing)
    assert np.isfinite(whole.whole.difference)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--keep-float", "head"], "would narrow"),
        (["--precision", "int8", "--keep-float", "nose"], "has no module 'nose'. It has, among others, encoder"),
        (["--precision", "int8", "--keep-float", "encoder,"], "has no module ''"),
        (["--calibration", "d.db"], "--calibration is what --precision int8 is calibrated on"),
        (["--precision", "fp16", "--calibration", "d.db"], "--calibration is what --precision int8 is calibrated on"),
        (["--precision", "double"], "in fp32, fp16, int8 or auto, not in 'double'"),
        (["--format", "trt", "--flavor", "rtx", "--precision", "bf16", "--opset", "20"], "bf16 needs --opset 22"),
    ],
)
def test_options_of_precisions_that_cannot_be_obeyed_end_with_exit_code_2(checkpoint, arguments, told):
    done = run("--checkpoint", checkpoint, "--unverified" if "trt" in arguments else "--no-staged", *arguments)
    assert done.exit_code == 2, done.output
    assert told in done.stderr
