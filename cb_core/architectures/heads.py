"""The common head of the ResNet-50 architectures and what every architecture counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cb_runtime.contract import FONT_EMBEDDING, LABELS, SPATIAL_FEATURES
from cb_runtime.errors import UsageError

VECTOR_WIDTH = 128
"""Width of the projected spatial features and of the projected font embedding."""


def projection(inputs: int, hidden: int, dropout: float) -> nn.Sequential:
    """Return Linear, ReLU, Dropout, Linear to `VECTOR_WIDTH`."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, VECTOR_WIDTH))


class FusionHead(nn.Module):
    """Classify pooled picture features together with the two vectors: `(batch, 5)` logits."""

    def __init__(self, feature_width: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.spatial_proj = projection(SPATIAL_FEATURES, 128, dropout)
        self.font_proj = projection(FONT_EMBEDDING, 256, dropout)
        self.fusion_mlp = nn.Sequential(
            nn.Linear(feature_width + 2 * VECTOR_WIDTH, 1024),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(1024, 512),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(512, len(LABELS)),
        )

    def forward(self, features: Tensor, spatial_features: Tensor, font_embedding: Tensor) -> Tensor:
        """Return logits from features `(batch, feature_width)` and the two vectors."""
        vectors = (self.spatial_proj(spatial_features), self.font_proj(font_embedding))
        logits: Tensor = self.fusion_mlp(torch.cat((features, *vectors), dim=1))
        return logits


class PooledClassifier(nn.Module):
    """The classifier of late fusion: pooled features of the three pictures side by side, then `FusionHead`."""

    def __init__(self, feature_width: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.head = FusionHead(3 * feature_width, dropout)

    def forward(
        self, ocr_viz: Tensor, frame1: Tensor, frame2: Tensor, spatial_features: Tensor, font_embedding: Tensor
    ) -> Tensor:
        """Return logits from three feature vectors `(batch, feature_width)` and the two vectors."""
        logits: Tensor = self.head(torch.cat((ocr_viz, frame1, frame2), dim=1), spatial_features, font_embedding)
        return logits


def check_num_classes(num_classes: int) -> None:
    """Raise UsageError unless `num_classes` is the number of labels: the labels are a constraint of the task."""
    if num_classes != len(LABELS):
        raise UsageError(f"num_classes must be {len(LABELS)} (the labels are fixed), got {num_classes}.")


def count_params(model: nn.Module, *, trainable_only: bool) -> int:
    """Return the number of (trainable) parameters, each shared one counted once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or not trainable_only)
