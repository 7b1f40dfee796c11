"""Which pairs an epoch sees, in which order: a function of seed and epoch alone.

So a resumed run sees what an uninterrupted one would have seen, whatever the number of worker processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cb_core.training.clips import CLIP_PAIRS, clip_order
from cb_core.training.mining import PairMemory
from cb_runtime.contract import LABELS


def derived_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on every part."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield `(epoch, index)` of every pair once, shuffled; or as many, each class drawn equally often.

    Args:
        pairs: The split.
        seed: Decides, with the epoch, which pairs come and in which order.
        balanced: Draw each class equally often.
        share_frames: Bring pairs that share frames together (see `cb_core.training.clips`).
        epoch_pairs: Pairs of an epoch at most; 0 for all.
        memory: Where an epoch's hard pairs come from.
        hard_share: Share of hard pairs, as far as the memory has them.
    """

    def __init__(
        self,
        pairs: KnownPairs,
        seed: int,
        *,
        balanced: bool,
        share_frames: bool,
        epoch_pairs: int = 0,
        memory: PairMemory | None = None,
        hard_share: float = 0.0,
    ) -> None:
        self._pairs = pairs
        self._labels = torch.as_tensor(pairs.labels, dtype=torch.long)
        self._seed = seed
        self._balanced = balanced
        self._share_frames = share_frames
        self._count = min(epoch_pairs or len(pairs.labels), len(pairs.labels))
        self._memory = memory
        self._hard_count = int(hard_share * self._count)
        self.epoch = 0

    def start_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next.

        Not named `set_epoch`: accelerate would call that with its own count, which starts anew in a resumed run.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derived_seed(self._seed, "order", self.epoch))
        count = len(self._labels)
        drawn = self._balanced_order(generator) if self._balanced else torch.randperm(count, generator=generator)
        order = self._clips(drawn, generator, limit=self._count)
        if self._memory is not None and self._hard_count:
            hard = self._clips(self._memory.draw(self._hard_count, generator), generator)
            order = _shuffled(order[: self._count - len(hard)] + hard, generator)
        return ((self.epoch, index) for index in order[: self._count])

    def _clips(self, drawn: Tensor, generator: torch.Generator, limit: int | None = None) -> list[int]:
        order: list[int] = drawn.tolist()
        if self._share_frames and order:
            videos, strips = self._pairs.video_ids, self._pairs.strip_ids
            order = clip_order(order, videos, strips, generator, limit=limit)
        return order

    def _balanced_order(self, generator: torch.Generator) -> Tensor:
        members = [torch.nonzero(self._labels == label).flatten() for label in range(len(LABELS))]
        members = [indices for indices in members if len(indices)]
        classes = torch.randint(len(members), (len(self._labels),), generator=generator)
        order = torch.empty(len(self._labels), dtype=torch.long)
        for label, indices in enumerate(members):
            chosen = classes == label
            order[chosen] = indices[torch.randint(len(indices), (int(chosen.sum()),), generator=generator)]
        return order


def _shuffled(order: list[int], generator: torch.Generator) -> list[int]:
    """Return the pairs with clips in another order."""
    starts = torch.randperm(-(-len(order) // CLIP_PAIRS), generator=generator) * CLIP_PAIRS
    return [pair for start in starts.tolist() for pair in order[start : start + CLIP_PAIRS]]


class Pairs(Protocol):
    """What training needs of a dataset split."""

    def __len__(self) -> int:
        """Return the number of pairs."""
        ...

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the five graph inputs and the `label` of several pairs."""
        ...


class KnownPairs(Protocol):
    """What the order of pairs depends on."""

    labels: NDArray[np.int64]
    """Label of every pair (pairs,)."""
    video_ids: NDArray[np.int64]
    """Video of every pair (pairs,)."""
    strip_ids: NDArray[np.int64]
    """The two strips of every pair (pairs, 2)."""


class BatchedPairs(Protocol):
    """What a loader needs of a dataset split."""

    def __len__(self) -> int:
        """Return the number of pairs."""
        ...

    def batch(self, indices: Sequence[int], *, share_frames: bool) -> dict[str, Tensor]:
        """Return several pairs with each picture once, as `PairDataset.batch` does."""
        ...


class SharedPairs(Dataset[Any]):
    """A split whose batches hold each picture once; nothing in it is random."""

    def __init__(self, pairs: BatchedPairs) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return one batch, as DataLoader asks for it."""
        return self._pairs.batch(indices, share_frames=True)


class SeededPairs(Dataset[Any]):
    """A split whose random augmentation depends on seed, epoch and batch, and on nothing else."""

    def __init__(self, pairs: BatchedPairs, seed: int, *, share_frames: bool) -> None:
        self._pairs = pairs
        self._seed = seed
        self._share_frames = share_frames

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitems__(self, positions: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """Return one batch of `(epoch, index)`, as DataLoader asks for it."""
        epoch, indices = positions[0][0], [index for _, index in positions]
        # On the CPU generator only, and given back as it was: dropout has its own sequence.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self._seed, "batch", epoch, *indices))
            return self._pairs.batch(indices, share_frames=self._share_frames)
