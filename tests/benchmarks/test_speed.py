"""The measurements of speed run as their README says, on little; what they measure is not judged here."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cb_runtime.gpus import list_gpus

ROOT = Path(__file__).parents[2]
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """What the measurements share: exported models and videos."""
    return tmp_path_factory.mktemp("work")


def run(name, *options):
    command = [sys.executable, "-m", f"benchmarks.speed.{name}", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_peers_ours_and_the_ceiling_are_measured_and_agree(tmp_path, work):
    output = tmp_path / "throughput.json"
    little = ["--frames", 4, "--rounds", 2, "--batch", 4, "--seconds", 2, "--no-compile", "--work", work]
    printed = run("throughput", "--architectures", "compact_aligned_resnet", *little, "--output", output)
    assert output.with_suffix(".md").read_text() in printed
    rows = json.loads(output.read_text())["rows"]
    assert rows[0]["contender"] == "PyTorch loop"
    assert rows[0]["to_loop"] == 1
    kinds = [row["kind"] for row in rows]
    assert kinds.count("cb_runtime") == kinds.count("engine alone") >= 4
    for row in rows:
        assert row["pairs_per_second"]["least"] > 0
        assert (row["agreement"] is None) == (row["kind"] == "engine alone")
        assert (row["of_ceiling"] is None) == (row["to_peer"] is None) == (row["kind"] != "cb_runtime")
        if row["precision"] == "fp32" and row["agreement"] is not None:
            assert row["agreement"] == 1
            assert row["max_difference"] < 1e-3


def test_the_ceiling_of_an_architecture_without_stages_is_its_whole_graph(tmp_path, monkeypatch):
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "cb_runtime")]
    from tiny_models import tiny_model

    from benchmarks.speed import raw

    sizes = []

    class Counting:
        def __init__(self, graph):
            self.session = raw_session(graph, 1)

        def run(self, names, feeds):
            sizes.append(len(feeds["frame1"]))
            return self.session.run(names, feeds)

        def get_inputs(self):
            return self.session.get_inputs()

    raw_session = raw.onnxruntime_session
    monkeypatch.setattr(raw, "onnxruntime_session", lambda graph, threads: Counting(graph))
    strips = np.zeros((5, 48, 480, 3), np.uint8)
    raw.raw_onnxruntime(tiny_model(tmp_path / "tiny.onnx"), strips, batch=4, threads=1)(strips)
    assert sizes == [4, 4], "four pairs in both directions"


@pytest.mark.skipif(bool(list_gpus()), reason="a GPU is here")
def test_without_a_gpu_the_measurement_on_one_says_so():
    command = [sys.executable, "-m", "benchmarks.speed.gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "No NVIDIA GPU here: see `cb doctor`." in done.stderr


def test_what_an_engine_opens_is_the_file_of_its_precision():
    sys.path.insert(0, str(ROOT))
    from benchmarks.speed.engines import OPENVINO, Engine, gpu_engines

    assert Engine(OPENVINO, "bf16", threads=1).file == "fp32", "OpenVINO computes a float32 file in bf16"
    assert [engine.file for engine in gpu_engines()] == ["fp32", "fp16"]
    assert all(engine.ours["device"] == "cuda" for engine in gpu_engines())


@pytest.mark.slow
def test_the_latency_of_a_frame_is_told_in_percentiles_for_each_engine(tmp_path, work):
    output = tmp_path / "latency.json"
    little = ["--architectures", "compact_aligned_resnet", "--frames", 5, "--seconds", 2, "--work", work]
    run("latency", *little, "--output", output)
    rows = json.loads(output.read_text())["rows"]
    assert {"ONNX Runtime fp32", "OpenVINO fp32", "OpenVINO int8"} <= {row["engine"] for row in rows}
    assert all(0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] for row in rows)


@pytest.mark.slow
def test_start_up_is_told_beside_onnx_runtime_alone(tmp_path):
    output = tmp_path / "startup.json"
    run("startup", "--rounds", 1, "--output", output)
    bare, *ours = json.loads(output.read_text())["rows"]
    assert bare["ratio"]["median"] == 1
    assert len(ours) == 6
    assert all(row["import_seconds"] > 0 and row["load_seconds"] > 0 for row in ours)


@pytest.mark.slow
def test_every_length_and_number_of_cores_is_measured(tmp_path, work):
    sys.path.insert(0, str(ROOT / "tests" / "cb_runtime"))
    from tiny_models import tiny_model

    output, model = tmp_path / "scaling.json", tiny_model(tmp_path / "tiny.onnx")
    little = ["--checkpoint", model, "--unit-seconds", 2, "--minutes", 1, 2, "--rounds", 1, "--work", work]
    run("scaling", *little, "--output", output)
    document = json.loads(output.read_text())
    assert [row["minutes"] for row in document["lengths"]] == [1, 2]
    assert document["lengths"][1]["frames"] == 2 * document["lengths"][0]["frames"]
    assert all(row["peak_mib"] > 0 for row in document["lengths"])
    assert document["by_cores"][0]["cores"] == 1
    assert document["by_cores"][0]["ratio"]["median"] == 1


def test_packets_are_repeated_without_gaps(tmp_path):
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "cb_runtime")]
    from tiny_models import CAPTION, bright_video

    from benchmarks.speed.scaling import repeat_packets
    from cb_runtime.video import open_source

    once = bright_video(tmp_path / "once.mp4", [CAPTION] * 10)
    repeat_packets(once, tmp_path / "thrice.mp4", 3)
    source = open_source(tmp_path / "thrice.mp4")
    times = [frame.pts * source.info.time_base for frame in source.frames()]
    assert times == [Fraction(index, 25) for index in range(30)]


def test_figures_name_no_place_of_the_machine_they_were_measured_on(monkeypatch):
    sys.path.insert(0, str(ROOT))
    from benchmarks.speed import figures

    monkeypatch.setattr(sys, "argv", ["script", "--work", "/a/work", "--checkpoint", "one=/a/best.pt", "x=1.pt"])
    assert figures.command("script") == "python -m script --work work --checkpoint one=best.pt x=1.pt"


def test_a_trained_checkpoint_stands_in_for_a_prepared_one(tmp_path):
    sys.path.insert(0, str(ROOT))
    from benchmarks.speed.material import Material

    checkpoint = tmp_path / "best.pt"
    given = Material(tmp_path, "compact_aligned_resnet", 1, trained={"compact_aligned_resnet": checkpoint})
    assert given.subject.checkpoint == checkpoint
    other = Material(tmp_path, "compact_aligned_resnet", 1, trained={"another": checkpoint})
    assert other.subject.checkpoint != checkpoint
