"""Features that stay in the memory of the GPU that computed them, and are put together there for the classifier.

On the host they are `Row`s, and arrays of them NumPy arrays of objects: whoever cuts, joins or repeats batches of
features does the same with both kinds. A batch is let go when the last of its rows is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import DeviceArray
from cb_runtime.backends import Feeds
from cb_runtime.contract import BATCH_AXIS, INPUT_NAMES, TensorSpec
from cb_runtime.steady_size import SteadySize

ROWS = "object"
"""NumPy dtype of an array of `Row`s."""

Rows = NDArray[Any]
"""`Row`s `(batch,)`."""


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """One picture's features."""

    batch: DeviceArray
    """float32 `(batch, ...)`: the features of all pictures that were encoded with it."""
    place: int
    """Which of them are its own."""


def rows_of(batch: DeviceArray) -> Rows:
    """Return the rows of a batch of features."""
    rows = np.empty(len(batch), ROWS)
    rows[:] = [Row(batch, place) for place in range(len(batch))]
    return rows


class Gatherer(Protocol):
    """Copies features together that lie in the memory of a GPU."""

    def together(self, rows: Rows) -> DeviceArray:
        """Return the features of rows, float32 `(rows, ...)`, in their order. A row may be there more than once.

        Raises ModelError when the GPU fails, e.g. out of memory.
        """
        ...

    def on_host(self, features: DeviceArray) -> NDArray[np.float32]:
        """Return what `together` gave, in main memory: float32 of as many values."""
        ...


class KeepingPart(Protocol):
    """A graph on a GPU that takes what lies there, `DeviceArray`s, and can leave its answer there."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of its inputs."""
        ...

    @property
    def output(self) -> TensorSpec:
        """Spec of its only output."""
        ...

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Return the output, in main memory."""
        ...

    def kept(self, feeds: Feeds, into: DeviceArray | None = None) -> DeviceArray:
        """Return the output, in memory of the GPU's that is new, or `into` that was given."""
        ...


@dataclass(frozen=True)
class RowPicker:
    """Copies rows together, from wherever they lie in the GPU's memory, by a graph: a `Gatherer`."""

    graph: KeepingPart
    """Takes float32 `rows` `(rows, values)` and int64 `places` `(picked,)`; gives `picked_rows` `(picked, values)`."""

    def together(self, rows: Rows) -> DeviceArray:
        """Return the features of rows; see `Gatherer`."""
        shape = (len(rows), *rows[0].batch.shape[1:])
        batches = list({id(row.batch): row.batch for row in rows}.values())
        places = np.array([row.place for row in rows], np.int64)
        if len(batches) > 1:
            own = [np.flatnonzero([row.batch is batch for row in rows]) for batch in batches]
            batch = self._one_after_other(batches, [places[numbers] for numbers in own])
            places = np.argsort(np.concatenate(own))
        else:
            batch = batches[0]
        return replace(self._picked(batch, places), shape=shape)

    def on_host(self, features: DeviceArray) -> NDArray[np.float32]:
        """Return features in main memory."""
        values: NDArray[np.float32] = features.source.numpy()  # an `OrtValue`
        return values

    def _one_after_other(self, batches: list[DeviceArray], places: list[NDArray[np.int64]]) -> DeviceArray:
        """Return what is wanted of the first batch, then of the second, and so on."""
        count = sum(map(len, places))
        # Memory for all is had by picking as many of the first batch; the others then write over what is too much.
        gathered = self._picked(batches[0], np.resize(places[0], count))
        start = len(places[0])
        for batch, wanted in zip(batches[1:], places[1:], strict=True):
            self._picked(batch, wanted, gathered[start : start + len(wanted)])
            start += len(wanted)
        return gathered

    def _picked(self, batch: DeviceArray, places: NDArray[np.int64], into: DeviceArray | None = None) -> DeviceArray:
        flat = replace(batch, shape=(len(batch), prod(batch.shape[1:])))
        feeds: Any = {"rows": flat, "places": places}
        return self.graph.kept(feeds, into)


@dataclass(frozen=True)
class ResidentEncoder:
    """An encoder whose features stay where they are: a part of a staged model."""

    part: KeepingPart
    size: SteadySize = field(default_factory=SteadySize)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of its inputs."""
        return self.part.inputs

    @property
    def output(self) -> TensorSpec:
        """Spec of the rows."""
        return TensorSpec(self.part.output.name, ROWS, (BATCH_AXIS,))

    def run(self, feeds: Feeds) -> Rows:
        """Return a `Row` for each picture. Raises ModelError when the engine fails, e.g. out of memory."""
        return self.size.run(feeds, lambda filled: rows_of(self.part.kept(filled)))


@dataclass(frozen=True)
class ResidentClassifier:
    """A classifier that takes rows as features: a part of a staged model."""

    part: KeepingPart
    gatherer: Gatherer
    size: SteadySize = field(default_factory=SteadySize)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of its inputs: rows where the graph takes features, and a pair's vectors as they are."""
        return tuple(
            spec if spec.name in INPUT_NAMES else TensorSpec(spec.name, ROWS, (BATCH_AXIS,))
            for spec in self.part.inputs
        )

    @property
    def output(self) -> TensorSpec:
        """Spec of its only output."""
        return self.part.output

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Return logits, in main memory. Raises ModelError when the engine fails, e.g. out of memory."""

        def on_gpu(filled: Feeds) -> NDArray[np.float32]:
            return self.part.run({name: self._on_gpu(values) for name, values in filled.items()})

        return self.size.run(feeds, on_gpu)

    def _on_gpu(self, values: NDArray[Any]) -> Any:  # noqa: ANN401  (an array, there or here)
        return self.gatherer.together(values) if values.dtype == ROWS else values
