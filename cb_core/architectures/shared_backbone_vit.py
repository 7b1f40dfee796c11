"""One vision transformer for all three pictures, late fusion.

torchvision's own class takes square pictures only, so its encoder is used between a patch projection and positions
that fit a strip. Names of parameters are torchvision's: its weights load once their positions are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ViT_B_16_Weights, ViT_L_16_Weights
from torchvision.models.vision_transformer import Encoder

from cb_core.architectures.backbones import Pretrained, load_backbone_weights
from cb_core.architectures.heads import PooledClassifier, check_num_classes
from cb_core.architectures.late_fusion import LateFusion
from cb_core.registry import register_model
from cb_runtime.contract import IMAGE_INPUTS, LABELS, Preprocessing
from cb_runtime.errors import ModelError, UsageError


class Size(NamedTuple):
    """How large a transformer is; the MLP is four times as wide."""

    width: int
    layers: int
    heads: int
    weights: Any = None
    """torchvision's ImageNet weights, where there are any."""


VARIANTS = {
    "tiny": Size(192, 12, 3),
    "small": Size(384, 12, 6),
    "base": Size(768, 12, 12, ViT_B_16_Weights.IMAGENET1K_V1),
    "large": Size(1024, 24, 16, ViT_L_16_Weights.IMAGENET1K_V1),
}

PATCH_SIZES = (8, 12, 16, 24)
"""Sides of a square patch, in pixels, of which a strip is a whole number high and wide."""

PRETRAINED_PATCH = 16
"""Side of the patches of torchvision's ImageNet weights that fit a strip."""

POSITIONS = "encoder.pos_embedding"


class VisionTransformer(nn.Module):
    """Strips `(batch, 3, 48, 480)` to the class token's features `(batch, width)`."""

    def __init__(self, size: Size, patch_size: int, height: int, width: int) -> None:
        super().__init__()
        self.grid = (height // patch_size, width // patch_size)
        tokens = 1 + self.grid[0] * self.grid[1]
        self.class_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.conv_proj = nn.Conv2d(3, size.width, patch_size, patch_size)
        nn.init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / (3 * patch_size**2)))
        assert self.conv_proj.bias is not None
        nn.init.zeros_(self.conv_proj.bias)
        normalisation: Callable[..., nn.Module] = partial(nn.LayerNorm, eps=1e-6)
        self.encoder = Encoder(
            tokens, size.layers, size.heads, size.width, 4 * size.width, 0.0, 0.0, norm_layer=normalisation
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Return features."""
        patches = self.conv_proj(pictures).flatten(2).transpose(1, 2)
        first = self.class_token.expand(patches.shape[0], -1, -1)
        tokens: Tensor = self.encoder(torch.cat((first, patches), dim=1))
        return tokens[:, 0]

    def load_state_dict(self, state_dict: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401  (as torch has it)
        """Load weights, those of pictures of another size included: their positions are resampled to this grid."""
        positions = state_dict.get(POSITIONS)
        if positions is not None and positions.shape[1] != self.encoder.pos_embedding.shape[1]:
            state_dict = {**state_dict, POSITIONS: resampled_positions(positions, self.grid)}
        return super().load_state_dict(state_dict, *args, **options)


def resampled_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return positions `(1, 1 + rows * columns, width)` for a grid, from those of a square one.

    The class token's own stays; the others are resampled as a picture (bicubic), as DeiT and torchvision do it.
    Raises ModelError when the positions are not of a square grid.
    """
    side = math.isqrt(positions.shape[1] - 1)
    if side**2 != positions.shape[1] - 1:
        raise ModelError(
            f"Pretrained weights have positions for {positions.shape[1] - 1} patches, which are not a square. Take "
            "weights of a transformer for square pictures, or --no-pretrained."
        )
    square = positions[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
    fitted = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    return torch.cat((positions[:, :1], fitted.flatten(2).transpose(1, 2)), dim=1)


def vit_backbone(variant: str, patch_size: int, pretrained: Pretrained = False) -> tuple[nn.Module, int]:
    """Return a vision transformer for strips, and the width of its features.

    Raises:
        UsageError: An unknown variant or patch size, or ImageNet weights for one that has none.
        ModelError: The wanted weights cannot be had or do not fit.
    """
    if variant not in VARIANTS:
        raise UsageError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}.")
    if patch_size not in PATCH_SIZES:
        raise UsageError(f"patch_size must be one of {', '.join(map(str, PATCH_SIZES))}, got {patch_size!r}.")
    size = VARIANTS[variant]
    if pretrained is True and (size.weights is None or patch_size != PRETRAINED_PATCH):
        known = ", ".join(name for name, known in VARIANTS.items() if known.weights is not None)
        raise UsageError(
            f"torchvision has ImageNet weights for variant {known} with patch_size {PRETRAINED_PATCH}, not for "
            f"{variant} with {patch_size}. Choose one of those, name a file (--pretrained PATH), or --no-pretrained."
        )
    height, width, _ = Preprocessing().strip_shape
    backbone = VisionTransformer(size, patch_size, height, width)
    load_backbone_weights(backbone, pretrained, size.weights, head="heads.")
    return backbone, size.width


@register_model("shared_backbone_vit", {"learning_rate": 1e-4, "head_learning_rate": 3e-4, "warmup_epochs": 2.0})
def shared_backbone_vit(
    variant: str = "tiny",
    patch_size: int = PRETRAINED_PATCH,
    pretrained: Pretrained = False,
    dropout: float = 0.3,
    num_classes: int = len(LABELS),
) -> LateFusion:
    """One vision transformer (tiny to large, patches of 8 to 24) run on all three pictures, features concatenated."""
    check_num_classes(num_classes)
    backbone, width = vit_backbone(variant, patch_size, pretrained)
    return LateFusion(
        encoders={"image": backbone},
        roles=dict.fromkeys(IMAGE_INPUTS, "image"),
        classifier=PooledClassifier(width, dropout),
    )
