"""A model opened on a device: checks what it is fed, says what it runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import feeds_from_inputs
from cb_runtime.backends import Executor, Feeds, Logits, OpenOptions, backend_for, device_from_text
from cb_runtime.contract import OUTPUT_SPECS, ModelMetadata
from cb_runtime.engine_choice import Choice, open_fastest
from cb_runtime.errors import ModelError, UsageError
from cb_runtime.feeds import checked_answer, checked_batch, no_answer
from cb_runtime.files import is_file
from cb_runtime.parity import TOLERANCES
from cb_runtime.stages import Stages

PACKAGE = ".cbx"
"""How the file name of a package ends."""


class Session:
    """A model ready to run; made by `open_session`."""

    def __init__(self, executor: Executor, choice: Choice | None = None) -> None:
        self._executor, self._choice = executor, choice

    @property
    def metadata(self) -> ModelMetadata:
        """The contract of the model."""
        return self._executor.metadata

    @property
    def device(self) -> str:
        """Where it runs: `cpu` or `cuda:N`."""
        return str(self.describe()["device"])

    @property
    def stages(self) -> Stages | None:
        """The model in two steps, for scoring videos; None when it has none or was opened without."""
        stages: Stages | None = getattr(self._executor, "stages", None)
        return stages

    def over(self, change: Callable[[Executor], Executor]) -> Session:
        """Return a session that runs what `change` makes of this one's executor."""
        return Session(change(self._executor), self._choice)

    def describe(self) -> dict[str, Any]:
        """Return `backend`, `device`, `reason` (why this device) and the engine's own details, as JSON types.

        `features_reused` says whether a video's frames are encoded once each, by the staged graph; `features_stay`
        whether what is made of them stays on the GPU; `engine_choice` what was measured of this and other engines, None
        where nothing was to choose.
        """
        engine = {**self._executor.describe()}
        chosen = {"engine_choice": None if self._choice is None else self._choice.to_dict()}
        if self._choice is not None:
            engine["reason"] = f"{self._choice}; {engine['reason']}"
        reuse = {
            "features_reused": self.stages is not None,
            "features_stay": bool(self.stages and self.stages.resident),
        }
        return {**engine, **reuse, **chosen}

    def run(self, inputs: Mapping[str, Any]) -> Logits:
        """Return logits, float32 `(batch, 5)`.

        Args:
            inputs: The five inputs in graph form, see `metadata.inputs`: uint8 pictures `(batch, 48, 480, 3)`,
                float32 `spatial_features` `(batch, 6)` and `font_embedding` `(batch, 512)`. NumPy arrays, or arrays of
                other libraries that offer DLPack; an engine also takes those in the memory of its GPU, without a copy
                through the host. An empty batch gives an empty answer.

        Raises:
            ContractError: A missing or unknown input, a wrong dtype or shape, different batch sizes, an array that
                lies where the model cannot take it from, or a model that does not answer with one row of logits per
                pair.
            MissingPackageError: `cuda-core` is not installed, and an array lies in a GPU's memory.
        """
        feeds = self.feeds(inputs)
        batch = self.checked_batch(feeds)
        if batch == 0:
            return no_answer(OUTPUT_SPECS[0])
        return checked_answer(self._executor.run(feeds), OUTPUT_SPECS[0], batch)

    def feeds(self, inputs: Mapping[str, Any]) -> Feeds:
        """Return inputs as the model takes them, so that they can be checked and cut into batches.

        NumPy arrays are left as they are, others are taken through DLPack without a copy. Raises ContractError and
        MissingPackageError as `run` does.
        """
        on_gpu = bool(getattr(self._executor, "takes_device_arrays", False))
        feeds: Feeds = feeds_from_inputs(inputs, on_gpu=on_gpu)
        return feeds

    def probabilities(self, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return label probabilities, float32 `(batch, 5)`; each row sums to 1. Takes and raises what `run` does."""
        return softmax(self.run(inputs))

    def checked_batch(self, inputs: Feeds) -> int:
        """Return the batch size of what `feeds` gave. Raises ContractError for what the model does not take."""
        return checked_batch(self.metadata.inputs, inputs)


def open_session(
    path: str | Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    streams: int | None = None,
    measure: bool = True,
    plugins: Sequence[str | Path] = (),
    reuse: bool = True,
    public_key: str | Path | None = None,
) -> Session:
    """Open a model file with the backend for its kind.

    Args:
        path: An artifact (`.onnx`, `.engine`), a package (`.cbx`), or a checkpoint (`.pt`) where PyTorch is installed.
        device: `auto`, `cpu`, `cuda` or `cuda:N`. Only `auto` chooses, and `describe()["reason"]` says why.
        backend: `auto`, or the engine that runs an ONNX file, by itself or in a package: `onnxruntime` or `openvino`.
        precision: `auto`, or the arithmetic: the artifact's own, or bf16 for a float32 one where OpenVINO's CPU has it.
        threads: CPU threads for arithmetic; None lets the engine choose.
        streams: How many batches, or pieces of one, OpenVINO computes at once; None: one, or as was measured.
        measure: Take the fastest way to run an ONNX file that agrees with its golden samples, where backend, precision
            or streams leave several. It is measured at first use, which takes a few seconds, and kept for later ones.
            False takes the plain way: ONNX Runtime, the file's own precision.
        plugins: Python files that register architectures, for checkpoints of architectures that cb does not bring.
        reuse: Open the staged graph that stands beside an artifact too, e.g. `best.staged`; see `Session.stages`.
        public_key: PEM file of the ed25519 key that must have signed a package.

    Raises:
        ModelError: The file is missing, of no known kind, damaged, or cannot be run as asked.
        ContractError: It was not exported by cb, or does not fit its own metadata, or the staged graph beside it is
            another artifact's.
        ParityError: A package does not answer on this machine as PyTorch did.
        UsageError: An unknown device or backend, less than one thread or stream, a backend that does not open the file,
            a precision or streams that it cannot be opened with, or a public key for what is no package.
        MissingPackageError: The engine for this kind of file is not installed.
    """
    file = Path(path)
    device_from_text(device)
    for name, number in (("Threads", threads), ("Streams", streams)):
        if number is not None and number < 1:
            raise UsageError(f"{name} must be 1 or more, got {number}.")
    if precision != "auto" and precision not in TOLERANCES:
        raise UsageError(f"Unknown precision {precision!r}. Choose auto, {', '.join(TOLERANCES)}.")
    packed = file.suffix.lower() == PACKAGE
    _, plain = backend_for(file, "auto" if packed else backend)
    if not is_file(file):
        raise ModelError(f"Model {file} does not exist.")
    if public_key is not None and not packed:
        raise UsageError(f"A public key is for packages ({PACKAGE}): {file.name} has no signature to check.")
    options = OpenOptions(device, threads, tuple(map(str, plugins)), reuse, public_key, precision, streams, backend)
    measured = measure and not packed
    session = Session(*open_fastest(file, options)) if measured else Session(plain.open_artifact(file, options))
    _check_obeyed(file, session.describe(), options)
    return session


def _check_obeyed(file: Path, ran: Mapping[str, Any], options: OpenOptions) -> None:
    """Raise UsageError when a model was opened in another way than it was asked for."""
    if options.precision not in ("auto", ran["precision"]):
        raise UsageError(
            f"--precision {options.precision} cannot be had of {file.name} by {ran['backend']}, which runs it in "
            f"{ran['precision']}. Export it in that precision, or leave --precision out."
        )
    if options.streams not in (None, ran.get("streams")):
        raise UsageError(
            f"--streams is for OpenVINO: {ran['backend']} has none. Use --backend openvino, or leave it out."
        )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities along the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result
