"""`--precision auto`: measured, told, and never one that fails the gate."""

from __future__ import annotations

import json
import time

import onnx
import pytest
from click.testing import CliRunner
from test_export_command import wrong_bias
from test_precisions import write_pairs
from tiny_pairs import write_run

from cb_export import fastest
from cb_export.cli.export import export
from cb_export.fastest import Candidate, Choice, interleaved_ms
from cb_export.targets import onnx as onnx_target
from cb_export.targets import tensorrt as trt_target
from cb_runtime.backends import Availability
from cb_runtime.session import open_session


def run(*arguments):
    return CliRunner().invoke(export, ["--batches", "1,2", *map(str, arguments)])


class Sleeps:
    def __init__(self, name, seconds, order):
        self.name, self.seconds, self.order = name, seconds, order

    def run(self, inputs):
        self.order.append(self.name)
        time.sleep(self.seconds)


def test_candidates_run_in_turn_and_the_slow_one_is_told_apart():
    order = []
    times = interleaved_ms({"fast": Sleeps("fast", 0.01, order), "slow": Sleeps("slow", 0.12, order)}, {}, rounds=3)
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert turns == ["slow", "fast", "slow", "fast", "slow"]
    assert order.count("slow") == 2 * 4  # once untimed before each, as that takes longer than settling
    assert times["fast"] < times["slow"]


def test_what_is_published_is_the_file_that_was_judged_and_each_precision_is_built_once(tmp_path, monkeypatch):
    built, build = {}, onnx_target.build

    def noted(graph, metadata, options, path):
        complete = build(graph, metadata, options, path)
        built.setdefault(options.precision, []).append(onnx.load(path).graph.SerializeToString())
        return complete

    monkeypatch.setattr(onnx_target, "build", noted)
    monkeypatch.setattr(fastest, "interleaved_ms", lambda sessions, inputs: dict.fromkeys(sessions, 1.0) | {"fp16": 0})
    done = run("--checkpoint", write_pairs(tmp_path), "--precision", "auto")
    assert done.exit_code == 0, done.output
    assert {precision: len(files) for precision, files in built.items()} == {"fp32": 1, "fp16": 1, "int8": 1}
    assert onnx.load(tmp_path / "best.onnx").graph.SerializeToString() == built["fp16"][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.golden.npz", "best.onnx", "best.pt"]


def test_an_engine_that_wins_keeps_its_sidecar(tmp_path):
    for name, content in (("fp16.engine", b"plan"), ("fp16.engine.json", b"{}")):
        (tmp_path / name).write_bytes(content)
    fastest._move(tmp_path / "fp16.engine", tmp_path / "best.engine", trt_target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.engine", "best.engine.json"]


@pytest.mark.parametrize("winner", ["fp32", "fp16"])
def test_the_fastest_that_passes_is_exported_and_the_others_are_told(tmp_path, monkeypatch, winner):
    def measured(sessions, inputs):
        return {name: 1.0 if name == winner else 2.0 for name in sessions}

    monkeypatch.setattr(fastest, "interleaved_ms", measured)
    done = run("--checkpoint", write_run(tmp_path), "--precision", "auto", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["metadata"]["precision"] == document["choice"]["precision"] == winner
    tried = {entry["precision"]: entry for entry in document["choice"]["candidates"]}
    assert set(tried) == {"fp32", "fp16", "int8"}
    assert tried[winner]["latency_ms"] == 1.0
    assert tried["int8"]["passes"] is False
    assert "at least 8 calibration samples" in tried["int8"]["reason"]
    assert open_session(tmp_path / "best.onnx").metadata.precision == winner


def test_with_a_real_clock_one_of_those_that_pass_is_chosen(tmp_path):
    done = run("--checkpoint", write_pairs(tmp_path), "--precision", "auto")
    assert done.exit_code == 0, done.output
    assert "was chosen: the fastest that passes the gate, in batches of 2 here" in done.stdout
    assert "fp32: " in done.stdout
    assert open_session(tmp_path / "best.onnx").metadata.parity["ok"] is True


def test_where_none_passes_nothing_is_published(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_bias)
    page = tmp_path / "report.json"
    failed = run("--checkpoint", write_run(tmp_path), "--precision", "auto", "--report", page)
    assert failed.exit_code == 7
    graphs = {graph["title"]: graph["ok"] for graph in json.loads(page.read_text())["graphs"]}
    assert graphs["fp32, left out"] is False
    assert "No precision passes the parity gate" in failed.stderr
    assert not (tmp_path / "best.onnx").exists()


def test_it_takes_none_that_fails_even_if_that_were_allowed(tmp_path):
    done = run("--checkpoint", write_run(tmp_path), "--precision", "auto", "--allow-parity-failure")
    assert done.exit_code == 2
    assert "Name a precision to use --allow-parity-failure" in done.stderr


def test_it_needs_a_machine_that_runs_the_artifacts(tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'cb-toolkit[rtx]'")
    monkeypatch.setattr(trt_target, "runs_here", lambda options: Availability(False, "no GPU"))
    done = run("--checkpoint", write_run(tmp_path), "--precision", "auto", "--format", "trt", "--unverified")
    assert done.exit_code == 2
    assert "--precision auto runs every precision" in done.stderr


def test_a_choice_says_what_was_measured():
    choice = Choice("int8", 16, {}, (Candidate("fp32", True, "Parity holds", 30.0), Candidate("int8", True, "Yes", 20)))
    assert "int8 was chosen" in str(choice)
    assert "fp32: 30.0 ms. Parity holds" in str(choice)
