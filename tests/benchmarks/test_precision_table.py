"""The table of precisions: rows say what the export said, and are made once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import precision_models  # noqa: E402
import precisions  # noqa: E402
from precisions import (  # noqa: E402
    Row,
    judged,
    markdown,
    missing_variants,
    progress,
    refusal,
    rows_so_far,
    save,
)

ARCHITECTURE = "compact_aligned_resnet"


def run(output, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / "precisions.py"), "--output", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_row_is_exported_measured_written_and_not_made_again(tmp_path):
    output = tmp_path / "precisions.json"
    arguments = ("--architectures", ARCHITECTURE, "--variants", "onnx fp32")
    done = run(output, *arguments)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(output.read_text())["rows"]
    assert (row["outcome"], row["compared"], row["reason"]) == ("passed", "artifact", None)
    assert row["agreement"] == 1
    assert row["max_difference"] < 1e-3
    assert row["layers"] == {"float32": 1}
    assert done.stdout.startswith(f"1 of 1, 0:00:00 left | `{ARCHITECTURE}` | onnx fp32 | passed")
    assert row["size"] > 10**6
    assert f"| `{ARCHITECTURE}` | onnx fp32 | passed |" in output.with_suffix(".md").read_text()
    before = output.read_bytes()
    again = run(output, *arguments)
    assert (again.returncode, again.stdout) == (0, "")
    assert output.read_bytes() == before


def test_a_refused_export_is_a_row_with_its_reason(tmp_path, monkeypatch):
    code = 'import sys; print(\'{"error": {"message": "not\\\\nhere"}}\'); sys.exit(4)'
    monkeypatch.setattr(precisions, "EXPORT", [sys.executable, "-c", code])
    subject = precision_models.Subject(tmp_path / "best.pt", tmp_path / "best.golden.npz", "trained")
    row = precisions.export_row(ARCHITECTURE, "trt-rtx bf16", subject, tmp_path, 60)
    assert (row.outcome, row.reason, row.size) == ("refused", "exit code 4: not here", None)
    assert f"Refused:\n\n- `{ARCHITECTURE}`, trt-rtx bf16: exit code 4: not here" in markdown([row])


def test_an_export_that_takes_too_long_is_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(precisions, "EXPORT", [sys.executable, "-c", "import time; time.sleep(60)"])
    subject = precision_models.Subject(tmp_path / "best.pt", tmp_path / "best.golden.npz", "trained")
    row = precisions.export_row(ARCHITECTURE, "onnx int8", subject, tmp_path, 0.2)
    assert (row.outcome, row.reason) == ("refused", "not done after 0.2 s")


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "reason"),
    [
        (-9, "", "", "killed: memory ran out"),
        (1, "", "Traceback\nValueError: no\n", "exit code 1: ValueError: no"),
        (1, "", "", "exit code 1: no message"),
        (7, json.dumps({"error": {"message": "x" * 999}}), "", f"exit code 7: {'x' * 300}..."),
    ],
)
def test_the_reason_of_a_refusal_is_one_line(code, stdout, stderr, reason):
    assert refusal(code, stdout, stderr) == reason


def test_of_an_engine_that_cannot_run_here_its_source_is_what_was_compared():
    onnx = {"ok": True, "golden": {}}
    assert judged({"ok": False, "golden": {}})[0] == "artifact"
    assert judged({"ok": None, "reason": "no GPU", "onnx": onnx}) == ("ONNX it is built from", onnx, "no GPU")
    unrun = {"ok": None, "reason": "no GPU", "onnx": {"ok": None, "reason": "no bf16"}}
    assert judged({**unrun, "network": onnx}) == ("its network, in PyTorch", onnx, "no GPU")
    assert judged(unrun) == ("nothing", None, "no GPU; ONNX: no bf16")


def test_a_failed_gate_is_told_with_the_tolerances_that_were_broken():
    gate = {"golden": {"failures": ["a"]}, "probes": {"failures": ["b"]}, "failures": ["c"]}
    assert precisions.problems_of(gate) == ["a", "Probes: b", "c"]
    row = Row(ARCHITECTURE, "onnx int8", "trained", "failed", None, 3.0, problems=["a", "b"])
    assert f"Failed the gate:\n\n- `{ARCHITECTURE}`, onnx int8: a b" in markdown([row])


def test_rows_made_under_other_conditions_are_not_mixed(tmp_path):
    row = Row(ARCHITECTURE, "onnx fp32", "trained", "failed", None, 3.0, compared="artifact", max_difference=None)
    save(tmp_path / "p.json", {"cores": 2}, [row])
    assert rows_so_far(tmp_path / "p.json", {"cores": 2}) == [row]
    assert "not finite" in (tmp_path / "p.md").read_text()
    with pytest.raises(SystemExit, match="other conditions"):
        rows_so_far(tmp_path / "p.json", {"cores": 4})
    assert rows_so_far(tmp_path / "none.json", {}) == []


def test_batch_sizes_and_a_dataset_to_judge_on_reach_the_export(tmp_path, monkeypatch):
    code = "import json, sys; print(json.dumps({'error': {'message': ' '.join(sys.argv)}})); sys.exit(4)"
    monkeypatch.setattr(precisions, "EXPORT", [sys.executable, "-c", code])
    subject = precision_models.Subject(tmp_path / "best.pt", tmp_path / "best.golden.npz", "trained")
    monkeypatch.setattr(precisions, "LONGEST_REASON", 5000)
    row = precisions.export_row(ARCHITECTURE, "onnx int8", subject, tmp_path, 60, "1,16", Path("judge.db"))
    assert "--batches 1,16 --judge judge.db" in row.reason
    assert "--judge" not in precisions.export_row(ARCHITECTURE, "onnx int8", subject, tmp_path, 60).reason


def test_files_are_given_by_architecture(tmp_path):
    assert precision_models.by_architecture([f"one={tmp_path}/a=b.pt", "two=b.pt"]) == {
        "one": tmp_path / "a=b.pt",
        "two": Path("b.pt").resolve(),
    }


def test_only_rows_that_are_missing_are_made():
    rows = [Row("one", "onnx fp32", "trained", "passed", None, 3.0)]
    rows += [Row("two", variant, "trained", "refused", "no", 3.0) for variant in ("onnx fp32", "onnx int8")]
    missing = missing_variants(rows, ["one", "two", "three"], ["onnx fp32", "onnx int8"])
    assert missing == {"one": ["onnx int8"], "three": ["onnx fp32", "onnx int8"]}


def test_the_time_left_is_that_of_the_rows_left_at_the_pace_so_far():
    assert progress(2, 8, 60.0) == "2 of 8, 0:03:00 left"
    assert progress(8, 8, 60.0) == "8 of 8, 0:00:00 left"


def test_a_prepared_model_decides_the_golden_samples_with_room_to_spare():
    model, golden = precision_models.prepared(ARCHITECTURE)
    ordered = np.sort(golden.logits, axis=1)
    assert (golden.logits.argmax(axis=1) == golden.labels).mean() > 0.9
    assert np.median(ordered[:, -1] - ordered[:, -2]) > 1
    assert np.abs(golden.logits).max() < 100
    assert not model.training


def test_the_checkpoint_given_comes_first_and_the_model_in_the_box_second(tmp_path):
    given = precision_models.subject_of(ARCHITECTURE, {ARCHITECTURE: tmp_path / "best.pt"}, tmp_path)
    assert (given.checkpoint, given.golden.name, given.weights) == (tmp_path / "best.pt", "best.golden.npz", "trained")
    boxed = precision_models.subject_of("aligned_comparison", {}, tmp_path)
    assert boxed.checkpoint.name == "default.pt"
    assert boxed.golden.is_file()
