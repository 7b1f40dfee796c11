"""torchvision backbones without their classifier, and where their weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torchvision.models import ResNet50_Weights, resnet50

from cb_runtime.errors import ModelError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

RESNET50_FEATURES = 2048
"""Width of ResNet-50's pooled features."""

Pretrained = bool | str
"""`False`: random weights; `True`: torchvision's ImageNet weights; a string: path of a state-dict file."""


def resnet50_backbone(pretrained: Pretrained = False) -> nn.Module:
    """Return torchvision's ResNet-50 whose `fc` is the identity: pictures to features `(batch, 2048)`.

    Raises ModelError when the wanted weights cannot be had or do not fit.
    """
    backbone: nn.Module = resnet50(weights=None)
    backbone.fc = nn.Identity()
    load_backbone_weights(backbone, pretrained, ResNet50_Weights.IMAGENET1K_V2, head="fc.")
    return backbone


def load_backbone_weights(backbone: nn.Module, pretrained: Pretrained, weights: WeightsEnum, head: str) -> None:
    """Load weights into a backbone, without those of the classifier whose names start with `head`."""
    if pretrained is False:
        return
    state = _imagenet_state(weights) if pretrained is True else _state_from_file(Path(str(pretrained)))
    state = {name: value for name, value in state.items() if not name.startswith(head)}
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        source = str(weights) if pretrained is True else pretrained
        raise ModelError(f"The weights of {source} do not fit {type(backbone).__name__}: {error}") from error


def _imagenet_state(weights: WeightsEnum) -> dict[str, Any]:
    try:
        state: dict[str, Any] = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        file = weights.url.rpartition("/")[2]
        raise ModelError(
            f"torchvision's weights {weights} could not be fetched ({error}). Train without them (--no-pretrained), or "
            f"put {file} into {torch.hub.get_dir()}/checkpoints, or name a file: --pretrained PATH/{file}"
        ) from error
    return state


def _state_from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"Pretrained weights {path} do not exist. Name a state-dict file, or use --no-pretrained.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"Pretrained weights {path} cannot be read as a PyTorch state dict: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"Pretrained weights {path} must hold a state dict (names to tensors) and nothing else.")
    return state
