"""A package's answer to a few golden samples, looked at before it gives any other."""

from __future__ import annotations

from collections.abc import Mapping

from cb_runtime.errors import ParityError
from cb_runtime.few_samples import FEW, problems_of_few
from cb_runtime.golden import GoldenSamples
from cb_runtime.parity import Runs, compare


def check_answers(name: str, graphs: Mapping[str, Runs], golden: GoldenSamples, precision: str) -> int:
    """Run a few golden samples through each graph of an artifact; return how many.

    Args:
        name: The package, for the error.
        graphs: The graphs by what to call them.
        golden: The package's samples; `FEW` of them are run.
        precision: What the graphs compute in.

    Raises:
        ParityError: One does not answer as PyTorch did, on this machine.
    """
    few = golden.sample(FEW)
    for title, graph in graphs.items():
        report = compare(few.logits, graph.run(few.inputs), few.labels, precision)
        for problem in problems_of_few(report):
            raise ParityError(
                f"{name} does not answer here as PyTorch did: {problem} ({title}, {len(few)} golden samples). Its "
                "bytes are right, so this machine's engine computes them wrongly: update it or choose another "
                "--device. `cb doctor` shows what is installed."
            )
    return len(few)
