"""How long work tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by long work as it goes on; cheap to call often."""

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        """Tell that `done` of `total` units of `phase` are done; `total` is None when unknown."""
        ...


def no_progress(phase: str, done: int, total: int | None = None) -> None:
    """Ignore progress."""
