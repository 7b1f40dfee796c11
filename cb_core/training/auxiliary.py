"""The auxiliary task: does a frame show a caption, and over which part of the strip's width?

Its head sits on the features of the frames' encoder and helps that encoder to learn what captions are. It is no part of
the architecture, so no checkpoint's model, no artifact and no backend ever holds it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cb_core.architectures.late_fusion import LateFusion
from cb_core.data.extents import COLUMNS
from cb_core.registry import example_inputs
from cb_runtime.errors import UsageError

FRAME_INPUTS = ("frame1", "frame2")


class CaptionHead(nn.Module):
    """Features of frames to logits `(frames, 1 + COLUMNS)`: presence, then extent.

    Args:
        shape: Of one frame's features: `(channels,)`, `(tokens, channels)` or a map `(channels, rows, columns)`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels = shape[-1] if len(shape) < 3 else shape[0]
        self.presence = nn.Linear(2 * channels, 1)
        # A vector has lost the places: each stretch has weights of its own.
        self.extent = nn.Linear(channels, COLUMNS if len(shape) == 1 else 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits."""
        places = _over_width(features)
        pooled = torch.cat((places.mean(dim=1), places.amax(dim=1)), dim=1)
        found = self.extent(places)
        if features.ndim == 2:
            columns = found.squeeze(1)
        else:
            columns = F.adaptive_avg_pool1d(found.transpose(1, 2), COLUMNS).squeeze(1)
        return torch.cat((self.presence(pooled), columns), dim=1)


def _over_width(features: Tensor) -> Tensor:
    """Return `(frames, places, channels)`: one place for a vector; a map's rows are averaged."""
    if features.ndim == 2:
        return features.unsqueeze(1)
    return features if features.ndim == 3 else features.mean(dim=2).transpose(1, 2)


class AuxiliaryTask(nn.Module):
    """A head on each encoder that serves frames. Raises UsageError for an architecture that is not late fusion."""

    def __init__(self, architecture: nn.Module) -> None:
        super().__init__()
        if not isinstance(architecture, LateFusion):
            raise UsageError(
                f"auxiliary_weight needs the features of single frames, which {type(architecture).__name__} does not "
                "have: it is not late fusion. Set it to 0, or choose another architecture."
            )
        self._roles = {architecture.roles[name]: name for name in FRAME_INPUTS}
        frame = example_inputs(1)["frame1"].to(next(architecture.parameters()).device)
        was_training = architecture.training
        with torch.inference_mode():
            architecture.eval()
            shapes = {name: tuple(architecture.encoders[name](frame).shape[1:]) for name in self._roles}
        architecture.train(was_training)
        self.heads = nn.ModuleDict({name: CaptionHead(shape) for name, shape in shapes.items()})

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return logits `(encoders, frames, 1 + COLUMNS)` from the features under `frame1` and `frame2`."""
        return torch.stack([self.heads[name](features[role]) for name, role in self._roles.items()])


def auxiliary_loss(logits: Tensor, presence: Tensor, extent: Tensor) -> Tensor:
    """Return the mean binary cross entropy of presence, and of extent where it is known, added.

    Args:
        logits: `(encoders, frames, 1 + COLUMNS)`.
        presence: 1 where a frame shows a caption `(frames,)`.
        extent: Share of each stretch that a caption covers `(frames, COLUMNS)`; NaN where not known.
    """
    known = ~extent.isnan()
    wanted = torch.where(known, extent, 0.0).expand(len(logits), -1, -1)
    columns = F.binary_cross_entropy_with_logits(logits[..., 1:], wanted, reduction="none")
    # A mask and not a selection: the number of known frames need not be fetched from the device.
    mean = (columns * known).sum() / (known.sum() * len(logits)).clamp(min=1)
    return F.binary_cross_entropy_with_logits(logits[..., 0], presence.expand(len(logits), -1)) + mean
