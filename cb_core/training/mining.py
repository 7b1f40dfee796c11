"""Hard-pair mining: pairs that the model got wrong when it last saw them come again sooner.

Most pairs of a video are easy. What a pair's loss was is remembered when it is trained on, so that mining costs no pass
of its own; the pairs of each epoch are then partly drawn from those remembered, with odds that grow with the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

EASY = 0.1
"""Pairs with a lower loss (cross entropy, nats) than this are not drawn again: the model gives them 0.9 or more."""

CEILING = 2.0
"""Losses count as at most this: the highest ones are of pairs annotated wrongly, which no repetition teaches."""


class PairMemory:
    """The loss of every training pair when it was last seen.

    Args:
        pairs: Pairs of the training split.
    """

    def __init__(self, pairs: int) -> None:
        self._losses = torch.full((pairs,), torch.nan)

    def remember(self, indices: Tensor, losses: Tensor) -> None:
        """Note the losses float32 `(pairs,)` of pairs int64 `(pairs,)` just seen."""
        self._losses[indices] = losses

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return int64 indices of at most `count` different hard pairs: fewer where fewer are remembered."""
        hard = torch.nonzero(self._losses >= EASY).flatten()
        if not len(hard) or not count:
            return hard[:0]
        odds = self._losses[hard].clamp(max=CEILING).double()
        # Exponential races draw without replacement and, unlike `multinomial`, from any number of pairs.
        arrival = torch.empty(len(hard), dtype=torch.float64).exponential_(generator=generator) / odds
        return hard[torch.argsort(arrival)[:count]]

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs: pairs seen so far, and their losses."""
        seen = torch.nonzero(~self._losses.isnan()).flatten()
        return {"seen": seen, "losses": self._losses[seen]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.remember(state["seen"], state["losses"])
