"""One ResNet-50 backbone for all three pictures, late fusion."""

from __future__ import annotations

from cb_core.architectures.backbones import RESNET50_FEATURES, Pretrained, resnet50_backbone
from cb_core.architectures.heads import PooledClassifier, check_num_classes
from cb_core.architectures.late_fusion import LateFusion
from cb_core.registry import register_model
from cb_runtime.contract import IMAGE_INPUTS, LABELS


@register_model("shared_backbone_resnet50")
def shared_backbone_resnet50(
    pretrained: Pretrained = False, dropout: float = 0.3, num_classes: int = len(LABELS)
) -> LateFusion:
    """One ResNet-50 backbone run on all three pictures, features concatenated."""
    check_num_classes(num_classes)
    return LateFusion(
        encoders={"image": resnet50_backbone(pretrained)},
        roles=dict.fromkeys(IMAGE_INPUTS, "image"),
        classifier=PooledClassifier(RESNET50_FEATURES, dropout),
    )
