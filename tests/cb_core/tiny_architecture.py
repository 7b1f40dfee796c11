"""A tiny architecture: pooled pictures, compared, two layers."""

import os

import torch
from torch import nn

from cb_core.registry import register_model


class Tiny(nn.Module):
    def __init__(self, width, weights):
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.features = nn.Conv2d(9, 2, 1)
        self.dropout = nn.Dropout(0.1)
        self.fusion_mlp = nn.Sequential(nn.Linear(2 * 360 + 360, width), nn.ReLU(), nn.Linear(width, 5))
        if weights:
            self.load_state_dict(torch.load(weights, weights_only=True))

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        a, b = self.pool(frame1), self.pool(frame2)
        fused = self.features(torch.cat((self.pool(ocr_viz), a, b), dim=1))
        difference = (a - b).abs().mean(dim=1)
        if os.environ.get("TINY_DIVERGES"):
            difference = difference * float("nan")
        return self.fusion_mlp(self.dropout(torch.cat((fused.flatten(1), difference.flatten(1)), dim=1)))

    def get_num_trainable_params(self):
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def get_num_total_params(self):
        return sum(p.numel() for p in self.parameters())


@register_model("tiny_for_tests")
def tiny_for_tests(width: int = 16, pretrained: bool | str = False):
    """A tiny architecture."""
    if pretrained is True:
        raise OSError("the network was asked for weights")
    return Tiny(width, pretrained)
