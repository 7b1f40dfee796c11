"""How many frames, or pairs, run together on a GPU: twice as many for as long as that is faster.

Measured at first use, and kept for the next time as the choice of an engine is. On a CPU larger batches gain nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cb_runtime.backends import OpenOptions, load_backend
from cb_runtime.engine_choice.cache import keep, kept
from cb_runtime.engine_choice.identity import identity_of
from cb_runtime.engine_choice.workload import GPU_BATCH, frame_seconds, workload
from cb_runtime.errors import ModelError
from cb_runtime.measuring.random_inputs import random_inputs
from cb_runtime.session import Session

GAIN = 1.05
"""Least ratio of speed at which twice as many are taken: they take twice the memory, and twice as long to come."""

MOST = 1024
"""Largest batch that is tried."""


@dataclass(frozen=True)
class BatchSize:
    """A number of frames, or pairs, that run together, and why."""

    size: int
    why: str


def measured_batch_size(path: Path, session: Session) -> BatchSize:
    """Return the batch size for a session on a GPU: what an earlier one found, or what is measured now.

    Raises ModelError when the model does not run at all.
    """
    ran = session.describe()
    engine = load_backend(ran["backend"])
    identity = identity_of(path, OpenOptions(), getattr(engine, "DISTRIBUTIONS", ()))
    identity["batch_size_of"] = [ran[name] for name in ("backend", "device", "precision", "features_stay")]
    known = kept(identity) or {}
    if known.keys() == {"size", "why"}:
        return BatchSize(**known)
    found = climbed(lambda batch: _frame_seconds(session, batch))
    not_kept = keep(identity, asdict(found))
    return found if not_kept is None else BatchSize(found.size, f"{found.why}, could not be kept: {not_kept}")


def climbed(seconds: Callable[[int], float]) -> BatchSize:
    """Double the batch for as long as a frame takes clearly less time.

    Args:
        seconds: From a batch size to the seconds of one frame. A ModelError, e.g. for want of memory, ends it, unless
            it is of the first size.
    """
    size, best = GPU_BATCH, seconds(GPU_BATCH)
    while size < MOST:
        try:
            now = seconds(2 * size)
        except ModelError as error:
            return BatchSize(size, f"batches of {2 * size} cannot be run: {error}")
        if best < GAIN * now:
            return BatchSize(size, f"batches of {2 * size} are {best / now:.2f} times as fast as those of {size}")
        size, best = 2 * size, now
    return BatchSize(size, "each larger batch was faster; none above this was tried")


def _frame_seconds(session: Session, batch: int) -> float:
    inputs: dict[str, Any] = random_inputs(session.metadata, batch)
    return frame_seconds(workload(session, inputs, batch))
