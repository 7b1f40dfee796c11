"""Validation metrics: macro F1, which selects the best epoch, and what explains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score

from cb_runtime.contract import LABELS


@dataclass(frozen=True)
class ValidationMetrics:
    """How well a model does on the validation split."""

    loss: float
    """Mean cross entropy, without class weights."""
    macro_f1: float
    """Mean F1 over the classes that occur among labels or predictions, in [0, 1]."""
    accuracy: float
    """Share of pairs decided right, in [0, 1]."""
    f1: dict[str, float]
    """F1 of each label, in [0, 1]."""
    support: dict[str, int]
    """Validation pairs of each label."""
    confusion: list[list[int]]
    """Pairs by true label (row) and predicted label (column), in the order of `LABELS`."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, named as in an experiment's history."""
        return {
            "val_loss": self.loss,
            "val_f1": self.macro_f1,
            "val_accuracy": self.accuracy,
            "val_f1_by_label": self.f1,
            "val_support": self.support,
            "val_confusion": self.confusion,
        }


class ValidationMeter:
    """Adds up predictions batch by batch."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        count = len(LABELS)
        self._metrics = MetricCollection(
            {
                "macro_f1": MulticlassF1Score(count, average="macro"),
                "f1": MulticlassF1Score(count, average="none"),
                "accuracy": MulticlassAccuracy(count, average="micro"),
                "confusion": MulticlassConfusionMatrix(count),
            },
            compute_groups=False,
        ).to(device)
        # Each process holds all gathered predictions, so the metrics must not be added up over processes again.
        for metric in self._metrics.values():
            metric.sync_on_compute = False
        self._loss = 0.0
        self._count = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add one batch: float32 logits `(batch, 5)` and labels `(batch,)`."""
        self._metrics.update(logits.argmax(dim=1), labels)
        self._loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        self._count += len(labels)

    def metrics(self) -> ValidationMetrics:
        """Return the metrics of everything added; at least one batch must have been."""
        values = self._metrics.compute()
        confusion = values["confusion"].tolist()
        return ValidationMetrics(
            loss=self._loss / self._count,
            macro_f1=float(values["macro_f1"]),
            accuracy=float(values["accuracy"]),
            f1=dict(zip(LABELS, values["f1"].tolist(), strict=True)),
            support={label: sum(row) for label, row in zip(LABELS, confusion, strict=True)},
            confusion=confusion,
        )
