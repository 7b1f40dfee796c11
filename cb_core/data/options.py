"""What decides a dataset's content, apart from its videos and captions. Standard library only."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from cb_runtime.contract import LABELS, OCR_VIZ_VARIANTS, Preprocessing
from cb_runtime.errors import UsageError

DISTANCES = (1, 2, 4, 8, 16)
"""Frames between the two of a pair: the runtime compares neighbours, and searches coarse to fine."""


@dataclass(frozen=True)
class BuildOptions:
    """What decides a dataset's content; the same for all its videos, and stored with it."""

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    ocr_viz_variant: str = "boundaries"
    """One of `OCR_VIZ_VARIANTS`."""
    distances: tuple[int, ...] = DISTANCES
    """Frames between the two of a pair, rising from 1."""
    pairs_per_video: int = 600
    """Pairs of one video at most; each of the five labels gets a fifth of them."""
    val_share: float = 0.15
    """Share of videos for validation, in [0, 1)."""
    test_share: float = 0.15
    """Share of videos kept for the final test, in [0, 1)."""
    seed: int = 0
    """Decides which pairs are taken and which split a video gets; 0 or more."""

    def __post_init__(self) -> None:
        if self.ocr_viz_variant not in OCR_VIZ_VARIANTS:
            raise UsageError(
                f"ocr_viz_variant must be one of {', '.join(OCR_VIZ_VARIANTS)}, got {self.ocr_viz_variant!r}."
            )
        if not self.distances or min(self.distances) < 1 or list(self.distances) != sorted(set(self.distances)):
            raise UsageError(f"distances must be rising and at least 1, got {self.distances}.")
        if self.pairs_per_video < 2 * len(LABELS):
            raise UsageError(f"pairs_per_video must be at least {2 * len(LABELS)}, got {self.pairs_per_video}.")
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, got {self.seed}.")
        shares = (self.val_share, self.test_share)
        if not all(map(math.isfinite, shares)) or min(shares) < 0 or sum(shares) >= 1:
            raise UsageError(
                "val_share and test_share must be 0 or more and leave something to train on, got "
                f"{self.val_share} and {self.test_share}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `cb_runtime.contract.preprocessing_from_dict` reads that part back."""
        plain = asdict(self)
        plain["distances"] = list(self.distances)
        plain["preprocessing"] |= {name: list(plain["preprocessing"][name]) for name in ("mean", "std")}
        return plain
