"""The network of the model in the box: an encoder per frame, maps compared cell by cell at two scales of context.

A caption that differs by one glyph differs in a few cells of a map at stride 4, so the comparison takes place there.
Whether a difference is the caption's or the background's is told by what surrounds it, so each cell also carries what
the encoder saw at strides 8 and 16. The encoder sees one frame at a time and may be run once per frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cb_core.architectures.compact_aligned_resnet import (
    AlignedClassifier,
    ResidualBlock,
    compared_channels,
    convolution,
    ocr_encoder,
)
from cb_core.architectures.heads import check_num_classes
from cb_core.architectures.late_fusion import LateFusion
from cb_core.registry import register_model
from cb_runtime.contract import LABELS

VECTORS = 16
"""Width of the layer that reads the two vectors."""


class PyramidEncoder(nn.Module):
    """Strips `(batch, 3, 48, 480)` to maps `(batch, 3 * width / 2, 12, 120)` that know strides 4, 8 and 16."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            convolution(3, width // 2, stride=2), convolution(width // 2, width, stride=2), ResidualBlock(width)
        )
        self.middle = nn.Sequential(convolution(width, 2 * width, stride=2), ResidualBlock(2 * width))
        self.coarse = nn.Sequential(
            convolution(2 * width, 3 * width, stride=2), ResidualBlock(3 * width), ResidualBlock(3 * width)
        )
        self.lateral = nn.Conv2d(2 * width, width, 1, bias=False)
        self.context = nn.Conv2d(3 * width, width, 1, bias=False)
        self.joined = convolution(width, width // 2)

    def forward(self, frames: Tensor) -> Tensor:
        """Return feature maps."""
        fine = self.fine(frames)
        middle = self.middle(fine)
        coarse = self.context(self.coarse(middle))
        around = self.joined(self.lateral(middle) + F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        return torch.cat((fine, F.interpolate(around, scale_factor=2.0, mode="nearest")), dim=1)


@register_model("aligned_comparison", hyperparameters={"learning_rate": 2e-3, "head_learning_rate": 2e-3})
def aligned_comparison(width: int = 32, dropout: float = 0.1, num_classes: int = len(LABELS)) -> LateFusion:
    """Pyramid encoder per frame, maps compared where they stand: the network of the model in the box."""
    check_num_classes(num_classes)
    compare = nn.Sequential(
        convolution(compared_channels(width), width, kernel=1),
        convolution(width, width),
        convolution(width, 2 * width, stride=2),
        ResidualBlock(2 * width),
        convolution(2 * width, 3 * width, stride=2),
    )
    return LateFusion(
        encoders={"ocr": ocr_encoder(), "frame": PyramidEncoder(width)},
        roles={"ocr_viz": "ocr", "frame1": "frame", "frame2": "frame"},
        classifier=AlignedClassifier(compare, 3 * width, VECTORS, width, dropout),
    )
