"""What a comparison with PyTorch has run: the evidence behind a `ParityReport`, for those who want to see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Logits


@dataclass(frozen=True)
class ParityRun:
    """Some golden samples, run through an artifact at one batch size."""

    batch: int
    """Samples that ran together."""
    samples: NDArray[np.intp]
    """Indices `(n,)` of the golden samples in the order in which they ran: the i-th stood at place `i % batch`."""
    logits: Logits
    """float32 `(n, 5)`: the artifact's answers, in the same order."""

    @property
    def places(self) -> NDArray[np.intp]:
        """Place `(n,)` of every sample in its batch, from 0."""
        return np.arange(len(self.samples)) % self.batch


OnRun = Callable[[ParityRun], object]
"""Told of every run of a comparison."""


def ignore_run(run: ParityRun) -> None:
    """Do nothing: for callers who do not look at single runs."""
