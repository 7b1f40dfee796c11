"""One EfficientNet backbone for all three pictures, late fusion."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models import get_model, get_model_weights

from cb_core.architectures.backbones import Pretrained, load_backbone_weights
from cb_core.architectures.heads import PooledClassifier, check_num_classes
from cb_core.architectures.late_fusion import LateFusion
from cb_core.registry import register_model
from cb_runtime.contract import IMAGE_INPUTS, LABELS
from cb_runtime.errors import UsageError

VARIANTS = ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "v2_s", "v2_m", "v2_l")
"""torchvision's EfficientNets, smallest first within each generation."""


def efficientnet_backbone(variant: str, pretrained: Pretrained = False) -> tuple[nn.Module, int]:
    """Return torchvision's EfficientNet without its classifier, and the width of its pooled features.

    Raises:
        UsageError: An unknown variant.
        ModelError: The wanted weights cannot be had or do not fit.
    """
    if variant not in VARIANTS:
        raise UsageError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}.")
    name = f"efficientnet_{variant}"
    backbone: Any = get_model(name, weights=None)
    width: int = backbone.classifier[-1].in_features
    backbone.classifier = nn.Identity()
    load_backbone_weights(backbone, pretrained, get_model_weights(name).DEFAULT, head="classifier.")
    return backbone, width


@register_model("shared_backbone_efficientnet")
def shared_backbone_efficientnet(
    variant: str = "b0", pretrained: Pretrained = False, dropout: float = 0.3, num_classes: int = len(LABELS)
) -> LateFusion:
    """One EfficientNet backbone (variant b0 to v2_l) run on all three pictures, features concatenated."""
    check_num_classes(num_classes)
    backbone, width = efficientnet_backbone(variant, pretrained)
    return LateFusion(
        encoders={"image": backbone},
        roles=dict.fromkeys(IMAGE_INPUTS, "image"),
        classifier=PooledClassifier(width, dropout),
    )
