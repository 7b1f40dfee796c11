"""An architecture whose one block does not bear int8, or half precision: what localisation has to find."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_pairs import golden_of
from torch import nn

from cb_core.checkpoint import save_checkpoint
from cb_runtime.contract import ModelMetadata
from cb_runtime.golden import golden_path

LOUD = {"int8": 3e4, "fp16": 3e7}
"""Value of a channel that only its own block reads: int8 steps become coarser than all others, fp16 overflows."""


class Fragile(nn.Module):
    """Two convolutions; between them one channel is so loud that nothing else is heard in a narrow type."""

    def __init__(self, loud: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 1)
        self.second = nn.Conv2d(8, 8, 1)
        with torch.no_grad():
            self.first.bias[0] = loud
            self.second.weight *= 30  # what the other channels say decides
            self.second.weight[:, 0] = 0

    def forward(self, maps):
        return self.second(torch.relu(self.first(maps)))


class FragilePairs(nn.Module):
    """A network with a sound block, a fragile one, and another sound one."""

    def __init__(self, loud: float) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(3, 8, 5, stride=6), nn.ReLU())
        self.fragile = Fragile(loud)
        self.after = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(3 * 8 + 518, 5)

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        pooled = [self.after(self.fragile(self.before(image))) for image in (ocr_viz, frame1, frame2)]
        return 20 * self.head(torch.cat([*pooled, spatial_features, font_embedding], dim=1))

    def get_num_trainable_params(self):
        return sum(parameter.numel() for parameter in self.parameters())

    def get_num_total_params(self):
        return self.get_num_trainable_params()


def fragile_pairs(loud: float = 0.0) -> FragilePairs:
    """A fragile architecture for tests."""
    return FragilePairs(loud)


def write_fragile(folder: Path, loud: float) -> Path:
    """Write `best.pt` and its golden samples."""
    torch.manual_seed(0)
    model = fragile_pairs(loud).eval()
    metadata = ModelMetadata("fragile_pairs", model_config={"loud": loud})
    save_checkpoint(folder / "best.pt", epoch=1, model=model, metadata=metadata)
    golden_of(model, 40).save(golden_path(folder / "best.pt"))
    return folder / "best.pt"
