"""Several seeds side by side."""

import json

import pytest
import spread


def report(f1, ece, *, sha="a"):
    part = {
        "boundaries": [{"tolerance_frames": 0, "f1": f1}],
        "onset": {"count": 3, "mean_ms": 2.0},
        "offset": {"count": 0, "mean_ms": None},
        "calibration": {"error": ece},
        "captions": {"predicted": 50, "missed": 1, "split": 2, "merged": 3, "phantom": 5},
    }
    empty = {"boundaries": [{"tolerance_frames": 0, "f1": None}]}
    return {"model": {"sha256": sha}, "overall": part, "slices": {"script": {"latin": part, "thai": empty}}}


def test_each_measure_has_its_value_of_every_seed_and_their_spread():
    result = spread.compared([report(0.9, 0.1), report(0.8, 0.3)])
    found = result["overall"]["boundary F1 at 0"]
    assert (found["seeds"], found["low"], found["high"]) == ([0.9, 0.8], 0.8, 0.9)
    assert found["mean"] == pytest.approx(0.85)
    assert result["overall"]["phantom share"]["mean"] == pytest.approx(0.1)
    assert "offset, mean ms" not in result["overall"]
    assert result["slices"]["script"]["latin"]["boundary F1 at 0"]["low"] == 0.8
    assert result["slices"]["script"]["thai"] == {}


def test_reports_of_different_models_are_not_mixed(tmp_path, monkeypatch, capsys):
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path, sha in zip(paths, "ab", strict=True):
        path.write_text(json.dumps(report(0.9, 0.1, sha=sha)))
    monkeypatch.setattr("sys.argv", ["spread.py", *map(str, paths), "--output", str(tmp_path / "out.json")])
    assert spread.main() == 2
    assert "different models" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
