"""Encoders of caption style, for models that were trained with font embeddings.

The leaf holds none itself: encoders are named by entry points in the group `cb.font_encoders`; `cb_core` offers one
that runs CLIP's image tower where PyTorch is installed. Services without PyTorch compute the vector themselves and give
it to `BoundaryPredictor.predict_video(font_embedding=...)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cb_runtime.errors import UsageError, require
from cb_runtime.installed import entry_points_of
from cb_runtime.layout import CaptionLayout
from cb_runtime.video.types import FrameSource

FONT_ENCODERS_GROUP = "cb.font_encoders"


@dataclass(frozen=True, eq=False)
class FontEmbedding:
    """The caption style of one video as a picture encoder sees it."""

    values: NDArray[np.float32]
    """float32 `(512,)`."""
    font_model: str
    """Identifier of the encoder; must be the one of training (`metadata.fontclip_model_version`)."""


class FontEncoder(Protocol):
    """Embeds the caption style of a video."""

    version: str
    """Identifier of architecture and weights; a model must have been trained with the same."""

    def embedding_of(self, source: FrameSource, layout: CaptionLayout) -> NDArray[np.float32]:
        """Return the embedding of the caption region, float32 `(512,)`."""
        ...


def load_font_encoder(weights: str | Path) -> FontEncoder:
    """Open the installed font encoder with weights from a local file.

    Raises:
        MissingPackageError: PyTorch or open_clip is not installed.
        UsageError: No installed package offers a font encoder.
        ModelError: The file does not hold weights of the encoder.
    """
    for module in ("torch", "open_clip"):
        require(module)
    for entry in entry_points_of(FONT_ENCODERS_GROUP).values():
        return cast("FontEncoder", entry.load()(weights))
    raise UsageError(f"No installed package offers a font encoder (entry point group {FONT_ENCODERS_GROUP}).")
