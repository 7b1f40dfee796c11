"""Three separate ResNet-50 backbones, late fusion."""

from __future__ import annotations

from cb_core.architectures.backbones import RESNET50_FEATURES, Pretrained, resnet50_backbone
from cb_core.architectures.heads import PooledClassifier, check_num_classes
from cb_core.architectures.late_fusion import LateFusion
from cb_core.registry import register_model
from cb_runtime.contract import IMAGE_INPUTS, LABELS


@register_model("triple_backbone_resnet50")
def triple_backbone_resnet50(
    pretrained: Pretrained = False, dropout: float = 0.3, num_classes: int = len(LABELS)
) -> LateFusion:
    """Three separate ResNet-50 backbones, features concatenated."""
    check_num_classes(num_classes)
    return LateFusion(
        encoders={name: resnet50_backbone(pretrained) for name in IMAGE_INPUTS},
        roles={name: name for name in IMAGE_INPUTS},
        classifier=PooledClassifier(RESNET50_FEATURES, dropout),
    )
