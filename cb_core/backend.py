"""The backend for checkpoints (`.pt`): runs a trained model as it is, in float32 PyTorch.

Found by `cb_runtime` through the entry point `cb.backends`, so that the leaf stays free of torch; torch itself is
imported when a checkpoint is first opened.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Availability, OpenOptions, device_from_text
from cb_runtime.contract import INPUT_NAMES, ModelMetadata
from cb_runtime.errors import ModelError, require

if TYPE_CHECKING:
    import torch

    from cb_core.deployment import DeploymentModel

SUFFIXES = (".pt",)
"""File name endings this backend opens."""


def available() -> Availability:
    """Tell whether torch is installed, and which devices it sees."""
    if importlib.util.find_spec("torch") is None:
        return Availability(False, "torch is not installed", "pip install 'cb-toolkit[train]'")
    torch = require("torch")
    devices = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return Availability(True, f"torch {torch.__version__}, devices: {', '.join(['cpu', *devices])}")


def open_artifact(path: Path, options: OpenOptions) -> TorchExecutor:
    """Open a checkpoint on a device.

    Raises:
        ModelError: A file that is no whole checkpoint, an unknown architecture, or a device this machine lacks.
        MissingPackageError: torch is not installed.
    """
    torch = require("torch")
    from cb_core.checkpoint import load_checkpoint, model_from_checkpoint
    from cb_core.deployment import DeploymentModel
    from cb_core.registry import load_plugin
    from cb_runtime.files import sha256_of_file

    for plugin in options.plugins:
        load_plugin(plugin)
    device, reason = _device(options.device)
    checkpoint = load_checkpoint(path)
    metadata = checkpoint.metadata.replace(checkpoint_sha256=sha256_of_file(path))
    model = DeploymentModel(model_from_checkpoint(checkpoint), metadata.preprocessing).eval().to(device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return TorchExecutor(metadata, model, device, reason)


def _device(wanted: str) -> tuple[torch.device, str]:
    torch = require("torch")
    asked = device_from_text(wanted)
    count = torch.cuda.device_count()
    if asked.kind == "cuda" and asked.index >= count:
        raise ModelError(
            f"Device {asked} was asked for, but torch {torch.__version__} sees {count} CUDA devices here. "
            "Use --device cpu, or install a torch that fits the GPU driver."
        )
    if asked.kind != "auto":
        return torch.device(str(asked)), "as asked"
    return (torch.device("cuda:0"), "torch sees a GPU") if count else (torch.device("cpu"), "torch sees no GPU")


@dataclass(frozen=True)
class TorchExecutor:
    """A checkpoint's model on a device."""

    metadata: ModelMetadata
    """The checkpoint's contract, with the file's digest."""
    model: DeploymentModel
    device: torch.device
    reason: str
    """Why this device."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return float32 logits `(batch, 5)`. Raises ModelError when the device's memory is too small for the batch."""
        torch = require("torch")
        # torch refuses to share memory with read-only arrays quietly, so those are copied.
        arrays = [np.require(feeds[name], requirements=["C", "W"]) for name in INPUT_NAMES]
        try:
            with torch.inference_mode(), full_float32():
                logits = self.model(*(torch.from_numpy(array).to(self.device) for array in arrays))
            result: NDArray[np.float32] = logits.cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"PyTorch ran out of memory on {self.device} at batch {len(arrays[0])}: "
                f"{str(error).partition('. ')[0]}. Use a smaller --batch, or --device cpu."
            ) from error
        return result

    def describe(self) -> dict[str, Any]:
        """Return backend, device, why this device, and torch's version and threads."""
        torch = require("torch")
        return {
            "backend": "torch",
            "device": str(self.device),
            "reason": self.reason,
            "precision": "fp32",
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }


def full_float32() -> Any:  # noqa: ANN401  (a context manager of torch)
    """Return a context in which convolutions use float32 arithmetic on a GPU too, not TF32."""
    torch = require("torch")
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False)
