"""Which pairs an epoch sees, in which order: a function of seed and epoch alone.

So a resumed run sees what an uninterrupted one would have seen, whatever the number of worker processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cb_runtime.contract import LABELS


def derived_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on every part."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield `(epoch, index)` of every pair once, shuffled; or as many, each class drawn equally often."""

    def __init__(self, labels: Sequence[int], seed: int, *, balanced: bool) -> None:
        self._labels = torch.as_tensor(labels, dtype=torch.long)
        self._seed = seed
        self._balanced = balanced
        self.epoch = 0

    def start_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next.

        Not named `set_epoch`: accelerate would call that with its own count, which starts anew in a resumed run.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derived_seed(self._seed, "order", self.epoch))
        count = len(self._labels)
        order = self._balanced_order(generator) if self._balanced else torch.randperm(count, generator=generator)
        return ((self.epoch, index) for index in order.tolist())

    def _balanced_order(self, generator: torch.Generator) -> Tensor:
        members = [torch.nonzero(self._labels == label).flatten() for label in range(len(LABELS))]
        members = [indices for indices in members if len(indices)]
        classes = torch.randint(len(members), (len(self._labels),), generator=generator)
        order = torch.empty(len(self._labels), dtype=torch.long)
        for label, indices in enumerate(members):
            chosen = classes == label
            order[chosen] = indices[torch.randint(len(indices), (int(chosen.sum()),), generator=generator)]
        return order


class Pairs(Protocol):
    """What training needs of a dataset split."""

    def __len__(self) -> int:
        """Return the number of pairs."""
        ...

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the five graph inputs and the `label` of several pairs."""
        ...


class SeededPairs(Dataset[dict[str, Any]]):
    """A split whose random augmentation depends on seed, epoch and batch, and on nothing else."""

    def __init__(self, pairs: Pairs, seed: int) -> None:
        self._pairs = pairs
        self._seed = seed

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitems__(self, positions: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """Return the samples of one batch of `(epoch, index)`, as DataLoader asks for them."""
        epoch, indices = positions[0][0], [index for _, index in positions]
        # On the CPU generator only, and given back as it was: dropout has its own sequence.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self._seed, "batch", epoch, *indices))
            return self._pairs.__getitems__(indices)
