"""The benchmarks run as their README says; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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


def test_the_jobs_benchmark_compares_numbers_of_jobs_and_their_captions_are_equal(tmp_path):
    output = tmp_path / "jobs.json"
    options = ["--seconds", 1, "--videos", 2, "--size", 192, 108, "--rounds", 2, "--jobs", 1, 2, "--no-ocr"]
    done = run("jobs.py", *options, "--output", output)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(output.read_text())["rows"]
    assert (row["region"], row["frames"], row["captions_equal"]) == ("given", 50, True)
    assert all(row["frames_per_second"][jobs]["median"] > 0 for jobs in ("1", "2"))
    assert row["ratio_to_1"]["1"] == {"median": 1.0, "lowest": 1.0, "highest": 1.0}


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
