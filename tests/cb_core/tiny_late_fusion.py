"""A tiny late fusion: maps of pooled pictures, compared where they stand."""

import torch
from torch import nn

from cb_core.architectures.late_fusion import LateFusion
from cb_core.registry import register_model
from cb_runtime.contract import IMAGE_INPUTS


class Compared(nn.Module):
    def __init__(self):
        super().__init__()
        self.decide = nn.Linear(3 * 2 * 6 * 60 + 518, 5)

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        maps = torch.cat(((frame1 - frame2).abs(), frame1, ocr_viz), dim=1)
        return self.decide(torch.cat((maps.flatten(1), spatial_features, font_embedding), dim=1))


def encoder():
    return nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


@register_model("tiny_late_fusion_for_tests")
def tiny_late_fusion_for_tests(apart: bool = False):
    """One encoder for all pictures, or three."""
    if apart:
        return LateFusion({name: encoder() for name in IMAGE_INPUTS}, {n: n for n in IMAGE_INPUTS}, Compared())
    return LateFusion({"image": encoder()}, dict.fromkeys(IMAGE_INPUTS, "image"), Compared())
