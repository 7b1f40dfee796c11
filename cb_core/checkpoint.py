"""Checkpoints: one file with a model's weights, how it was trained and the contract it obeys.

Only tensors and plain types are stored, so that every checkpoint loads with `weights_only=True`: nothing in a file is
ever executed, whoever it came from.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cb_core.registry import create_model_for_weights
from cb_runtime.contract import ModelMetadata, metadata_from_dict
from cb_runtime.errors import ContractError, ModelError
from cb_runtime.files import atomic_path

KEYS = ("epoch", "model_state_dict", "optimizer_state_dict", "config", "metrics", "metadata")
"""What every checkpoint holds; `training_state`, which only `--resume` needs, may stand beside them."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read from a file."""

    epoch: int
    """Epochs done when it was written."""
    model_state_dict: dict[str, Tensor]
    """Weights of the architecture, on the CPU."""
    optimizer_state_dict: dict[str, Any] | None
    config: dict[str, Any]
    """`architecture_name`, `model_config`, `transform_strategy`, `ocr_viz_variant` and `use_font_embedding`."""
    metrics: dict[str, Any]
    """Validation metrics of that epoch, plain types."""
    metadata: ModelMetadata
    training_state: dict[str, Any] | None = None
    """What `cb train --resume` needs beyond weights and optimizer; None when training cannot go on from this file."""


def save_checkpoint(
    path: str | Path,
    *,
    epoch: int,
    model: nn.Module,
    metadata: ModelMetadata,
    metrics: Mapping[str, Any] | None = None,
    optimizer_state_dict: Mapping[str, Any] | None = None,
    training_state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint in one step: `path` holds either the old file or the whole new one.

    Args:
        path: Where to write; the folder is created.
        epoch: Epochs done.
        model: The architecture itself, not wrapped.
        metadata: The contract; `config` is derived from it.
        metrics: Validation metrics; NumPy and torch numbers become plain ones.
        optimizer_state_dict: As the optimizer gives it.
        training_state: What resuming needs; tensors and plain types.
    """
    content = {
        "epoch": epoch,
        "model_state_dict": {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()},
        "optimizer_state_dict": optimizer_state_dict,
        "config": config_from_metadata(metadata),
        "metrics": plain_types(metrics or {}),
        "metadata": metadata.to_dict(),
    }
    if training_state is not None:
        content["training_state"] = dict(training_state)
    with atomic_path(path) as temporary:
        _write(content, temporary)


def _write(content: Mapping[str, Any], path: Path) -> None:
    try:
        # Through Python's file, because torch's own writer does not say that a disk is full.
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:
        # What torch raises when it cannot finish the file it could not write.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def config_from_metadata(metadata: ModelMetadata) -> dict[str, Any]:
    """Return the checkpoint's `config`, whose values are those of the contract."""
    return {
        "architecture_name": metadata.architecture_name,
        "model_config": plain_types(metadata.model_config),
        "transform_strategy": metadata.preprocessing.resize_strategy,
        "ocr_viz_variant": metadata.ocr_viz_variant,
        "use_font_embedding": metadata.use_font_embedding,
    }


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU without executing anything in it.

    Raises:
        ModelError: The file is missing, cut short, not a cb checkpoint, or holds more than tensors and plain types.
        ContractError: Its metadata has another schema or is malformed.
    """
    file = Path(path)
    content = _read(file)
    missing = [key for key in KEYS if key not in content] if isinstance(content, dict) else list(KEYS)
    if missing:
        raise ModelError(
            f"{file} is not a checkpoint of cb: it lacks {', '.join(missing)}. Expected a file written by `cb train`."
        )
    try:
        metadata = metadata_from_dict(content["metadata"])
    except ContractError as error:
        raise ContractError(f"{file}: {error}") from error
    return Checkpoint(
        **{key: content[key] for key in KEYS if key != "metadata"},
        metadata=metadata,
        training_state=content.get("training_state"),
    )


def _read(file: Path) -> Any:  # noqa: ANN401  (whatever the file holds)
    if not file.is_file():
        raise ModelError(f"Checkpoint {file} does not exist. `cb train` writes best.pt and last.pt.")
    if not zipfile.is_zipfile(file):
        raise ModelError(
            f"{file} is cut short or not a checkpoint: expected a whole file written by `cb train` "
            f"(found {file.stat().st_size} bytes). Copy it again, or train again with --resume."
        )
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file} holds more than tensors and plain values, so it was not loaded: nothing in it was executed. "
            "Only load checkpoints written by `cb train`."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise ModelError(f"{file} is damaged and cannot be read ({error}). Copy it again, or train again.") from error


def model_from_checkpoint(checkpoint: Checkpoint) -> nn.Module:
    """Create the checkpoint's architecture with its weights, in evaluation mode, without fetching anything.

    Raises ModelError when the architecture is unknown or the weights do not fit it.
    """
    config = checkpoint.config
    model = create_model_for_weights(config["architecture_name"], config["model_config"])
    try:
        model.load_state_dict(checkpoint.model_state_dict)
    except RuntimeError as error:
        raise ModelError(
            f"The weights do not fit architecture '{config['architecture_name']}' with model_config "
            f"{config['model_config']}: {error} The architecture's code may have changed since."
        ) from error
    return model.eval()


def plain_types(value: Any) -> Any:  # noqa: ANN401  (any nesting)
    """Return `value` with tuples as lists and NumPy or torch values as Python numbers and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_types(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
