"""Every architecture in every precision: does it export, how large, how fast to build, how near to PyTorch?

    python benchmarks/precisions.py --output benchmarks/results/precisions.json

Runs `cb export` once for each row, in a process of its own, and writes a JSON file and a Markdown table beside it after
each. A run that was stopped goes on where it was with the same command; rows that are there are not made again (delete
the file to begin anew). Weights are those of `precision_models.py`: the model in the box, checkpoints given with
`--checkpoint NAME=FILE`, else prepared ones that learnt next to nothing. What a row says of agreement is how exactly
the artifact repeats PyTorch, never how good the model is. `--judge NAME=DATASET.db` judges an architecture on pairs of
a dataset too, as `cb export --judge` does: for models that were trained on such.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from precision_models import Subject, by_architecture, subject_of

from cb_core.registry import list_architectures
from cb_runtime import parity
from cb_runtime.files import atomic_path, sha256_of_file
from cb_runtime.golden import golden_path
from cb_runtime.inspection import layers_of
from cb_runtime.models import default_model_path
from cb_runtime.trt.sidecar import read_sidecar

EXPORT = [sys.executable, "-c", "from cb_runtime.cli import main; main()", "export"]
VARIANTS = {
    **{f"onnx {precision}": ("onnx", precision) for precision in ("fp32", "fp16", "int8")},
    **{f"trt-rtx {precision}": ("trt", precision) for precision in ("fp32", "fp16", "bf16", "int8")},
}
"""What is exported of each architecture: name to format and precision."""

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt-rtx")
BATCHES = ",".join(map(str, parity.BATCHES))
KILLED = -9
LONGEST_REASON = 300


@dataclass(frozen=True)
class Row:
    """What came of one export."""

    architecture: str
    variant: str
    weights: str
    """How the weights came about."""
    outcome: str
    """`passed` the gate, `failed` it (published all the same, to be measured), or `refused`: nothing was written."""
    reason: str | None
    """Why it was refused, or why the artifact itself could not be run."""
    command_seconds: float
    """The whole command: start of Python, merging, tracing, building, comparing."""
    build_seconds: float | None = None
    """What TensorRT said its build took; None for ONNX."""
    size: int | None = None
    """Bytes."""
    layers: Mapping[str, float] | None = None
    """Share of layers with weights by the type they compute in."""
    compared: str | None = None
    """What was compared with PyTorch: the artifact, or what it was built from where it cannot run here."""
    samples: int | None = None
    agreement: float | None = None
    """Share of golden samples decided as PyTorch in float32 does."""
    max_difference: float | None = None
    """Largest absolute logit difference; None when a logit is not finite."""
    macro_f1_loss: float | None = None
    """Points."""
    problems: list[str] = field(default_factory=list)
    """Tolerances of the gate that were broken."""


def export_row(
    architecture: str,
    variant: str,
    subject: Subject,
    folder: Path,
    timeout: float,
    batches: str = BATCHES,
    judge: Path | None = None,
) -> Row:
    """Export one variant of a checkpoint and return what came of it."""
    format_name, precision = VARIANTS[variant]
    artifact = folder / f"artifact{'.onnx' if format_name == 'onnx' else '.engine'}"
    command = [*EXPORT, "--checkpoint", str(subject.checkpoint), "--golden", str(subject.golden)]
    command += ["--format", format_name, "--output", str(artifact), "--allow-parity-failure", "--json"]
    command += ["--batches", batches, *([] if judge is None else ["--judge", str(judge)])]
    # fp32 is the default, so that the table can be made where no other precision is offered.
    command += ["--precision", precision] if precision != "fp32" else []
    command += ["--no-staged", *([] if format_name == "onnx" else ["--flavor", "rtx", "--unverified"])]
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return Row(architecture, variant, subject.weights, "refused", f"not done after {timeout:g} s", timeout)
    seconds = round(time.perf_counter() - started, 1)
    if done.returncode:
        reason = refusal(done.returncode, done.stdout, done.stderr)
        return Row(architecture, variant, subject.weights, "refused", reason, seconds)
    return measured_row(architecture, variant, subject.weights, artifact, json.loads(done.stdout), seconds)


def refusal(code: int, stdout: str, stderr: str) -> str:
    """Return why an export ended without an artifact, in a line."""
    if code == KILLED:
        return "killed: memory ran out"
    try:
        message = json.loads(stdout)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        lines = stderr.strip().splitlines()
        message = lines[-1] if lines else "no message"
    line = " ".join(message.split())
    return f"exit code {code}: {line[:LONGEST_REASON]}{'...' if len(line) > LONGEST_REASON else ''}"


def measured_row(
    architecture: str, variant: str, weights: str, artifact: Path, document: Mapping[str, Any], seconds: float
) -> Row:
    """Return the row of an artifact that was written, given what `cb export --json` said."""
    compared, gate, reason = judged(document["parity"])
    golden = gate["golden"] if gate else {}
    (types,) = layers_of(artifact).values()
    return Row(
        architecture,
        variant,
        weights,
        outcome="not compared" if gate is None else "passed" if gate["ok"] else "failed",
        reason=reason,
        command_seconds=seconds,
        build_seconds=None if artifact.suffix == ".onnx" else read_sidecar(artifact).build["seconds"],
        size=artifact.stat().st_size,
        layers={name: share["layer_share"] for name, share in types.items()},
        compared=compared,
        samples=golden.get("samples"),
        agreement=golden.get("argmax_agreement"),
        max_difference=golden.get("max_abs_difference"),
        macro_f1_loss=golden.get("macro_f1_loss"),
        problems=problems_of(gate) if gate else [],
    )


def problems_of(gate: Mapping[str, Any]) -> list[str]:
    """Return the tolerances that a gate found broken, on golden samples, on probes and beyond."""
    probes = [f"Probes: {failure}" for failure in gate["probes"]["failures"]]
    return [*gate["golden"]["failures"], *probes, *gate["failures"]]


def judged(parity: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None, str | None]:
    """Return what was compared with PyTorch, how it fared, and why it was not the artifact itself."""
    if parity["ok"] is not None:
        return "artifact", parity, None
    for name, title in (("onnx", "ONNX it is built from"), ("network", "its network, in PyTorch")):
        outcome = parity.get(name)
        if outcome and outcome["ok"] is not None:
            return title, outcome, parity["reason"]
    return "nothing", None, f"{parity['reason']}; ONNX: {parity['onnx']['reason']}"


def conditions(batches: str = BATCHES) -> dict[str, Any]:
    """Return what rows of one file have in common."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "batches": batches,
        "golden_sha256": sha256_of_file(golden_path(default_model_path())),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def rows_so_far(output: Path, now: Mapping[str, Any]) -> list[Row]:
    """Return the rows of an earlier run. Ends the program when they were made under other conditions."""
    if not output.is_file():
        return []
    document = json.loads(output.read_text(encoding="utf-8"))
    if document["conditions"] != now:
        raise SystemExit(
            f"{output} was made under other conditions ({document['conditions']}, now {now}), and rows of both would "
            "not compare. Delete it, or choose another --output."
        )
    return [Row(**row) for row in document["rows"]]


