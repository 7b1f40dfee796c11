"""The table of what skipping costs: what is counted, and what is remembered between ways."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cb_core.evaluation import Boundary
from cb_runtime.scoring import PairScores

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from skipping import Found, Remembering, _row


class CountingStages:
    """Features are a picture's mean; logits tell both features."""

    def __init__(self):
        self.roles = {"ocr_viz": "frame", "frame1": "frame", "frame2": "frame"}
        self.encoded, self.classified = 0, 0

    def encode(self, role, pictures):
        self.encoded += len(pictures)
        return pictures.mean(axis=(1, 2, 3))[:, None].astype(np.float32)

    def classify(self, inputs):
        self.classified += len(inputs["frame1_features"])
        return np.concatenate([inputs["frame1_features"], 2 * inputs["frame2_features"]], axis=1)


def found(predicted, encoded, scored):
    truth = SimpleNamespace(boundaries=lambda: [Boundary(frame, frame, frame) for frame in (10, 20, 30, 40)])
    return Found(truth, predicted, PairScores({}, {}, encoded, scored))


def test_lost_gained_and_changed_boundaries_are_told_apart():
    exact, other = found([10, 20, 31, 50], 100, 600), found([10, 21, 30, 50, 60], 25, 150)
    row = _row([other], [exact], [0.5, 0.25, 0.75], [])
    assert (row["lost"], row["gained"], row["miss_rate"]) == (1, 1, 0.5)
    assert row["changed"] == len({20, 31, 21, 30, 60})
    assert [score["hits"] for score in row["boundaries"]] == [2, 3, 3]
    assert row["f1_points"][0] == pytest.approx(100 * (4 / 9 - 4 / 8))
    assert (row["frames_encoded"], row["pairs_scored"]) == (0.25, 0.25)
    assert row["scoring_time"] == {"median": 0.5, "lowest": 0.25, "highest": 0.75}
    assert row["whole_time"] is None


def test_what_one_way_asked_the_next_is_told():
    stages = CountingStages()
    remembering = Remembering(stages)
    pictures = np.random.default_rng(0).integers(0, 256, (6, 48, 480, 3), np.uint8)
    first = remembering.encode("frame1", pictures[[0, 1, 1, 2]])
    again = remembering.encode("frame2", pictures[[2, 1, 0, 3]])
    assert stages.encoded == 4
    np.testing.assert_array_equal(again[[2, 1, 0]], first[[0, 1, 3]])
    for count in (2, 2, 4):
        pair = {"frame1_features": first[:count], "frame2_features": again[:count]}
        np.testing.assert_array_equal(remembering.classify(pair), CountingStages().classify(pair))
    assert stages.classified == 4
    remembering.forget()
    remembering.encode("frame1", pictures[:1])
    assert stages.encoded == 5
