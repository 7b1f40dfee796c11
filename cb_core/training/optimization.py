"""Optimizer with two learning rates, learning-rate schedules, class weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from cb_core.architectures.late_fusion import LateFusion
from cb_core.training.config import Hyperparameters
from cb_runtime.contract import LABELS

HEAD_MODULES = ("spatial_proj", "font_proj", "fusion_mlp")
"""Names of modules that form the head of an architecture that is not late fusion."""

PLATEAU_PATIENCE = 2
"""Epochs without a better macro F1 before the plateau schedule divides learning rates by ten."""


def head_parameter_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters that get the head's learning rate."""
    if isinstance(model, LateFusion):
        return {f"classifier.{name}" for name, _ in model.classifier.named_parameters()}
    return {name for name, _ in model.named_parameters() if not set(name.split(".")).isdisjoint(HEAD_MODULES)}


def make_optimizer(
    model: nn.Module, settings: Hyperparameters, auxiliary: nn.Module | None = None
) -> torch.optim.AdamW:
    """Return AdamW over what is trainable: features and head at their own rates, weight decay on matrices only.

    An auxiliary head is trained as the head is, without decay: it is thrown away.
    """
    groups = list(_parameter_groups(model, settings))
    if auxiliary is not None:
        rate = {"lr": settings.head_learning_rate, "weight_decay": 0.0, "name": "head"}
        groups.append({"params": list(auxiliary.parameters()), **rate})
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _parameter_groups(model: nn.Module, settings: Hyperparameters) -> Iterator[dict[str, Any]]:
    head = head_parameter_names(model)
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    rates = {"features": settings.learning_rate, "head": settings.head_learning_rate}
    for part, rate in rates.items():
        for decayed in (True, False):
            members = [
                parameter
                for name, parameter in trainable
                if (name in head) == (part == "head") and (parameter.ndim >= 2) == decayed
            ]
            if members:
                decay = settings.weight_decay if decayed else 0.0
                yield {"params": members, "lr": rate, "weight_decay": decay, "name": part}


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the current learning rate of `features` and `head`, as far as the model has them."""
    return {group["name"]: float(group["lr"]) for group in optimizer.param_groups}


_STALL = ("best", "num_bad_epochs", "last_epoch")
"""What `ReduceLROnPlateau` has to remember."""


class Schedule(Protocol):
    """How learning rates change; told of every step and every epoch."""

    def after_step(self) -> None:
        """Tell that the weights changed once."""
        ...

    def after_epoch(self, macro_f1: float) -> None:
        """Tell how well an epoch ended."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs, plain types."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


def make_schedule(optimizer: torch.optim.Optimizer, settings: Hyperparameters, steps_per_epoch: int) -> Schedule:
    """Return the schedule that the hyperparameters name."""
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if settings.schedule == "plateau":
        return _Plateau(optimizer, warmup)
    return _PerStep(optimizer, settings, steps_per_epoch, warmup)


def warmup_factor(step: int, warmup: int) -> float:
    """Return what learning rates are multiplied by: rising over `warmup` steps, 1 from step `warmup` on."""
    return (step + 1) / (warmup + 1) if step < warmup else 1.0


class _PerStep:
    """Linear warm-up, then half a cosine or a constant."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: Hyperparameters, steps_per_epoch: int, warmup: int
    ) -> None:
        total = settings.epochs * steps_per_epoch
        cosine = settings.schedule == "cosine"

        def factor(step: int) -> float:
            if step < warmup or not cosine:
                return warmup_factor(step, warmup)
            return cosine_factor((step - warmup) / max(1, total - warmup))

        self._scheduler = LambdaLR(optimizer, factor)

    def after_step(self) -> None:
        self._scheduler.step()

    def after_epoch(self, macro_f1: float) -> None:
        """Change nothing: this schedule counts steps."""

    def state_dict(self) -> dict[str, Any]:
        # Only the position: the curve itself follows from the hyperparameters, of which `epochs` may have changed.
        return {"step": self._scheduler.last_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # The current rates come back with the optimizer's own state.
        self._scheduler.last_epoch = state["step"]


class _Plateau:
    """Linear warm-up, then rates that are divided by ten whenever macro F1 stalls."""

    def __init__(self, optimizer: torch.optim.Optimizer, warmup: int) -> None:
        self._scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=PLATEAU_PATIENCE)
        self._optimizer = optimizer
        self._step, self._warmup = 0, warmup
        self._peaks = self._rates()
        self._warm_up()

    def after_step(self) -> None:
        self._step += 1
        if self._step <= self._warmup:
            self._warm_up()

    def after_epoch(self, macro_f1: float) -> None:
        self._set_rates(self._peaks)  # what is divided by ten is the peak, also during warm-up
        self._scheduler.step(macro_f1)
        self._peaks = self._rates()
        self._warm_up()

    def state_dict(self) -> dict[str, Any]:
        stall = {name: getattr(self._scheduler, name) for name in _STALL}
        return {**stall, "step": self._step, "peaks": list(self._peaks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # The current rates come back with the optimizer's own state. Runs of cb before it warmed up here know no steps:
        # they are past it, at their peak.
        self._scheduler.load_state_dict({name: state[name] for name in _STALL})
        self._step = state.get("step", self._warmup)
        self._peaks = list(state.get("peaks", self._rates()))

    def _warm_up(self) -> None:
        factor = warmup_factor(self._step, self._warmup)
        self._set_rates([peak * factor for peak in self._peaks])

    def _rates(self) -> list[float]:
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def _set_rates(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def cosine_factor(progress: float) -> float:
    """Return half a cosine from 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def class_weights(counts: Sequence[int]) -> Tensor:
    """Return loss weights by which every class that occurs counts alike.

    A class with `n` of `N` pairs, where `K` classes occur, gets `N / (K n)`, so that the mean weight of a pair is 1. A
    class that does not occur gets 0 and leaves the others' weights as they are.
    """
    total, present = sum(counts), sum(count > 0 for count in counts)
    return torch.tensor([total / (present * count) if count else 0.0 for count in counts], dtype=torch.float32)


def make_loss(settings: Hyperparameters, counts: Sequence[int]) -> nn.CrossEntropyLoss:
    """Return cross entropy, weighted by class when the hyperparameters ask for it."""
    assert len(counts) == len(LABELS)
    weights = class_weights(counts) if settings.balance == "weights" else None
    return nn.CrossEntropyLoss(weight=weights, label_smoothing=settings.label_smoothing)
