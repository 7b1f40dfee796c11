"""The benchmarks run as their README says; what they measure is not judged here."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_pairs_benchmark_compares_both_contenders_and_they_agree(tmp_path):
    output = tmp_path / "pairs.json"
    options = ["--architectures", "compact_aligned_resnet", "--frames", 4, "--rounds", 2, "--output", output]
    done = run("run.py", *options)
    assert done.returncode == 0, done.stderr
    loop, runtime = json.loads(output.read_text())["rows"]
    assert loop["ratio"] == 1
    assert runtime["pairs_per_second"] > 0
    assert runtime["agreement"] == 1
    assert runtime["max_difference"] < 1e-3


def test_the_reuse_benchmark_compares_both_ways_and_they_agree(tmp_path):
    output = tmp_path / "reuse.json"
    options = ["--architectures", "compact_aligned_resnet", "--frames", 5, "--rounds", 2, "--output", output]
    done = run("reuse.py", *options)
    assert done.returncode == 0, done.stderr
    row = json.loads(output.read_text())["rows"]["compact_aligned_resnet"]
    assert all(rate["median"] > 0 for rate in row["frames_per_second"].values())
    assert row["agreement"] == 1
    assert row["max_probability_difference"] < 1e-4


def test_the_overlap_benchmark_compares_all_ways_and_their_answers_are_equal(tmp_path):
    output = tmp_path / "overlap.json"
    options = ["--seconds", 1, "--size", 192, 108, "--rounds", 2, "--cores", 1, "--distances", "1", "1,2"]
    done = run("overlap.py", *options, "--output", output)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())["rows"]
    assert [(row["cores"], row["distances"], row["frames"]) for row in rows] == [(1, [1], 25), (1, [1, 2], 25)]
    for row in rows:
        assert row["answers_equal"]
        assert len(row["frames_per_second"]) == len(row["cpu_ms_per_frame"]) == 4
        assert all(rate["median"] > 0 for rate in row["frames_per_second"].values())
        assert set(row["busy"]) == {"decode", "strips", "encode", "classify"}


def test_the_layout_benchmark_measures_every_video_it_is_given(tmp_path):
    pytest.importorskip("rapidocr")
    from cb_core.synth.collection import render_videos

    render_videos(tmp_path / "videos", 2, 1.0, 5, size=(192, 108))
    output = tmp_path / "layout.json"
    done = run("layout.py", tmp_path / "videos", "--output", output)
    assert done.returncode == 0, done.stderr
    document = json.loads(output.read_text())
    assert [row["video"][-15:-4] for row in document["rows"]] == ["/video_0000", "/video_0001"]
    assert document["summary"]["videos"] == 2
    assert all(row["frames_read"] >= 12 for row in document["rows"])


@pytest.mark.slow
def test_the_memory_benchmark_measures_every_length(tmp_path):
    sys.path.insert(0, str(ROOT / "tests" / "cb_runtime"))
    from tiny_models import tiny_model

    output = tmp_path / "memory.json"
    model = tiny_model(tmp_path / "tiny.onnx")
    done = run("memory.py", "--checkpoint", model, "--unit-seconds", 2, "--minutes", 1, 2, "--output", output)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())["rows"]
    assert [row["minutes"] for row in rows] == [1, 2]
    assert rows[1]["frames"] == 2 * rows[0]["frames"]
    assert all(row["peak_mib"] > 0 for row in rows)


def test_packets_are_repeated_without_gaps(tmp_path):
    sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "cb_runtime")]
    from memory import repeat_packets
    from tiny_models import CAPTION, bright_video

    from cb_runtime.video import open_source

    once = bright_video(tmp_path / "once.mp4", [CAPTION] * 10)
    repeat_packets(once, tmp_path / "thrice.mp4", 3)
    source = open_source(tmp_path / "thrice.mp4")
    times = [frame.pts * source.info.time_base for frame in source.frames()]
    assert times == [Fraction(index, 25) for index in range(30)]
