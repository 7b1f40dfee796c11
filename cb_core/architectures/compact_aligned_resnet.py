"""A small residual network that compares the two frames where they stand, trained from scratch in minutes.

Pooled features rarely tell two similar captions apart: one changed letter vanishes in the average. So the encoder
keeps a map over the strip (stride 4, where a glyph still covers a few cells) and the classifier compares the maps
cell by cell before anything is pooled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cb_core.architectures.heads import check_num_classes
from cb_core.architectures.late_fusion import LateFusion
from cb_core.registry import register_model
from cb_runtime.contract import FONT_EMBEDDING, LABELS, SPATIAL_FEATURES

OCR_CHANNELS = 16
"""Width of the map of `ocr_viz`: it says where text may be, which needs few channels."""


def convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape `(batch, channels, height, width)`."""
        return F.relu(features + self.second(self.first(features)))


class FrameEncoder(nn.Module):
    """Strips `(batch, 3, 48, 480)` to maps `(batch, 3 * width / 2, 12, 120)` that see strides 4 and 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            convolution(3, width // 2, stride=2), convolution(width // 2, width, stride=2), ResidualBlock(width)
        )
        self.coarse = nn.Sequential(
            convolution(width, 2 * width, stride=2), ResidualBlock(2 * width), ResidualBlock(2 * width)
        )
        self.coarse_out = convolution(2 * width, width // 2, kernel=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Return feature maps."""
        fine = self.fine(frames)
        coarse = self.coarse_out(self.coarse(fine))
        return torch.cat((fine, F.interpolate(coarse, scale_factor=2.0, mode="nearest")), dim=1)


def ocr_encoder() -> nn.Sequential:
    """Return the encoder of `ocr_viz`: `(batch, 3, 48, 480)` to maps `(batch, OCR_CHANNELS, 12, 120)`."""
    return nn.Sequential(nn.AvgPool2d(4), convolution(3, OCR_CHANNELS), convolution(OCR_CHANNELS, OCR_CHANNELS))


def compared_channels(width: int) -> int:
    """Return the channels of what is compared: two maps of `3 * width / 2` in four ways, and that of `ocr_viz`."""
    return 4 * (width + width // 2) + OCR_CHANNELS


class AlignedClassifier(nn.Module):
    """Compare two frames' maps cell by cell, pool what was found, classify: logits `(batch, 5)`.

    Args:
        compare: From `compared_channels(width)` channels, cell by cell, to what was found.
        found: Channels of what `compare` gives.
        vectors: Width of the layer that reads the two vectors.
        width: Of the encoder; the layer before the last has four times as many.
        dropout: Before the last layer.
    """

    def __init__(self, compare: nn.Module, found: int, vectors: int, width: int, dropout: float) -> None:
        super().__init__()
        self.compare = compare
        self.vectors = nn.Sequential(nn.Linear(SPATIAL_FEATURES + FONT_EMBEDDING, vectors), nn.ReLU())
        self.decide = nn.Sequential(
            nn.Linear(2 * found + vectors, 4 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * width, len(LABELS))
        )

    def forward(
        self, ocr_viz: Tensor, frame1: Tensor, frame2: Tensor, spatial_features: Tensor, font_embedding: Tensor
    ) -> Tensor:
        """Return logits from three maps and the two vectors."""
        maps = torch.cat(((frame1 - frame2).abs(), frame1 * frame2, frame1, frame2, ocr_viz), dim=1)
        found = self.compare(maps)
        vectors = self.vectors(torch.cat((spatial_features, font_embedding), dim=1))
        pooled = torch.cat((found.mean(dim=(2, 3)), found.amax(dim=(2, 3)), vectors), dim=1)
        logits: Tensor = self.decide(pooled)
        return logits


@register_model("compact_aligned_resnet")
def compact_aligned_resnet(width: int = 32, dropout: float = 0.1, num_classes: int = len(LABELS)) -> LateFusion:
    """Small residual encoder per frame, maps compared where they stand; trains from scratch in minutes."""
    check_num_classes(num_classes)
    compare = nn.Sequential(
        convolution(compared_channels(width), width, kernel=1),
        convolution(width, 2 * width, stride=2),
        convolution(2 * width, 2 * width, stride=2),
    )
    return LateFusion(
        encoders={"ocr": ocr_encoder(), "frame": FrameEncoder(width)},
        roles={"ocr_viz": "ocr", "frame1": "frame", "frame2": "frame"},
        classifier=AlignedClassifier(compare, 2 * width, width, width, dropout),
    )
