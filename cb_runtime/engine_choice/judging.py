"""Does a way of running an artifact answer as PyTorch did, or, where no golden samples are, as the plain one does?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cb_runtime.backends import Executor, Feeds, Logits
from cb_runtime.contract import ModelMetadata
from cb_runtime.engine_choice.workload import CPU_BATCH, stages_of
from cb_runtime.errors import ModelError
from cb_runtime.few_samples import FEW, problems_of_few
from cb_runtime.golden import UNLABELLED, GoldenSamples
from cb_runtime.measuring.random_inputs import random_inputs
from cb_runtime.parity import Runs, compare


class Judge:
    """Compares answers with golden samples; where there are none, with those of the first way that it is shown.

    In the artifact's own precision, which passed the parity gate, a few samples tell whether an engine computes wrongly
    here. A lower one has to pass that gate's thresholds on all of them.

    Args:
        golden: Samples with PyTorch's logits.
        metadata: The artifact's contract.
    """

    def __init__(self, golden: GoldenSamples | None, metadata: ModelMetadata) -> None:
        self._golden, self._own = golden, metadata.precision
        self._first: GoldenSamples | None = None
        self.inputs: Feeds = random_inputs(metadata, CPU_BATCH) if golden is None else golden.inputs

    def problem(self, executor: Executor) -> str | None:
        """Return why a way's answers, of the whole graph or in stages, cannot be accepted; None when they can."""
        precision = str(executor.describe()["precision"])
        lower = precision != self._own
        if lower and self._golden is None:
            return f"{precision} on an artifact in {self._own} has to be proven, and it has no golden samples"
        try:
            samples = self._samples(executor, whole=lower)
            for title, graph in _graphs(executor):
                report = compare(samples.logits, _answers(graph, samples.inputs), samples.labels, precision)
                found = report.failures if lower else tuple(problems_of_few(report))
                if found:
                    return f"{title} does not answer as {self._reference}: {'; '.join(found)}"
        except ModelError as error:
            return str(error)
        return None

    @property
    def _reference(self) -> str:
        return "the plain engine" if self._golden is None else "PyTorch did"

    def _samples(self, executor: Executor, *, whole: bool) -> GoldenSamples:
        if self._golden is not None:
            return self._golden if whole else self._golden.sample(FEW)
        if self._first is None:
            labels = np.full(CPU_BATCH, UNLABELLED, np.int64)
            self._first = GoldenSamples(self.inputs, executor.run(self.inputs), labels)
        return self._first


def _graphs(executor: Executor) -> Iterator[tuple[str, Runs]]:
    yield "it", executor
    stages = stages_of(executor)
    if stages is not None:
        yield "its staged graph", stages


def _answers(graph: Runs, inputs: Feeds) -> Logits:
    starts = range(0, len(inputs["frame1"]), CPU_BATCH)
    return np.concatenate(
        [graph.run({name: values[at : at + CPU_BATCH] for name, values in inputs.items()}) for at in starts]
    )
