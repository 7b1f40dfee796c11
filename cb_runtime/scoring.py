"""Strips in, label probabilities out: consecutive pairs of one video, in both directions, in batches.

Memory holds one batch of strips, whatever the video's length, and forty bytes a frame and direction of results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Feeds
from cb_runtime.contract import LABELS
from cb_runtime.errors import ContractError, ModelError, UsageError
from cb_runtime.features import VideoInputs
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import Session, softmax
from cb_runtime.video.types import Image

Probabilities = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PairScores:
    """Label probabilities of all neighbouring pairs of a video of n frames."""

    forward: Probabilities
    """float32 `(n - 1, 5)`: pairs `(frame i, frame i + 1)`."""
    backward: Probabilities
    """float32 `(n - 1, 5)`: pairs `(frame i + 1, frame i)`."""


def no_scores() -> PairScores:
    """Return the scores of a video without pairs."""
    return PairScores(_joined([]), _joined([]))


def score_strips(
    session: Session,
    strips: Iterable[Image],
    inputs: VideoInputs,
    *,
    batch_size: int = 16,
    total: int | None = None,
    progress: Progress = no_progress,
) -> PairScores:
    """Score every pair of neighbouring strips in both directions.

    Args:
        session: The model.
        strips: One strip per frame, uint8 `(48, 480, 3)`, in time order; read once, as they are needed.
        inputs: The video's own inputs, the same for all pairs.
        batch_size: Pairs per run of the model. The answer does not depend on it.
        total: Number of strips, for progress only; None when unknown.
        progress: Told the number of strips scored.

    Returns:
        Probabilities of n - 1 pairs for n strips; none for fewer than two strips.

    Raises:
        ContractError: Strips or inputs that the model does not take.
        ModelError: Logits that are not finite.
        UsageError: A batch size below 1.
    """
    if batch_size < 1:
        raise UsageError(f"--batch must be 1 or more, got {batch_size}.")
    constant = _repeated(inputs, batch_size)
    forward: list[Probabilities] = []
    backward: list[Probabilities] = []
    done = 0
    for earlier, later in _pair_batches(strips, batch_size):
        feeds = {name: array[: len(earlier)] for name, array in constant.items()}
        forward.append(_probabilities(session, {**feeds, "frame1": earlier, "frame2": later}, done))
        backward.append(_probabilities(session, {**feeds, "frame1": later, "frame2": earlier}, done))
        done += len(earlier)
        progress("Scoring", done + 1, total)
    return PairScores(_joined(forward), _joined(backward))


def _repeated(inputs: VideoInputs, batch_size: int) -> dict[str, NDArray[Any]]:
    """Return the video's inputs as a batch, made once and fed again and again."""
    values: dict[str, NDArray[Any]] = {
        "ocr_viz": inputs.ocr_viz,
        "spatial_features": inputs.spatial_features,
        "font_embedding": inputs.font_embedding,
    }
    return {name: np.repeat(value[None], batch_size, axis=0) for name, value in values.items()}


def _pair_batches(strips: Iterable[Image], batch_size: int) -> Iterator[tuple[Image, Image]]:
    """Give batches `(earlier, later)` of neighbouring strips: two views of one buffer, valid until the next batch."""
    buffer: Image | None = None
    filled = 0
    for strip in strips:
        if buffer is None:
            buffer = np.empty((batch_size + 1, *strip.shape), strip.dtype)
        if (strip.shape, strip.dtype) != (buffer.shape[1:], buffer.dtype):
            raise ContractError(
                f"All strips must be alike, got {strip.dtype} {strip.shape} after {buffer.dtype} {buffer.shape[1:]}."
            )
        buffer[filled] = strip
        filled += 1
        if filled == batch_size + 1:
            yield buffer[:-1], buffer[1:]
            buffer[0] = buffer[batch_size]  # the last strip is the first of the next pair
            filled = 1
    if buffer is not None and filled > 1:
        yield buffer[: filled - 1], buffer[1:filled]


def _probabilities(session: Session, feeds: Feeds, first_pair: int) -> Probabilities:
    logits = session.run(feeds)
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise ModelError(
            f"The model gave logits that are not finite for the pair at frame {first_pair + int(finite.argmin())}. "
            "Check it on this machine with `cb verify`."
        )
    return softmax(logits)


def _joined(batches: list[Probabilities]) -> Probabilities:
    return np.concatenate([np.zeros((0, len(LABELS)), np.float32), *batches])
