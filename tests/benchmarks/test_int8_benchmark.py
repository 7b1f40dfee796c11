"""The benchmark of int8: what it asks of `cb`, and what it keeps of the answers."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import int8

GOLDEN = dict.fromkeys(int8.GATE, 1.0) | {"flips": [{"margin": 0.25}], "failures": ["95% decided alike"]}
EXPORTED = {
    "size": 7,
    "parity": {"ok": False, "golden": GOLDEN, "judge_pairs": {"samples": 400}},
    "metadata": {
        "architecture_name": "tiny",
        "checkpoint_sha256": "ab",
        "validation_metrics": {"val_f1": 0.9},
        "calibration": {"source": "training pairs", "samples": 256, "sha256": "cd"},
    },
}
COMPARED = {"comparison": {"agreement": 0.99}}
STUB = (
    f"import json, sys; print(json.dumps({EXPORTED!r} if sys.argv[1] == 'export' else {COMPARED!r})); "
    "sys.exit(7 if 'int8' in ' '.join(sys.argv) else 0)"
)


@pytest.fixture
def arguments(tmp_path):
    judge, data, calibration = (tmp_path / name for name in ("judge.db", "data.db", "calibration.db"))
    return Namespace(
        checkpoint="default",
        calibration=calibration,
        judge=judge,
        data=data,
        split="test",
        pairs=5,
        threads=1,
        rounds=3,
    )


def test_each_int8_file_is_exported_judged_and_compared_with_float32(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "CB", [sys.executable, "-c", STUB])
    document = int8.measure(arguments, tmp_path)
    assert document["commands"] == [
        "cb export --checkpoint default --no-staged --output fp32.onnx --json",
        "cb export --checkpoint default --precision int8 --judge judge.db --no-staged --allow-parity-failure --output "
        "int8.onnx --json",
        "cb export --checkpoint default --precision int8 --calibration calibration.db --judge judge.db --no-staged "
        "--allow-parity-failure --output int8_calibrated.onnx --json",
        "cb compare fp32.onnx int8.onnx --data data.db --split test --pairs 5 --threads 1 --rounds 3 --device cpu "
        "--json",
        "cb compare fp32.onnx int8_calibrated.onnx --data data.db --split test --pairs 5 --threads 1 --rounds 3 "
        "--device cpu --json",
    ]
    found = document["files"]["int8.onnx"]
    assert found["gate"]["passed"] is False
    assert found["gate"]["failures"] == ["95% decided alike"]
    assert found["gate"]["judge_pairs"] == {"samples": 400}
    assert found["gate"]["margins_of_flips"] == [0.25]
    assert found["calibration"] == {"source": "training pairs", "samples": 256}
    assert found["compared_with_fp32"] == {"agreement": 0.99}
    assert str(tmp_path) not in json.dumps(document)


def test_a_command_that_fails_ends_it_with_its_own_words(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "CB", [sys.executable, "-c", "import sys; sys.exit('no such file')"])
    with pytest.raises(SystemExit, match=r"(?s)cb export .* ended with exit code 1:.*no such file"):
        int8.measure(arguments, tmp_path)