def save(output: Path, now: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write the JSON file and the Markdown table beside it."""
    document = {"command": "python benchmarks/precisions.py", "conditions": now, "rows": [asdict(row) for row in rows]}
    for path, text in ((output, json.dumps(document, indent=1)), (output.with_suffix(".md"), markdown(rows))):
        with atomic_path(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """Return the table."""
    heading = (
        "architecture | artifact | gate | MiB | s | build s | layers | compared | decided alike | largest difference"
    )
    lines = [f"| {heading} |", "|" + " --- |" * (heading.count("|") + 1)]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    refused = [f"- `{row.architecture}`, {row.variant}: {row.reason}" for row in rows if row.outcome == "refused"]
    failed = [f"- `{row.architecture}`, {row.variant}: {' '.join(row.problems)}" for row in rows if row.problems]
    weights = [f"- `{name}`: {kind}" for name, kind in dict.fromkeys((row.architecture, row.weights) for row in rows)]
    lists = {"Weights": weights, "Failed the gate": failed, "Refused": refused}
    return "\n\n".join(["\n".join(lines), *(f"{name}:\n\n{_lines(items)}" for name, items in lists.items() if items)])


def _lines(items: Sequence[str]) -> str:
    return "\n".join(items)


def _cells(row: Row) -> list[str]:
    layers = ", ".join(f"{share:.0%} {name}" for name, share in (row.layers or {}).items())
    return [
        f"`{row.architecture}`",
        row.variant,
        row.outcome,
        "-" if row.size is None else f"{row.size / 2**20:.1f}",
        f"{row.command_seconds:.0f}",
        "-" if row.build_seconds is None else f"{row.build_seconds:.1f}",
        layers or "-",
        row.compared or "-",
        "-" if row.agreement is None else f"{row.agreement:.2%} of {row.samples}",
        "-" if row.compared is None else "not finite" if row.max_difference is None else f"{row.max_difference:.2g}",
    ]


def missing_variants(
    rows: Sequence[Row], architectures: Sequence[str], variants: Sequence[str]
) -> dict[str, list[str]]:
    """Return which rows are still to be made: architecture to variants, without architectures that are complete."""
    there = {(row.architecture, row.variant) for row in rows}
    missing = {name: [one for one in variants if (name, one) not in there] for name in architectures}
    return {name: left for name, left in missing.items() if left}


def progress(done: int, total: int, seconds: float) -> str:
    """Return how far a run is and how long the rest takes, if it goes on as it went so far."""
    left = timedelta(seconds=round(seconds / done * (total - done)))
    return f"{done} of {total}, {left} left"


def main() -> None:
    """Parse arguments, export what is missing, write both files after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file; the table goes beside it as .md")
    parser.add_argument("--architectures", nargs="+", default=list_architectures(), help="registered names")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="what to export")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE", help="trained weights")
    parser.add_argument("--judge", action="append", default=[], metavar="NAME=FILE", help="dataset to judge on too")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds that one export may take")
    parser.add_argument("--batches", default=BATCHES, help="batch sizes of the gate, e.g. 1,16; fewer take less time")
    arguments = parser.parse_args()
    given, judges = (by_architecture(texts) for texts in (arguments.checkpoint, arguments.judge))
    now = conditions(arguments.batches)
    rows = rows_so_far(arguments.output, now)
    missing = missing_variants(rows, arguments.architectures, arguments.variants)
    total, done, started = sum(map(len, missing.values())), 0, time.monotonic()
    for architecture, variants in missing.items():
        with tempfile.TemporaryDirectory() as folder:
            subject = subject_of(architecture, given, Path(folder))
            for variant in variants:
                place = Path(folder) / variant.replace(" ", "-")
                how = (arguments.timeout, arguments.batches, judges.get(architecture))
                rows.append(export_row(architecture, variant, subject, place, *how))
                save(arguments.output, now, rows)
                done += 1
                print(
                    f"{progress(done, total, time.monotonic() - started)} | {' | '.join(_cells(rows[-1]))}", flush=True
                )


if __name__ == "__main__":
    main()
