"""The self-contained graph: an architecture behind the inputs that video gives.

Training, the `.pt` backend and export all run this one module, so normalisation cannot differ between them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cb_runtime.contract import Preprocessing

_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # from torch 2.7 on


class DeploymentModel(nn.Module):
    """Wrap an architecture so that it takes uint8 pictures.

    Inputs are those of an exported graph: `ocr_viz`, `frame1`, `frame2` uint8 `(batch, 48, 480, 3)` RGB,
    `spatial_features` float32 `(batch, 6)`, `font_embedding` float32 `(batch, 512)`. Output: float32 logits `(batch,
    5)`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: nn.Module, preprocessing: Preprocessing | None = None) -> None:
        super().__init__()
        wanted = preprocessing or Preprocessing()
        self.architecture = architecture
        # Constants of the contract, not weights: they do not belong into a checkpoint.
        self.register_buffer("mean", 255 * torch.tensor(wanted.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(wanted.std).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, ocr_viz: Tensor, frame1: Tensor, frame2: Tensor, spatial_features: Tensor, font_embedding: Tensor
    ) -> Tensor:
        """Return logits."""
        pictures = (self.normalised(image) for image in (ocr_viz, frame1, frame2))
        logits: Tensor = self.architecture(*pictures, spatial_features, font_embedding)
        return logits.float()

    def normalised(self, image: Tensor) -> Tensor:
        """Return uint8 pictures `(batch, height, width, 3)` as normalised float32 `(batch, 3, height, width)`."""
        # Cast first: TensorRT takes a uint8 input only where a cast is the first node.
        pictures = image.float().permute(0, 3, 1, 2)
        if _is_exporting():
            # Else the tracer remembers that channels lie last in memory, and pooling to 1 x 1 becomes a Gather by
            # indices that are computed from the batch size, of which OpenVINO makes wrong int8.
            pictures = pictures.contiguous()
        return (pictures - self.mean) / self.std
