"""Small late fusions, with one encoder for both frames and with one each, as training leaves them."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_pairs import golden_of
from torch import nn

from cb_core.architectures.late_fusion import LateFusion
from cb_core.checkpoint import save_checkpoint
from cb_runtime.contract import IMAGE_INPUTS, ModelMetadata
from cb_runtime.parity import golden_path

ROLES = {
    "shared": dict.fromkeys(IMAGE_INPUTS, "image"),
    "frames": {"ocr_viz": "ocr", "frame1": "frame", "frame2": "frame"},
    "triple": {name: name for name in IMAGE_INPUTS},
}


class Compared(nn.Module):
    """Maps compared where they stand: which frame is the first matters."""

    def __init__(self) -> None:
        super().__init__()
        self.decide = nn.Linear(3 * 2 * 6 * 60 + 518, 5)

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        maps = torch.cat(((frame1 - frame2).abs(), frame1, ocr_viz), dim=1)
        return 10 * self.decide(torch.cat((maps.flatten(1), spatial_features, font_embedding), dim=1))


def tiny_late_fusion(kind: str = "frames") -> LateFusion:
    """A tiny late fusion for tests."""
    encoders = {
        name: nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 2, 1)) for name in dict.fromkeys(ROLES[kind].values())
    }
    return LateFusion(encoders, ROLES[kind], Compared())


def seeded_late_fusion(kind: str = "frames", seed: int = 0) -> LateFusion:
    torch.manual_seed(seed)
    return tiny_late_fusion(kind).eval()


def write_late_fusion(folder: Path, kind: str = "frames", seed: int = 0) -> Path:
    """Write what training leaves: `best.pt` and its golden samples."""
    model = seeded_late_fusion(kind, seed)
    metadata = ModelMetadata("tiny_late_fusion", model_config={"kind": kind})
    save_checkpoint(folder / "best.pt", epoch=1, model=model, metadata=metadata)
    golden_of(model).save(golden_path(folder / "best.pt"))
    return folder / "best.pt"
