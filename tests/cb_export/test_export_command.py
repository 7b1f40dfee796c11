from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_pairs import write_run

from cb_core import registry
from cb_export.cli.export import export
from cb_export.targets import onnx as onnx_target
from cb_runtime.contract import INPUT_NAMES, Decoding
from cb_runtime.session import open_session


def run(*arguments):
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def test_export_says_what_it_wrote_and_that_parity_holds(tmp_path):
    checkpoint = write_run(tmp_path, lora=True)
    done = run("--checkpoint", checkpoint, "--format", "onnx", "--output", tmp_path / "a.onnx", "--batches", "1,2")
    assert done.exit_code == 0, done.output
    assert "a.onnx: tiny_pairs, fp32, opset 20" in done.stdout
    assert "LoRA: 1 layers merged" in done.stdout
    assert "Parity holds at fp32" in done.stdout
    assert "a.golden.npz" in done.stdout


def test_json_is_one_document_on_stdout(checkpoint):
    done = run("--checkpoint", checkpoint, "--json", "--opset", "18")
    document = json.loads(done.stdout)
    assert document["artifact"] == str(checkpoint.with_suffix(".onnx"))
    assert document["parity"]["ok"] is True
    assert document["metadata"]["opset"] == 18


def wrong_bias(graph, opset, right=onnx_target._onnx_from_graph):
    model = right(graph, opset)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("head.bias"):
            tensor.raw_data = bytes(len(tensor.raw_data))
    return model


def test_a_failed_parity_gate_ends_with_exit_code_7_and_no_artifact(checkpoint, monkeypatch):
    monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_bias)
    done = run("--checkpoint", checkpoint, "--json")
    assert done.exit_code == 7
    assert json.loads(done.stdout)["error"]["type"] == "ParityError"
    assert not checkpoint.with_suffix(".onnx").exists()


def test_an_allowed_parity_failure_is_published_with_a_warning(checkpoint, monkeypatch):
    monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_bias)
    done = run("--checkpoint", checkpoint, "--allow-parity-failure")
    assert done.exit_code == 0
    assert "although it failed the parity gate" in done.stderr
    assert open_session(checkpoint.with_suffix(".onnx")).metadata.parity["ok"] is False


def test_an_architecture_from_a_plugin_file_is_exported(checkpoint, tmp_path, monkeypatch):
    monkeypatch.delitem(registry._factories, "tiny_pairs")
    assert run("--checkpoint", checkpoint).exit_code == 4
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from tiny_pairs import tiny_pairs\n"
        "from cb_core.registry import register_model\n"
        "register_model('tiny_pairs')(tiny_pairs)\n"
    )
    done = run("--checkpoint", checkpoint, "--plugin", plugin)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--batches", "1,many", "whole numbers separated by commas"),
        ("--batches", "0", "Batch sizes"),
        ("--format", "docx", "Unknown export format 'docx'. Known: onnx"),
        ("--output", "best.engine", "must be a file *.onnx"),
        ("--plugin", "missing.py", "does not exist"),
    ],
)
def test_an_option_that_cannot_be_obeyed_ends_with_exit_code_2(checkpoint, option, value, message):
    done = run("--checkpoint", checkpoint, option, value)
    assert done.exit_code == 2
    assert message in done.stderr


def test_golden_samples_named_but_missing_end_with_exit_code_4(checkpoint, tmp_path):
    done = run("--checkpoint", checkpoint, "--golden", tmp_path / "no.npz")
    assert done.exit_code == 4
    assert "no.npz are missing" in done.stderr


@pytest.mark.parametrize("module", ["torch", "onnx", "onnxscript"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    done = run("--checkpoint", Path("best.pt"))
    assert done.exit_code == 2
    assert f"{module} is not installed. Install it with: pip install 'cb-toolkit[" in done.stderr


def test_the_help_names_every_option():
    text = run("--help").stdout
    options = ("checkpoint", "format", "output", "opset", "golden", "batches", "allow-parity-failure", "plugin", "json")
    assert [name for name in options if f"--{name}" not in text] == []


def test_the_decoding_that_tuning_found_goes_into_the_artifact(checkpoint, tmp_path):
    wanted = Decoding(distances=(1, 2), change_penalty=7.0)
    tuned = tmp_path / "decoding.json"
    tuned.write_text(json.dumps({"decoding": dataclasses.asdict(wanted)}))
    done = run("--checkpoint", checkpoint, "--decoding", tuned)
    assert done.exit_code == 0, done.output
    assert open_session(checkpoint.with_suffix(".onnx")).metadata.decoding == wanted


def test_the_report_shows_probes_and_the_staged_graph_too(tmp_path, checkpoint):
    page, document = tmp_path / "report.html", tmp_path / "report.json"
    done = run("--checkpoint", checkpoint, "--batches", "1,2", "--report", page, "--report", document)
    assert done.exit_code == 0, done.output
    assert f"Report of the gate: {page}" in done.stdout
    (graph,) = json.loads(document.read_text())["graphs"]
    assert graph["title"] == "Artifact"
    assert graph["ok"] is True
    assert graph["probes"]["ok"] is True
    assert set(graph["effects"]) == set(INPUT_NAMES)
    assert "Parity of best.onnx" in page.read_text()
    assert "Probes: constants" in page.read_text()


def test_a_package_has_its_report_too(tmp_path, checkpoint):
    page = tmp_path / "report.html"
    done = run("--checkpoint", checkpoint, "--batches", "1,2", "--package", tmp_path / "best.cbx", "--report", page)
    assert done.exit_code == 0, done.output
    assert f"Report of the gate: {page}" in done.stdout
    assert "Parity of best.cbx" in page.read_text()


def test_the_report_of_a_failed_gate_is_written_although_nothing_is_published(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_bias)
    done = run("--checkpoint", checkpoint, "--report", tmp_path / "report.html")
    assert done.exit_code == 7
    assert not checkpoint.with_suffix(".onnx").exists()
    assert "failed</span>" in (tmp_path / "report.html").read_text()


def test_a_report_of_another_kind_ends_with_exit_code_2(checkpoint, tmp_path):
    done = run("--checkpoint", checkpoint, "--report", tmp_path / "report.pdf")
    assert done.exit_code == 2
    assert "*.html or *.json" in done.stderr
