"""The model in the box: used where no other is named. `python -m cb_export.default_model` trains it."""

from __future__ import annotations

from pathlib import Path

from cb_runtime.errors import ModelError

DEFAULT_MODEL = Path(__file__).with_name("default.onnx")
"""The artifact; its golden samples lie beside it."""


def default_model_path() -> Path:
    """Return the artifact that comes with the package. Raises ModelError when this installation lacks it."""
    if not DEFAULT_MODEL.is_file():
        raise ModelError(
            f"This installation has no model in the box ({DEFAULT_MODEL} is missing). Install cb-toolkit again, or "
            "name a model with --checkpoint."
        )
    return DEFAULT_MODEL
