"""The three pictures fused to one before a ResNet-50 that is adapted by LoRA."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from cb_core.architectures.backbones import RESNET50_FEATURES, Pretrained, resnet50_backbone
from cb_core.architectures.heads import FusionHead, check_num_classes, count_params
from cb_core.registry import register_model
from cb_runtime.contract import LABELS
from cb_runtime.errors import UsageError


class ChannelFusionLora(nn.Module):
    """Fuse 9 channels to 3, run one backbone with LoRA on its pointwise convolutions, classify."""

    def __init__(self, backbone: nn.Module, rank: int, alpha: int, lora_dropout: float, dropout: float) -> None:
        super().__init__()
        self.channel_fusion = colour_mean_fusion(pictures=3)
        self.backbone = adapted_backbone(backbone, rank, alpha, lora_dropout)
        self.head = FusionHead(RESNET50_FEATURES, dropout)

    def forward(
        self, ocr_viz: Tensor, frame1: Tensor, frame2: Tensor, spatial_features: Tensor, font_embedding: Tensor
    ) -> Tensor:
        """Return logits `(batch, 5)`."""
        fused = self.channel_fusion(torch.cat((ocr_viz, frame1, frame2), dim=1))
        logits: Tensor = self.head(self.backbone(fused), spatial_features, font_embedding)
        return logits

    def get_num_trainable_params(self) -> int:
        """Return the number of parameters that training changes: adapters, BatchNorm, fusion and head."""
        return count_params(self, trainable_only=True)

    def get_num_total_params(self) -> int:
        """Return the number of all parameters, adapters included."""
        return count_params(self, trainable_only=False)


def colour_mean_fusion(pictures: int) -> nn.Conv2d:
    """Return a 1x1 convolution without bias that starts as the mean of the pictures, colour by colour."""
    fusion = nn.Conv2d(3 * pictures, 3, kernel_size=1, bias=False)
    with torch.no_grad():
        fusion.weight.copy_(torch.eye(3).repeat(1, pictures).view(3, 3 * pictures, 1, 1) / pictures)
    return fusion


def adapted_backbone(backbone: nn.Module, rank: int, alpha: int, lora_dropout: float) -> nn.Module:
    """Freeze a backbone's convolutions, add LoRA adapters to the 1x1 ones and leave BatchNorm trainable."""
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=lora_dropout, target_modules=pointwise_convolutions(backbone)
    )
    adapted: nn.Module = get_peft_model(backbone, config)
    for module in adapted.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(True)
    return adapted


def pointwise_convolutions(backbone: nn.Module) -> list[str]:
    """Return the names of the 1x1 convolutions. Raises UsageError for grouped ones, which peft cannot merge."""
    found = [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
    ]
    grouped = [name for name, module in found if module.groups != 1]
    if grouped:
        raise UsageError(
            f"LoRA cannot be merged on grouped convolutions: {', '.join(grouped)}. Choose another backbone."
        )
    return [name for name, _ in found]


@register_model("channel_fusion_lora_resnet50")
def channel_fusion_lora_resnet50(
    pretrained: Pretrained = False,
    rank: int = 16,
    alpha: int = 16,
    lora_dropout: float = 0.0,
    dropout: float = 0.3,
    num_classes: int = len(LABELS),
) -> ChannelFusionLora:
    """Three pictures fused to one by a 1x1 convolution, then one ResNet-50 adapted by LoRA."""
    check_num_classes(num_classes)
    if rank < 1 or alpha < 1:
        raise UsageError(f"LoRA needs rank >= 1 and alpha >= 1, got rank={rank}, alpha={alpha}.")
    return ChannelFusionLora(resnet50_backbone(pretrained), rank, alpha, lora_dropout, dropout)
