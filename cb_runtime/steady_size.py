"""Batches of a size that stays: what a GPU is given is filled up to the size of what it was given before.

cuDNN plans every convolution anew whenever a batch has another size than the one before it. That takes as long as ten
batches and more: of the encoder of the model in the box on an H100, 40 ms where a batch of 256 takes 4
(`benchmarks/results/gpu/`). Filling up a batch that is smaller costs at most what a full one takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

PATIENCE = 16
"""Calls in a row that are no more than half as large, after which a smaller size is planned for."""

A = TypeVar("A")


class SteadySize:
    """The size that the calls of one graph are filled up to: the largest so far, until small ones come to stay."""

    def __init__(self) -> None:
        self._size = 0
        self._small: list[int] = []

    def of(self, rows: int) -> int:
        """Return the size for a call with so many rows: as many, or more."""
        self._small = [*self._small, rows] if 2 * rows <= self._size else []
        if len(self._small) == PATIENCE:
            self._size, self._small = max(self._small), []
        self._size = max(self._size, rows)
        return self._size

    def run(self, feeds: Mapping[str, NDArray[Any]], graph: Callable[[Mapping[str, NDArray[Any]]], A]) -> A:
        """Run a graph on batches that are filled up with copies of their last rows.

        Args:
            feeds: Inputs of a common batch size.
            graph: Gives something with a row for each row of its inputs, of which those that were asked for are kept.
        """
        rows = len(next(iter(feeds.values())))
        more = self.of(rows) - rows if rows else 0
        if not more:
            return graph(feeds)
        filled = {name: np.concatenate([of, np.repeat(of[-1:], more, axis=0)]) for name, of in feeds.items()}
        answer: Any = graph(filled)
        kept: A = answer[:rows]
        return kept
