"""The two splits a run needs, and how they reach the device in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from cb_core.data.augmentation import PairAugmentation
from cb_core.data.torch_dataset import PairDataset
from cb_core.provenance import TRAINING_PACKAGES, installed_versions
from cb_core.training.config import Hyperparameters
from cb_core.training.mining import PairMemory
from cb_core.training.model_choice import ModelChoice
from cb_core.training.sampling import EpochSampler, SeededPairs, SharedPairs
from cb_runtime.contract import LABELS, Decoding, ModelMetadata
from cb_runtime.cores import usable_cores

MAX_WORKERS = 12
"""Beyond this, more processes only take memory: decoding strips is cheap."""


@dataclass(frozen=True)
class Splits:
    """Training and validation pairs of one dataset."""

    train: PairDataset
    val: PairDataset

    @property
    def train_counts(self) -> list[int]:
        """Training pairs of every label, in the order of `LABELS`."""
        counts = self.train.class_counts()
        return [counts[label] for label in LABELS]

    def metadata(self, model: ModelChoice, git_commit: str | None, decoding: Decoding) -> ModelMetadata:
        """Return the contract of a model that is trained on these splits.

        Args:
            model: Architecture and inputs.
            git_commit: Of the code that trains it.
            decoding: How its answers become captions until `cb tune` knows better: that of the model it begins as.
        """
        summary = self.train.summary
        return ModelMetadata(
            architecture_name=model.architecture_name,
            model_config=model.model_config,
            preprocessing=summary.preprocessing,
            ocr_viz_variant=self.train.ocr_viz_variant,
            use_font_embedding=model.use_font_embedding,
            decoding=decoding,
            fontclip_model_version=summary.fontclip_model_version if model.use_font_embedding else None,
            ocr_engine=summary.ocr_engine,
            ocr_engine_version=summary.ocr_engine_version,
            git_commit=git_commit,
            dataset_name=summary.name,
            dataset_digest=summary.digest,
            producer_versions={**installed_versions(TRAINING_PACKAGES), "torch": torch.__version__},
        )


def open_splits(dataset: str, model: ModelChoice, settings: Hyperparameters) -> Splits:
    """Open the training split, augmented if asked for, and the validation split, as it is.

    Raises InputError when there is no such dataset or a split has no pairs.
    """
    options: dict[str, Any] = {
        "use_font_embedding": model.use_font_embedding,
        "ocr_viz_variant": model.ocr_viz_variant,
    }
    augment = PairAugmentation() if settings.augment else None
    return Splits(
        train=PairDataset(dataset, "train", augment=augment, **options),
        val=PairDataset(dataset, "val", **options),
    )


def class_warnings(splits: Splits) -> list[str]:
    """Name classes without pairs, and what follows from that for this run."""
    return [
        f"The {name} split has no pairs of class {', '.join(missing)}: {consequence}"
        for name, pairs, consequence in (
            (
                "train",
                splits.train,
                "it cannot be learnt; the other classes are weighted without it.",
            ),
            ("val", splits.val, "macro F1 says nothing about it; add annotated videos that show it."),
        )
        if (missing := [label for label, count in pairs.class_counts().items() if not count])
    ]


def make_train_loader(
    splits: Splits,
    settings: Hyperparameters,
    workers: int,
    device: torch.device,
    *,
    share_frames: bool,
    memory: PairMemory | None = None,
) -> tuple[DataLoader[dict[str, Any]], EpochSampler]:
    """Return the training loader and the sampler to which each epoch is told."""
    sampler = EpochSampler(
        splits.train,
        settings.seed,
        balanced=settings.balance == "sampler",
        share_frames=share_frames,
        epoch_pairs=settings.epoch_pairs,
        memory=memory,
        hard_share=settings.hard_pairs,
    )
    pairs = SeededPairs(splits.train, settings.seed, share_frames=share_frames)
    # A last batch of a few pairs would give noisy BatchNorm statistics; small splits keep theirs.
    drop_last = len(sampler) >= settings.batch_size
    loader = _loader(pairs, settings.batch_size, workers, device, sampler=sampler, drop_last=drop_last)
    return loader, sampler


def make_val_loader(
    splits: Splits, settings: Hyperparameters, workers: int, device: torch.device
) -> DataLoader[dict[str, Any]]:
    """Return the validation loader, in the split's order, in which neighbours share frames."""
    return _loader(SharedPairs(splits.val), settings.batch_size, workers, device)


def _loader(
    pairs: Dataset[Any],
    batch_size: int,
    workers: int,
    device: torch.device,
    **options: Any,  # noqa: ANN401  (DataLoader's own)
) -> DataLoader[dict[str, Any]]:
    return DataLoader(
        pairs,
        batch_size,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        # Of its own: loaders draw a number each time they start workers, which would shift dropout in a resumed run.
        generator=torch.Generator(),
        **options,
    )


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401  (it is a batch already)
    return batch


def default_workers(device: torch.device) -> int:
    """Choose the number of processes that prepare batches.

    On a GPU all cores but one. On a CPU the model itself needs the cores: with two of them, processes beside it were
    measured to gain nothing; with more, preparing takes about a quarter of them.
    """
    cores = usable_cores()
    if device.type == "cuda":
        return max(1, min(MAX_WORKERS, cores - 1))
    return 0 if cores <= 2 else max(1, min(MAX_WORKERS, cores // 4))


def sample_count(batch: dict[str, Any]) -> int:
    """Return the number of pairs in a batch."""
    labels: Sequence[int] = batch["label"]
    return len(labels)
