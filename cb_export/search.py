"""Which modules have to stay in float for an artifact to agree? A search that knows nothing but how sets of them score.

Sets that nobody could print or understand (some of a hundred nodes) are not searched: modules are taken in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cb_export.modules import blocks, divided, members

BLOCKS = 12
"""Blocks that are tried one by one, at least, where there are as many modules."""


@dataclass(frozen=True)
class Score:
    """How well a model agrees with PyTorch when some modules are kept in float."""

    passes: bool
    """Whether the tolerances are kept."""
    agreement: float
    """Share of samples that are decided alike, in [0, 1]."""
    difference: float
    """Root mean square of the logits' differences."""

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts better scores behind worse ones: decisions first."""
        return self.agreement, -self.difference


Scorer = Callable[[Sequence[str]], Score]


@dataclass(frozen=True)
class Found:
    """Outcome of a search."""

    alone: tuple[tuple[str, Score], ...]
    """Each block with the score of keeping it alone in float, best first."""
    smallest: tuple[str, ...]
    """Blocks that pass when all of them are kept in float, none of which can be left out; empty when no set does."""


def search(modules: Iterable[str], score: Scorer, count: int = BLOCKS) -> Found:
    """Find few modules which, kept in float, let a model pass.

    Blocks are added in the order of how much each helps alone, until the model passes. Then those that turn out to be
    needless are left out again, and the others narrowed to what is needed inside them.

    Args:
        modules: All that could be kept in float.
        score: Called with the names of modules to keep.
        count: How many blocks to begin with.
    """
    known: dict[frozenset[str], Score] = {}

    def scored(names: Sequence[str]) -> Score:
        key = frozenset(names)
        if key not in known:
            known[key] = score(tuple(names))
        return known[key]

    every = sorted(set(modules))
    alone = sorted(((block, scored([block])) for block in blocks(every, count)), key=lambda pair: pair[1].rank)[::-1]
    order = [block for block, _ in alone]
    enough = next((order[:size] for size in range(1, len(order) + 1) if scored(order[:size]).passes), [])
    return Found(tuple(alone), tuple(sorted(_narrowed(_without_needless(enough, scored), every, scored))))


def _without_needless(names: Sequence[str], score: Scorer) -> list[str]:
    """Leave out what is not needed, the least helpful (the last) first."""
    kept = list(names)
    for name in reversed(names):
        fewer = [other for other in kept if other != name]
        if fewer and score(fewer).passes:
            kept = fewer
    return kept


def _narrowed(names: Sequence[str], modules: Sequence[str], score: Scorer) -> list[str]:
    """Replace blocks by what is needed of them."""
    kept, left = list(names), list(names)
    while left:
        block = left.pop()
        parts = divided(block, modules)
        if parts == [block]:
            continue
        rest = [other for other in kept if other != block]
        fewer = _without_needless([*rest, *parts], score)
        if len(_all(fewer, modules)) < len(_all(kept, modules)):
            kept = fewer
            left = [name for name in (*left, *parts) if name in kept]
    return kept


def _all(names: Sequence[str], modules: Sequence[str]) -> set[str]:
    return {module for name in names for module in members(name, modules)}
