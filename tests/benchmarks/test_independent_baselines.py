"""The baselines find what they can find exactly, so that beating them means something."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from contests import changes
from edges import EdgeRules, captions_from_edges, edge_mask, edge_signals
from ocr_loop import OcrRules, captions_from_reads

ROOT = Path(__file__).parents[2]
RULES = OcrRules(confidence=0.75, similarity=0.8, bridged_seconds=0.1, shortest_seconds=0.12)


def read(text, confidence=0.95):
    return ((text, confidence),)


def test_the_ocr_loop_bridges_a_flicker_and_splits_different_texts():
    reads = (
        [()] * 5 + [read("hello world")] * 10 + [()] * 2 + [read("hello wor1d")] * 8 + [read("good night")] * 9 + [()]
    )
    assert captions_from_reads(reads, 25.0, RULES) == [(5, 25), (25, 34)]


def test_the_ocr_loop_drops_what_it_is_not_sure_of_and_what_is_too_short():
    reads = [read("noise", 0.4)] * 10 + [read("blink")] * 2 + [()] * 10 + [read("a caption")] * 10
    assert captions_from_reads(reads, 25.0, RULES) == [(22, 32)]


def picture(text, moving):
    rng = np.random.default_rng(99)
    stripes = np.repeat(rng.integers(0, 90, (1, 60, 3)), 8, axis=1)
    image = np.ascontiguousarray(np.roll(np.repeat(stripes, 72, axis=0), moving, axis=1).astype(np.uint8))
    cv2.putText(image, text, (30, 50), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (255, 255, 255), 3)
    return image


def test_the_edge_method_finds_still_text_and_its_change_to_the_frame():
    shown = [""] * 20 + ["Good morning"] * 20 + ["Leave it alone"] * 20 + [""] * 20
    signals = edge_signals(edge_mask(picture(text, 7 * frame), 200) for frame, text in enumerate(shown))
    assert captions_from_edges(signals, 25.0, EdgeRules(strength=200, change=0.3)) == [(20, 40), (40, 60)]


def test_the_edge_method_sees_nothing_where_nothing_stands_still():
    signals = edge_signals(edge_mask(picture("", 7 * frame), 200) for frame in range(40))
    assert captions_from_edges(signals, 25.0, EdgeRules(strength=200)) == []


def test_the_ends_of_an_excerpt_are_no_changes():
    assert changes([(0, 10), (10, 30), (40, 60)], 60) == [10, 30, 40]


@pytest.mark.slow
def test_the_baselines_run_on_a_folder_and_keep_other_contenders_rows(tmp_path):
    from cb_core.synth.collection import render_videos

    render_videos(tmp_path / "set", 2, 3.0, 5, size=(320, 240))
    output = tmp_path / "baselines.json"
    for contender in ("edges", "ocr"):
        command = [sys.executable, str(ROOT / "benchmarks" / "independent" / "baselines.py"), str(tmp_path / "set")]
        command += ["--videos", "2", "--seconds", "2", "--contenders", contender, "--output", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    section = json.loads(output.read_text())["excerpts"]
    assert [row["contender"] for row in section["rows"]] == ["edges", "ocr"]
    assert all(row["scores"][0]["true"] == section["boundaries"] for row in section["rows"])
    assert section["rows"][1]["cpu_seconds_per_frame"] > section["rows"][0]["cpu_seconds_per_frame"] > 0
