"""Checkpoints to export for the table of precisions: trained ones where there are any, else prepared ones.

A network fresh from its initialisation says little about precisions: BatchNorm that saw no picture lets activations
grow from layer to layer, and where all logits are alike any rounding turns decisions. So BatchNorm sees the golden
samples of the model in the box, and the last layer is fitted to their labels by least squares. Nothing else is learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cb_core.checkpoint import load_checkpoint, save_checkpoint
from cb_core.deployment import DeploymentModel
from cb_core.models import DEFAULT_CHECKPOINT
from cb_core.registry import create_model_for_weights
from cb_runtime.contract import INPUT_NAMES, LABELS, ModelMetadata
from cb_runtime.golden import GoldenSamples, golden_path, load_golden_samples
from cb_runtime.models import default_model_path

TRAINED, PREPARED = "trained", "last layer fitted, else untrained"

BATCH = 16
RIDGE = 1e-2
"""Weight of the penalty, relative to the mean square of the features: keeps the fitted weights small."""

TARGET = 5.0
"""Logit that the fit aims at for the true label; minus that for the others."""


def by_architecture(texts: Sequence[str]) -> dict[str, Path]:
    """Read options `NAME=FILE`."""
    return {name: Path(file).resolve() for name, _, file in (text.partition("=") for text in texts)}


@dataclass(frozen=True)
class Subject:
    """A checkpoint to export."""

    checkpoint: Path
    golden: Path
    weights: str
    """How its weights came about."""


def subject_of(architecture: str, given: Mapping[str, Path], folder: Path) -> Subject:
    """Return what is exported for an architecture: the checkpoint given, the model in the box, or a prepared one."""
    if architecture in given:
        return Subject(given[architecture], golden_path(given[architecture]), TRAINED)
    if load_checkpoint(DEFAULT_CHECKPOINT).metadata.architecture_name == architecture:
        return Subject(DEFAULT_CHECKPOINT, golden_path(default_model_path()), f"{TRAINED}: the model in the box")
    checkpoint = folder / f"{architecture}.pt"
    model, golden = prepared(architecture)
    save_checkpoint(checkpoint, epoch=0, model=model, metadata=ModelMetadata(architecture))
    golden.save(golden_path(checkpoint))
    return Subject(checkpoint, golden_path(checkpoint), PREPARED)


@torch.no_grad()
def prepared(architecture: str, seed: int = 0) -> tuple[nn.Module, GoldenSamples]:
    """Return an architecture at its defaults, prepared as the module says, and golden samples with its logits."""
    torch.manual_seed(seed)
    model = create_model_for_weights(architecture, {}).eval()
    samples = load_golden_samples(golden_path(default_model_path()))
    _settle_batch_norm(model, samples)
    _fit_last_layer(model, samples)
    return model, replace(samples, logits=_run(model, samples))


def _settle_batch_norm(model: nn.Module, samples: GoldenSamples) -> None:
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    _run(model, samples)
    model.eval()


def _fit_last_layer(model: nn.Module, samples: GoldenSamples) -> None:
    last = [
        module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == len(LABELS)
    ]
    if not last:
        raise SystemExit(f"{type(model).__name__} has no last layer to fit; give a trained checkpoint of it.")
    seen: list[Tensor] = []
    hook = last[-1].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    _run(model, samples)
    hook.remove()
    features = torch.cat(seen)
    wanted = torch.full((len(samples), len(LABELS)), -TARGET)
    wanted[torch.arange(len(samples)), torch.from_numpy(samples.labels)] = TARGET
    weights = _ridge(torch.cat([features, torch.ones(len(features), 1)], dim=1), wanted)
    last[-1].weight.copy_(weights[:-1].T)
    last[-1].bias.copy_(weights[-1])


def _ridge(features: Tensor, wanted: Tensor) -> Tensor:
    gram = features @ features.T  # samples x samples: fewer than features
    penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    return features.T @ torch.linalg.solve(gram + penalty, wanted)


def _run(model: nn.Module, samples: GoldenSamples) -> np.ndarray:
    deployed = DeploymentModel(model)  # not switched to eval: BatchNorm may be counting
    inputs = {name: torch.from_numpy(samples.inputs[name]) for name in INPUT_NAMES}
    parts = [
        deployed(**{name: values[start : start + BATCH] for name, values in inputs.items()})
        for start in range(0, len(samples), BATCH)
    ]
    return torch.cat(parts).numpy()
