"""The checkpoint of the model in the box: where a run begins that tunes it to other videos."""

from __future__ import annotations

from pathlib import Path

from cb_runtime.errors import ModelError

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
