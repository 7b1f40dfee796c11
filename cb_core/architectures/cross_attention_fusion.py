"""Two frames whose tokens attend to each other, over the strip's width.

The encoder of a frame keeps one token for every four columns: a glyph covers a few. In the classifier each frame's
tokens ask the other frame's what stands there and beside it, so a caption that moved a little is still found.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cb_core.architectures.compact_aligned_resnet import FrameEncoder, convolution
from cb_core.architectures.heads import check_num_classes
from cb_core.architectures.late_fusion import LateFusion
from cb_core.registry import register_model
from cb_runtime.contract import FONT_EMBEDDING, LABELS, SPATIAL_FEATURES, Preprocessing
from cb_runtime.errors import UsageError

STRIDE = 4
"""Columns of a strip for each token."""


class ColumnTokens(nn.Module):
    """Maps `(batch, channels, rows, tokens)` to one token for each column `(batch, tokens, width)`."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.column = nn.Conv2d(channels, width, (Preprocessing().height // STRIDE, 1))
        self.normalise = nn.LayerNorm(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Return tokens."""
        tokens: Tensor = self.normalise(self.column(maps).flatten(2).transpose(1, 2))
        return tokens


def picture_encoder(width: int) -> nn.Sequential:
    """Return the encoder of `ocr_viz`: `(batch, 3, 48, 480)` to tokens `(batch, 120, width)`."""
    channels = width // 8
    return nn.Sequential(
        nn.AvgPool2d(STRIDE), convolution(3, channels), convolution(channels, channels), ColumnTokens(channels, width)
    )


class CrossAttention(nn.Module):
    """Tokens `(batch, tokens, width)` that ask those of another frame, then an MLP; both around identities."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.normalise = nn.LayerNorm(width)
        self.ask = nn.Linear(width, width)
        self.answer = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, tokens: Tensor, other: Tensor) -> Tensor:
        """Return tokens that know of the other frame's."""
        keys, values = self.answer(self.normalise(other)).unflatten(2, (2, self.heads, -1)).unbind(2)
        queries = self.ask(self.normalise(tokens)).unflatten(2, (self.heads, -1))
        found = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (queries, keys, values)))
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        result: Tensor = tokens + self.think(tokens)
        return result


class CrossAttentionClassifier(nn.Module):
    """Let two frames' tokens attend to each other, pool what they found, classify: logits `(batch, 5)`."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(1, Preprocessing().width // STRIDE, width))
        self.layers = nn.ModuleList(CrossAttention(width, heads, dropout) for _ in range(layers))
        self.compare = nn.Sequential(nn.Linear(5 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.GELU())
        self.vectors = nn.Sequential(nn.Linear(SPATIAL_FEATURES + FONT_EMBEDDING, width), nn.ReLU())
        self.decide = nn.Sequential(
            nn.Linear(3 * width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, len(LABELS))
        )

    def forward(
        self, ocr_viz: Tensor, frame1: Tensor, frame2: Tensor, spatial_features: Tensor, font_embedding: Tensor
    ) -> Tensor:
        """Return logits from three pictures' tokens `(batch, tokens, width)` and the two vectors."""
        one, other = frame1 + self.positions, frame2 + self.positions
        for layer in self.layers:
            one, other = layer(one, other), layer(other, one)
        # The encoder's own tokens too: attention is soft, and one changed glyph is a difference at one place.
        found = self.compare(torch.cat((one, other, (frame1 - frame2).abs(), frame1 * frame2, ocr_viz), dim=2))
        vectors = self.vectors(torch.cat((spatial_features, font_embedding), dim=1))
        logits: Tensor = self.decide(torch.cat((found.mean(dim=1), found.amax(dim=1), vectors), dim=1))
        return logits


@register_model("cross_attention_fusion", {"warmup_epochs": 1.0})
def cross_attention_fusion(
    width: int = 96,
    layers: int = 2,
    heads: int = 4,
    encoder_width: int = 24,
    dropout: float = 0.1,
    num_classes: int = len(LABELS),
) -> LateFusion:
    """Small encoder per frame, tokens over the strip's width that attend to the other frame's; trains from scratch."""
    check_num_classes(num_classes)
    if width % heads or width % 8:
        raise UsageError(f"width must be a multiple of heads and of 8, got width={width}, heads={heads}.")
    frame = nn.Sequential(FrameEncoder(encoder_width), ColumnTokens(encoder_width + encoder_width // 2, width))
    return LateFusion(
        encoders={"ocr": picture_encoder(width), "frame": frame},
        roles={"ocr_viz": "ocr", "frame1": "frame", "frame2": "frame"},
        classifier=CrossAttentionClassifier(width, layers, heads, dropout),
    )
