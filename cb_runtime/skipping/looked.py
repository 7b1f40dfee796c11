"""What looking at a video needs, and what it gives: the words that scoring with and without a search share."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.video.types import Image

Probabilities = NDArray[np.float32]
"""float32 `(pairs, 5)`."""
Place = tuple[int, int]
"""The earlier and the later of two frames, or the numbers of two strips."""
Frame = tuple[NDArray[Any], NDArray[Any]]
"""A frame's strip, or its features, as `frame1` and as `frame2`; a `Row` for features that stay on a GPU."""
Encoded = tuple[NDArray[Any], NDArray[Any]]
"""The same of a batch of frames."""
Pair = tuple[Place, NDArray[Any], NDArray[Any]]
"""Two frames, then what stands for `frame1` and `frame2`."""


@dataclass(frozen=True)
class PairModel:
    """A model that was given a video's own inputs."""

    encoded: Callable[[Iterable[Image]], Iterator[Encoded]]
    """What stands for strips, in batches: their features, or themselves."""
    answers: Callable[[Iterable[Pair]], Iterator[tuple[list[Place], Probabilities]]]
    """Label probabilities of pairs, batch by batch, with the frames they are of."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What the model said of a video, and which answer is whose."""

    answers: array[float]
    """float32 label probabilities, `len(LABELS)` for each pair, in the order in which the model was asked."""
    answer_of: array[int]
    """Row of the answers of each pair, by later frame, distance and direction."""
    frames_encoded: int
    """Number of strips that were looked at."""
