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
