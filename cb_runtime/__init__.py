"""Find the boundaries of burned-in captions in video with an exported model.

```python
from cb_runtime import BoundaryPredictor

track = BoundaryPredictor("best.onnx").predict_video("film.mp4")
for span in track.spans:
    print(span.start_seconds, span.end_seconds)
```

Importing this package is cheap: each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cb_runtime.contract import LABELS, ModelMetadata
    from cb_runtime.errors import CbError
    from cb_runtime.fonts import FontEmbedding
    from cb_runtime.many_videos import VideoResult
    from cb_runtime.predictor import BoundaryPredictor
    from cb_runtime.results import CaptionTrack
    from cb_runtime.session import Session, open_session
    from cb_runtime.spans import Span

__all__ = [
    "LABELS",
    "BoundaryPredictor",
    "CaptionTrack",
    "CbError",
    "FontEmbedding",
    "ModelMetadata",
    "Session",
    "Span",
    "VideoResult",
    "open_session",
]

_MODULE_OF_NAME = {
    "LABELS": "contract",
    "ModelMetadata": "contract",
    "CbError": "errors",
    "BoundaryPredictor": "predictor",
    "FontEmbedding": "fonts",
    "CaptionTrack": "results",
    "Session": "session",
    "open_session": "session",
    "Span": "spans",
    "VideoResult": "many_videos",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (any of the names above)
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
