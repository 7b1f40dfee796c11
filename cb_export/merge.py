"""LoRA adapters become plain weights, and the merged model is proven equal to the adapted one.

Merging comes before everything else that touches weights (folding BatchNorm, half precision), in float32: there it
costs about 1e-7 in the logits, in half precision a thousand times that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cb_runtime.errors import ModelError, ParityError, require

MERGE_TOLERANCE = 1e-4
"""Largest logit difference that merging may make for logits up to 10; it grows with larger logits, as rounding does."""


def merge_lora(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any] | None]:
    """Return a float32 evaluation copy of a model without adapters, and the record for `ModelMetadata.lora_merge`.

    Args:
        model: Any module; the peft models inside it are merged. It stays as it was.
        inputs: Keyword arguments of its `forward`, on which merged and unmerged model must agree.

    Returns:
        The merged copy, and `{"layers": ..., "max_abs_logit_difference": ...}`; None when there was nothing to merge.

    Raises:
        ModelError: Adapters that cannot be merged, or are not finite.
        ParityError: The merged model differs from the unmerged one.
    """
    merged = copy.deepcopy(model).float().eval()
    layers = _adapted_layers(merged)
    if not layers:
        return merged, None
    before = _logits(merged, inputs)
    _merge_all(merged)
    left = _adapted_layers(merged)
    if left:
        raise ModelError(
            f"{len(left)} layers still hold an adapter after merging, e.g. {left[0]}. Adapt a module with "
            "peft.get_peft_model(...), which keeps what is needed to merge it."
        )
    difference = _proven_difference(before, _logits(merged, inputs))
    return merged, {"layers": len(layers), "max_abs_logit_difference": difference}


def _adapted_layers(model: nn.Module) -> list[str]:
    # By what a peft layer has, not by its class: a model without adapters must not cost the import of peft.
    return [name for name, module in model.named_modules() if getattr(module, "adapter_layer_names", ())]


def _merge_all(model: nn.Module) -> None:
    peft_model: Any = require("peft").PeftModel
    for name, module in list(model.named_modules()):
        if name and isinstance(module, peft_model):
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, _merged(name, module))


def _merged(name: str, module: Any) -> nn.Module:  # noqa: ANN401  (peft publishes no types)
    try:
        merged: nn.Module = module.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"The adapters of '{name}' cannot be merged: {error} Train the model again.") from error
    return merged


@torch.no_grad()
def _logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    logits: Tensor = model(**inputs)
    return logits


def _proven_difference(before: Tensor, after: Tensor) -> float:
    difference = float((before - after).abs().max())
    allowed = MERGE_TOLERANCE * max(1.0, float(before.abs().max()) / 10)
    if not difference <= allowed:  # also when it is not a number
        raise ParityError(
            f"Merging LoRA changed a logit by {difference:.3g}, allowed {allowed:.3g}. Nothing was exported. "
            "Check the adapters for values that are not finite or far from the base weights."
        )
    return difference
