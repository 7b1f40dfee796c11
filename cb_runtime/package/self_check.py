"""A package's answer to a few golden samples, looked at before it gives any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cb_runtime.errors import ParityError
from cb_runtime.golden import GoldenSamples
from cb_runtime.parity import ParityReport, Runs, compare

SAMPLES = 10
"""Golden samples that are run: two of each label."""


def check_answers(name: str, graphs: Mapping[str, Runs], golden: GoldenSamples) -> int:
    """Run a few golden samples through each graph of an artifact; return how many.

    A decision may differ where PyTorch itself was hardly sure: of so few samples one would be more than the share that
    a precision is allowed.

    Args:
        name: The package, for the error.
        graphs: The graphs by what to call them.
        golden: The package's samples; `SAMPLES` of them are run.

    Raises:
        ParityError: One does not answer as PyTorch did, on this machine.
    """
    few = golden.sample(SAMPLES)
    for title, graph in graphs.items():
        report = compare(few.logits, graph.run(few.inputs), few.labels, graph.metadata.precision)
        for problem in _problems(report):
            raise ParityError(
                f"{name} does not answer here as PyTorch did: {problem} ({title}, {len(few)} golden samples). Its "
                "bytes are right, so this machine's engine computes them wrongly: update it or choose another "
                "--device. `cb doctor` shows what is installed."
            )
    return len(few)


def _problems(report: ParityReport) -> Iterator[str]:
    allowed, difference = report.tolerances, report.max_abs_difference
    if not difference < float("inf"):
        yield "an answer is not a finite number"
    if allowed.max_abs_difference is not None and difference > allowed.max_abs_difference:
        yield f"logits differ by {difference:.3g}, allowed are {allowed.max_abs_difference:g}"
    if allowed.flip_margin is not None and report.flips and report.flips[0].margin > allowed.flip_margin:
        flip = report.flips[0]
        yield f"{flip.reference} became {flip.candidate}, where PyTorch was sure by {flip.margin:.3g}"
