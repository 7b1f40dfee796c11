"""Judging an artifact that passed the parity gate where it was made by a few golden samples, on another machine.

Of so few samples one that is decided otherwise would be more than the share that a precision is allowed. So a decision
may differ where PyTorch itself was hardly sure.
"""

from __future__ import annotations

from collections.abc import Iterator

from cb_runtime.parity import ParityReport

FEW = 10
"""Golden samples that are run: two of each label."""


def problems_of_few(report: ParityReport) -> Iterator[str]:
    """Give what is wrong with a comparison of a few samples, as phrases; nothing where all is well."""
    allowed, difference = report.tolerances, report.max_abs_difference
    if not difference < float("inf"):
        yield "an answer is not a finite number"
    if allowed.max_abs_difference is not None and difference > allowed.max_abs_difference:
        yield f"logits differ by {difference:.3g}, allowed are {allowed.max_abs_difference:g}"
    if allowed.flip_margin is not None and report.flips and report.flips[0].margin > allowed.flip_margin:
        flip = report.flips[0]
        yield f"{flip.reference} became {flip.candidate}, where PyTorch was sure by {flip.margin:.3g}"
