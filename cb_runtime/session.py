"""A model opened on a device: checks what it is fed, says what it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Executor, Feeds, Logits, OpenOptions, backend_for, device_from_text
from cb_runtime.contract import LABELS, ModelMetadata
from cb_runtime.errors import ContractError, ModelError, UsageError


class Session:
    """A model ready to run; made by `open_session`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @property
    def metadata(self) -> ModelMetadata:
        """The contract of the model."""
        return self._executor.metadata

    @property
    def device(self) -> str:
        """Where it runs: `cpu` or `cuda:N`."""
        return str(self.describe()["device"])

    def describe(self) -> dict[str, Any]:
        """Return `backend`, `device`, `reason` (why this device) and the engine's own details, as JSON types."""
        return self._executor.describe()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Logits:
        """Return logits, float32 `(batch, 5)`.

        Args:
            inputs: The five inputs in graph form, see `metadata.inputs`: uint8 pictures `(batch, 48, 480, 3)`,
                float32 `spatial_features` `(batch, 6)` and `font_embedding` `(batch, 512)`. An empty batch gives an
                empty answer.

        Raises:
            ContractError: A missing or unknown input, a wrong dtype or shape, different batch sizes, or a model
                that does not answer with one row of logits per pair.
        """
        batch = self.checked_batch(inputs)
        if batch == 0:
            return np.zeros((0, len(LABELS)), np.float32)
        logits = self._executor.run(inputs)
        if logits.shape != (batch, len(LABELS)) or logits.dtype != np.float32:
            raise ContractError(
                f"The model must answer with float32 ({batch}, {len(LABELS)}), got {logits.dtype} {logits.shape}. "
                "Export it again."
            )
        return logits

    def probabilities(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return label probabilities, float32 `(batch, 5)`; each row sums to 1. Takes and raises what `run` does."""
        return softmax(self.run(inputs))

    def checked_batch(self, inputs: Feeds) -> int:
        """Return the batch size of inputs that the model takes. Raises ContractError for what it does not take."""
        if not isinstance(inputs, Mapping):
            raise ContractError(f"Inputs must be a mapping of names to NumPy arrays, got {type(inputs).__name__}.")
        specs = self.metadata.inputs
        names = [spec.name for spec in specs]
        if set(names) != inputs.keys():
            raise ContractError(f"The model takes inputs {', '.join(names)}, got {', '.join(inputs) or 'none'}.")
        for spec in specs:
            array = inputs[spec.name]
            if not isinstance(array, np.ndarray):
                raise ContractError(f"Input '{spec.name}' must be a NumPy array, got {type(array).__name__}.")
            problem = spec.mismatch(array.dtype.name, array.shape)
            if problem:
                raise ContractError(problem)
        batches = {name: len(inputs[name]) for name in names}
        if len(set(batches.values())) != 1:
            raise ContractError(f"All inputs must have one batch size, got {batches}.")
        return batches[names[0]]


def open_session(
    path: str | Path, *, device: str = "auto", threads: int | None = None, plugins: Sequence[str | Path] = ()
) -> Session:
    """Open a model file with the backend for its kind.

    Args:
        path: An artifact (`.onnx`), or a checkpoint (`.pt`) where PyTorch is installed.
        device: `auto`, `cpu`, `cuda` or `cuda:N`. Only `auto` chooses, and `describe()["reason"]` says why.
        threads: CPU threads for arithmetic; None lets the engine choose.
        plugins: Python files that register architectures, for checkpoints of architectures that cb does not bring.

    Raises:
        ModelError: The file is missing, of no known kind, damaged, or cannot be run as asked.
        ContractError: It was not exported by cb, or does not fit its own metadata.
        UsageError: An unknown device, or less than one thread.
        MissingPackageError: The engine for this kind of file is not installed.
    """
    file = Path(path)
    device_from_text(device)
    if threads is not None and threads < 1:
        raise UsageError(f"Threads must be 1 or more, got {threads}.")
    _, backend = backend_for(file)
    if not file.is_file():
        raise ModelError(f"Model {file} does not exist.")
    return Session(backend.open_artifact(file, OpenOptions(device, threads, tuple(map(str, plugins)))))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities along the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result
