"""The checkpoint of the model in the box: where a run begins that tunes it to other videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cb_runtime.errors import ModelError
from cb_runtime.models import default_model_path
from cb_runtime.onnx_artifact import metadata_of_file

if TYPE_CHECKING:
    from cb_core.checkpoint import Checkpoint

DEFAULT_CHECKPOINT = Path(__file__).with_name("default.pt")
"""Weights of the artifact in `cb_runtime.models`, before BatchNorm was folded."""

DEFAULT = "default"
"""What `cb train --start-from` and `cb export --checkpoint` call it."""


def starting_checkpoint(name: str) -> Path:
    """Return the checkpoint that a command names: a path, or `default` for the model in the box.

    Raises ModelError when this installation lacks that.
    """
    if name != DEFAULT:
        return Path(name)
    if not DEFAULT_CHECKPOINT.is_file():
        raise ModelError(
            f"This installation has no checkpoint of the model in the box ({DEFAULT_CHECKPOINT} is missing). Install "
            "cb-toolkit again, or name a .pt file."
        )
    return DEFAULT_CHECKPOINT


def load_starting_checkpoint(name: str) -> Checkpoint:
    """Load the checkpoint that a command names; the model in the box with the decoding that is tuned to it.

    Raises what `starting_checkpoint` and `load_checkpoint` raise.
    """
    from cb_core.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(starting_checkpoint(name))
    if name != DEFAULT:
        return checkpoint
    # It was tuned once it was trained: how it is decoded stands in its artifact alone.
    decoding = metadata_of_file(default_model_path()).decoding
    return replace(checkpoint, metadata=checkpoint.metadata.replace(decoding=decoding))
