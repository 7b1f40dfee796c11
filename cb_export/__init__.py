"""Export: a checkpoint becomes one artifact that was proven equal to the PyTorch model.

`export_checkpoint` is the whole way; the modules `merge`, `graph`, `targets` and `gate` are its steps. Importing this
package imports neither torch nor onnx; the names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cb_export.pipeline import ExportOptions, ExportResult, export_checkpoint

__all__ = ["ExportOptions", "ExportResult", "export_checkpoint"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cb_export import pipeline

    return getattr(pipeline, name)
