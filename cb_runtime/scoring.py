"""Strips in, label probabilities out: the pairs of one video at small distances, in both directions, in batches.

Each strip is read once and each pair scored once per direction. Memory holds one batch of pairs and as many strips as
the largest distance asks for, whatever the video's length, and forty bytes of results a frame and distance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Feeds
from cb_runtime.contract import LABELS, MAX_DISTANCE, Decoding, distances_fit
from cb_runtime.errors import ContractError, ModelError, UsageError
from cb_runtime.features import VideoInputs
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import Session, softmax
from cb_runtime.video.types import Image

Probabilities = NDArray[np.float32]
_Place = tuple[int, int]
_Pair = tuple[_Place, Image, Image]
"""Indices of the earlier and the later frame, then the strips as `frame1` and `frame2`."""


@dataclass(frozen=True, eq=False)
class PairScores:
    """Label probabilities of the pairs of a video of n frames, by their distance d in frames."""

    forward_at: Mapping[int, Probabilities]
    """float32 `(n - d, 5)` at each distance: pairs `(frame i, frame i + d)`."""
    backward_at: Mapping[int, Probabilities]
    """float32 `(n - d, 5)` at each distance: pairs `(frame i + d, frame i)`."""

    @property
    def distances(self) -> tuple[int, ...]:
        """Distances in frames that were scored."""
        return tuple(self.forward_at)

    @property
    def forward(self) -> Probabilities:
        """float32 `(n - 1, 5)`: pairs of neighbours `(frame i, frame i + 1)`."""
        return self.forward_at[1]

    @property
    def backward(self) -> Probabilities:
        """float32 `(n - 1, 5)`: pairs of neighbours `(frame i + 1, frame i)`."""
        return self.backward_at[1]

    @property
    def count(self) -> int:
        """Number of pairs, each direction counted."""
        return 2 * sum(map(len, self.forward_at.values()))


def no_scores(distances: tuple[int, ...] = Decoding.distances) -> PairScores:
    """Return the scores of a video without pairs."""
    return _by_distance(_joined([]), 0, distances)


def score_strips(
    session: Session,
    strips: Iterable[Image],
    inputs: VideoInputs,
    *,
    distances: tuple[int, ...] = Decoding.distances,
    batch_size: int = 16,
    total: int | None = None,
    progress: Progress = no_progress,
) -> PairScores:
    """Score every pair of strips at some distances in both directions.

    Args:
        session: The model.
        strips: One strip per frame, uint8 `(48, 480, 3)`, in time order; read once, as they are needed.
        inputs: The video's own inputs, the same for all pairs.
        distances: Distances of the pairs in frames, ascending from 1.
        batch_size: Pairs per run of the model, each direction counted. The answer does not depend on it.
        total: Number of strips, for progress only; None when unknown.
        progress: Told the number of strips scored.

    Returns:
        Probabilities of n - d pairs for n strips at distance d; none for fewer than two strips.

    Raises:
        ContractError: Strips or inputs that the model does not take.
        ModelError: Logits that are not finite.
        UsageError: A batch size below 1, or distances that do not ascend from 1.
    """
    if batch_size < 1:
        raise UsageError(f"--batch must be 1 or more, got {batch_size}.")
    if not distances_fit(distances):
        raise UsageError(f"Distances must ascend from 1 to at most {MAX_DISTANCE}, got {distances}.")
    constant = _repeated(inputs, batch_size)
    answers: list[Probabilities] = []
    frames = 0
    for places, first, second in _batches(_pairs(strips, distances), batch_size):
        feeds = {name: array[: len(places)] for name, array in constant.items()}
        answers.append(_probabilities(session, {**feeds, "frame1": first, "frame2": second}, places))
        frames = places[-1][1] + 1
        progress("Scoring", frames, total)
    return _by_distance(_joined(answers), frames, distances)


def _repeated(inputs: VideoInputs, batch_size: int) -> dict[str, NDArray[Any]]:
    """Return the video's inputs as a batch, made once and fed again and again."""
    values: dict[str, NDArray[Any]] = {
        "ocr_viz": inputs.ocr_viz,
        "spatial_features": inputs.spatial_features,
        "font_embedding": inputs.font_embedding,
    }
    return {name: np.repeat(value[None], batch_size, axis=0) for name, value in values.items()}


def _pairs(strips: Iterable[Image], distances: tuple[int, ...]) -> Iterator[_Pair]:
    """Give every pair at every distance in both directions as soon as its later strip is there; views of a buffer."""
    recent: Image | None = None
    for index, strip in enumerate(strips):
        if recent is None:
            recent = np.empty((distances[-1] + 1, *strip.shape), strip.dtype)
        if (strip.shape, strip.dtype) != (recent.shape[1:], recent.dtype):
            raise ContractError(
                f"All strips must be alike, got {strip.dtype} {strip.shape} after {recent.dtype} {recent.shape[1:]}."
            )
        later = recent[index % len(recent)]
        later[...] = strip
        for distance in distances[: bisect_right(distances, index)]:
            earlier = recent[(index - distance) % len(recent)]
            yield (index - distance, index), earlier, later
            yield (index - distance, index), later, earlier


def _batches(pairs: Iterable[_Pair], size: int) -> Iterator[tuple[list[_Place], Image, Image]]:
    """Give full batches of pairs, and what is left at the end; their arrays are valid until the next batch."""
    places: list[_Place] = []
    buffer: Image | None = None
    for place, one, other in pairs:
        if buffer is None:
            buffer = np.empty((2, size, *one.shape), one.dtype)
        buffer[0, len(places)], buffer[1, len(places)] = one, other
        places.append(place)
        if len(places) == size:
            yield places, buffer[0], buffer[1]
            places = []
    if buffer is not None and places:
        yield places, buffer[0, : len(places)], buffer[1, : len(places)]


def _probabilities(session: Session, feeds: Feeds, places: list[_Place]) -> Probabilities:
    logits = session.run(feeds)
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        one, other = places[int(finite.argmin())]
        raise ModelError(
            f"The model gave logits that are not finite for the pair of frames {one} and {other}. "
            "Check it on this machine with `cb verify`."
        )
    return softmax(logits)


def _joined(batches: list[Probabilities]) -> Probabilities:
    return np.concatenate([np.zeros((0, len(LABELS)), np.float32), *batches])


def _by_distance(answers: Probabilities, frames: int, distances: tuple[int, ...]) -> PairScores:
    """Sort answers, which came by frame, distance and direction, into one array per distance and direction."""
    scored = np.arange(frames)[:, None] >= distances
    distance_of = np.broadcast_to(distances, scored.shape)[scored]
    both = answers.reshape(-1, 2, len(LABELS))
    forward_at, backward_at = ({d: both[distance_of == d, way] for d in distances} for way in (0, 1))
    return PairScores(forward_at, backward_at)
