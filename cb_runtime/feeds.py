"""Checks of the arrays that go into a graph and come out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import DeviceArray
from cb_runtime.contract import TensorSpec
from cb_runtime.errors import ContractError


def checked_batch(specs: Sequence[TensorSpec], inputs: Mapping[str, NDArray[Any]]) -> int:
    """Return the batch size of inputs that fit their specs. Raises ContractError for those that do not."""
    if not isinstance(inputs, Mapping):
        raise ContractError(f"Inputs must be a mapping of names to NumPy arrays, got {type(inputs).__name__}.")
    names = [spec.name for spec in specs]
    if set(names) != inputs.keys():
        raise ContractError(f"The model takes inputs {', '.join(names)}, got {', '.join(inputs) or 'none'}.")
    for spec in specs:
        array = inputs[spec.name]
        if not isinstance(array, np.ndarray | DeviceArray):
            raise ContractError(f"Input '{spec.name}' must be a NumPy array, got {type(array).__name__}.")
        problem = spec.mismatch(array.dtype.name, array.shape)
        if problem:
            raise ContractError(problem)
    batches = {name: len(inputs[name]) for name in names}
    if len(set(batches.values())) != 1:
        raise ContractError(f"All inputs must have one batch size, got {batches}.")
    return batches[names[0]]


def checked_answer(answer: NDArray[Any], spec: TensorSpec, batch: int) -> NDArray[np.float32]:
    """Return an answer that is one row per input. Raises ContractError for another dtype or shape."""
    wanted = (batch, *row_shape(spec))
    if answer.shape != wanted or answer.dtype != spec.dtype:
        raise ContractError(
            f"The model must answer with {spec.dtype} {wanted}, got {answer.dtype} {answer.shape}. Export it again."
        )
    return answer


def no_answer(spec: TensorSpec) -> NDArray[np.float32]:
    """Return the answer to an empty batch."""
    return np.zeros((0, *row_shape(spec)), spec.dtype)


def row_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of one row: all axes that are not symbolic."""
    return tuple(axis for axis in spec.shape if isinstance(axis, int))
