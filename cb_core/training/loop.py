"""One epoch of training, one pass of validation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cb_core.architectures.late_fusion import LateFusion
from cb_core.training.auxiliary import AuxiliaryTask, auxiliary_loss
from cb_core.training.config import Hyperparameters
from cb_core.training.data import Splits, default_workers, make_train_loader, make_val_loader, sample_count
from cb_core.training.metrics import ValidationMeter, ValidationMetrics
from cb_core.training.mining import PairMemory
from cb_core.training.model import BATCH_INPUTS, TrainingModel
from cb_core.training.optimization import make_loss, make_optimizer, make_schedule
from cb_core.training.sampling import derived_seed
from cb_runtime.contract import Preprocessing
from cb_runtime.errors import ModelError
from cb_runtime.progress import Progress

CHECK_EVERY = 20
"""Steps between two looks at the loss on a GPU, where each look waits for the device."""


@dataclass(frozen=True)
class EpochStatistics:
    """How an epoch of training went."""

    loss: float
    """Mean loss over pairs, as trained on: with class weights, label smoothing and the auxiliary task."""
    samples_per_second: float
    """Pairs trained on per second, over all processes."""
    data_wait_share: float
    """Share of the time in which training waited for the next batch, in [0, 1]."""


class Trainer:
    """A model, its data and its optimizer on a device; knows nothing of files and experiments."""

    def __init__(
        self,
        architecture: nn.Module,
        preprocessing: Preprocessing,
        splits: Splits,
        settings: Hyperparameters,
        accelerator: Accelerator,
        workers: int | None,
    ) -> None:
        self._settings = settings
        self.accelerator = accelerator
        device = accelerator.device
        count = default_workers(device) if workers is None else workers
        # Convolutions are faster with channels last, and pictures arrive that way.
        self.architecture = architecture.to(memory_format=torch.channels_last)
        self.auxiliary = _auxiliary_task(self.architecture, settings)
        optimizer = make_optimizer(self.architecture, settings, self.auxiliary)
        # Other architectures gain nothing by it, so they are shown pairs in a freer order.
        share_frames = settings.share_frames and isinstance(architecture, LateFusion)
        self.memory = PairMemory(len(splits.train)) if settings.hard_pairs else None
        loader, self._sampler = make_train_loader(
            splits, settings, count, device, share_frames=share_frames, memory=self.memory
        )
        model = TrainingModel(self.architecture, preprocessing, self.auxiliary)
        prepared = accelerator.prepare(model, optimizer, loader, make_val_loader(splits, settings, count, device))
        self._model: nn.Module = prepared[0]
        self.optimizer: torch.optim.Optimizer = prepared[1]
        self._train_loader: DataLoader[dict[str, Any]] = prepared[2]
        self._val_loader: DataLoader[dict[str, Any]] = prepared[3]
        self._loss = make_loss(settings, splits.train_counts).to(device)
        self.schedule = make_schedule(optimizer, settings, self.steps_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Changes of the weights per epoch."""
        return math.ceil(len(self._train_loader) / self._settings.accumulation)

    def train_epoch(self, epoch: int, progress: Progress) -> EpochStatistics:
        """Train one epoch, counted from 1.

        All randomness follows from seed and epoch, so that a resumed run repeats what an uninterrupted one would do.
        Raises ModelError when the loss is no longer a number.
        """
        self._seed(epoch)
        self._model.train()
        watch = _Stopwatch()
        total, pairs = torch.zeros((), device=self.accelerator.device), 0
        seen: list[tuple[Tensor, Tensor]] = []
        for step, batch in enumerate(watch.waiting_for(self._train_loader), start=1):
            loss, logits = self._step(batch)
            if self.memory is not None:
                seen.append((batch["pair"], F.cross_entropy(logits, batch["label"], reduction="none")))
            total += loss * sample_count(batch)
            pairs += sample_count(batch)
            if self.accelerator.device.type == "cpu" or step % CHECK_EVERY == 0 or step == len(self._train_loader):
                self._check_loss(total, epoch, step)
            progress(f"epoch {epoch}", pairs, len(self._train_loader) * self._settings.batch_size)
        self._remember(seen)
        mean = self.accelerator.reduce(total / pairs, reduction="mean").item()
        rate = pairs * self.accelerator.num_processes / watch.seconds
        return EpochStatistics(mean, rate, watch.wait_share)

    def validate(self, progress: Progress) -> ValidationMetrics:
        """Return the metrics of the current weights on the validation split."""
        self._model.eval()
        meter = ValidationMeter(self.accelerator.device)
        with torch.inference_mode():
            for step, batch in enumerate(self._val_loader, start=1):
                logits, labels = self.accelerator.gather_for_metrics((self._outputs(batch)[0], batch["label"]))
                meter.add(logits, labels)
                progress("validation", step, len(self._val_loader))
        return meter.metrics()

    def _seed(self, epoch: int) -> None:
        torch.manual_seed(derived_seed(self._settings.seed, "epoch", epoch, self.accelerator.process_index))
        self._sampler.start_epoch(epoch)

    def _remember(self, seen: list[tuple[Tensor, Tensor]]) -> None:
        if self.memory is not None:
            pairs, losses = (torch.cat(parts) for parts in zip(*seen, strict=True))
            self.memory.remember(self.accelerator.gather(pairs).cpu(), self.accelerator.gather(losses).cpu())

    def _step(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Change the weights; return the loss trained on, and the logits (batch, 5) it was computed from."""
        with self.accelerator.accumulate(self._model):
            logits, auxiliary = self._outputs(batch)
            loss: Tensor = self._loss(logits, batch["label"])
            if auxiliary is not None:
                added = auxiliary_loss(auxiliary, batch["presence"], batch["extent"])
                loss = loss + self._settings.auxiliary_weight * added
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients and self._settings.clip_norm:
                self.accelerator.clip_grad_norm_(self._model.parameters(), self._settings.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                self.schedule.after_step()
        return loss.detach(), logits.detach()

    def _outputs(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        outputs: tuple[Tensor, Tensor | None] = self._model(**{name: batch[name] for name in BATCH_INPUTS})
        return outputs

    def _check_loss(self, total: Tensor, epoch: int, step: int) -> None:
        if not math.isfinite(total.item()):
            raise ModelError(
                f"The loss is no longer a number (epoch {epoch}, step {step}): training has diverged. Lower "
                f"--learning-rate (now {self._settings.learning_rate:g}) and --head-learning-rate (now "
                f"{self._settings.head_learning_rate:g}), or use --precision no."
            )


def _auxiliary_task(architecture: nn.Module, settings: Hyperparameters) -> AuxiliaryTask | None:
    if not settings.auxiliary_weight:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(settings.seed, "auxiliary task"))
        return AuxiliaryTask(architecture)


class _Stopwatch:
    """Measure how long a loop takes, and how much of that it waits for its next item."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._waited = 0.0

    def waiting_for(self, items: Iterable[Any]) -> Iterator[Any]:
        iterator = iter(items)
        while True:
            asked = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += time.perf_counter() - asked
            yield item

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    @property
    def wait_share(self) -> float:
        return self._waited / self.seconds
