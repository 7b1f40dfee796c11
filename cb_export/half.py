"""fp16 and bf16: the network computes in half precision behind the same inputs, and its logits are float32.

Each module that is asked casts what it is given, so the parts of a late fusion may be exported one by one as well.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from cb_export.modules import is_inside
from cb_runtime.errors import ParityError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Half precisions by name."""

FOLD_TOLERANCE = 1e-3
"""Largest logit difference that folding may make for logits up to 10, as at float32's gate: rounding through the 53
layers of a ResNet-50 comes to a quarter of it. It grows with larger logits."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def half_model(
    model: nn.Module, precision: str, inputs: Mapping[str, Tensor], keep_float: Sequence[str] = ()
) -> nn.Module:
    """Return a copy of a merged float32 `DeploymentModel` whose architecture computes in half precision.

    Args:
        model: In evaluation mode; stays as it was.
        precision: A key of `DTYPES`.
        inputs: Keyword arguments of its `forward`, with which BatchNorm is followed and its folding proven.
        keep_float: Modules of the architecture that stay in float32, with what is inside them.

    Raises ParityError when folding BatchNorm changed the logits.
    """
    half: Any = fold_batch_norm(model, inputs)
    for name, module in half.architecture.named_modules():
        dtype = torch.float32 if is_inside(name, keep_float) else DTYPES[precision]
        for values in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if values.is_floating_point():
                values.data = values.data.to(dtype)
        if next(module.parameters(), None) is not None:
            module.register_forward_pre_hook(_casting(dtype), with_kwargs=True)
    result: nn.Module = half
    return result


def _casting(dtype: torch.dtype) -> Any:  # noqa: ANN401  (a hook)
    def cast(value: Any) -> Any:  # noqa: ANN401  (whatever a module takes)
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(map(cast, given)), {name: cast(value) for name, value in named.items()}

    return hook


@torch.no_grad()
def fold_batch_norm(model: nn.Module, inputs: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy with each BatchNorm folded into the layer whose output it takes.

    Raises ParityError when the copy differs. The layers are found by running the model:
    a BatchNorm belongs to the layer whose output is its very input.
    """
    folded = copy.deepcopy(model)
    before: Tensor = folded(**inputs)
    for layer, norm in _followed(folded, inputs):
        fuse = fuse_linear_bn_eval if isinstance(folded.get_submodule(layer), nn.Linear) else fuse_conv_bn_eval
        fused: Any = fuse(folded.get_submodule(layer), folded.get_submodule(norm))  # type: ignore[type-var, arg-type]
        _replace(folded, layer, fused)
        _replace(folded, norm, nn.Identity())
    difference, scale = float((before - folded(**inputs)).abs().max()), max(1.0, float(before.abs().max()) / 10)
    if not difference <= FOLD_TOLERANCE * scale:
        raise ParityError(
            f"Folding BatchNorm changed a logit by {difference:.3g}, allowed {FOLD_TOLERANCE * scale:.3g}. A layer's "
            "output may be used beside its BatchNorm, or by two of them. Export it with --precision fp32."
        )
    return folded


def _followed(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    made: list[tuple[Tensor, str]] = []
    found: dict[str, str] = {}
    handles = []

    def remember(name: str) -> Any:  # noqa: ANN401  (a hook)
        return lambda module, given, output: made.append((output, name))

    def look(name: str) -> Any:  # noqa: ANN401  (a hook)
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            found.update((name, layer) for output, layer in made if output is given[0])

        return hook

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            handles.append(module.register_forward_hook(remember(name)))
        elif isinstance(module, _NORMS):
            handles.append(module.register_forward_pre_hook(look(name)))
    model(**inputs)
    for handle in handles:
        handle.remove()
    return [(layer, norm) for norm, layer in found.items()]


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)
