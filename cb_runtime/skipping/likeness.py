"""Which frames show the same picture: strips compared block by block, so that one glyph counts as much as a scene.

A caption may change by a letter, which a mean over the strip does not notice. So strips are compared in blocks of about
a glyph's size, and the block that differs most decides.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cb_runtime import opencv as cv2
from cb_runtime.errors import ContractError
from cb_runtime.skipping.options import EQUAL, NOISE, NONE
from cb_runtime.video.types import Image

BLOCK = (8, 12)
"""Height and width of a block in pixels: about a glyph of one of two lines in a strip of 48 x 480."""

QUIET = 0.25
"""Share of blocks that are quieter than what is taken for noise: those in which nothing moves."""

NOISE_FRAMES = 128
"""The noise is the median over so many steps from frame to frame."""

NOISE_FACTOR, LEAST_DIFFERENCE, MOST_DIFFERENCE = 2.0, 1.5, 4.0
"""Two strips show the same picture when no block differs by more than so many times the noise; in grey levels, no less
and no more than these: a changed comma differs by about nine."""

T = TypeVar("T")
Blocks = NDArray[np.float32]
Alike = Callable[[Image, Image], bool]
"""Tells of a kept strip and of the present one whether they show the same picture; asked once for each frame."""


def block_differences(one: Image, other: Image) -> Blocks:
    """Return the mean absolute difference of two strips in blocks that overlap by half, float32 grey levels."""
    grey = cv2.cvtColor(cv2.absdiff(one, other), cv2.COLOR_RGB2GRAY)
    height, width = BLOCK
    means = cv2.boxFilter(grey, cv2.CV_32F, (width, height), borderType=cv2.BORDER_REFLECT)
    return np.asarray(means, np.float32)[:: height // 2, :: width // 2]


class AlikeButForNoise:
    """Takes strips for the same picture when no block differs by more than the noise seen so far."""

    def __init__(self) -> None:
        self._last: Image | None = None
        self._steps: deque[float] = deque(maxlen=NOISE_FRAMES)

    def __call__(self, kept: Image, strip: Image) -> bool:
        """Tell whether `strip`, the next frame's, shows what `kept` shows."""
        last = kept if self._last is None else self._last
        self._steps.append(float(np.quantile(block_differences(last, strip), QUIET)))
        self._last = strip.copy()
        return bool(block_differences(kept, strip).max() <= self.threshold)

    @property
    def threshold(self) -> float:
        """Most that a block may differ, in grey levels."""
        return float(np.clip(NOISE_FACTOR * np.median(self._steps), LEAST_DIFFERENCE, MOST_DIFFERENCE))


def alike_rule(skip: str) -> Alike:
    """Return the rule that one of `SKIPS` stands for, for one video."""
    rules: dict[str, Callable[[], Alike]] = {
        NONE: lambda: lambda kept, strip: False,
        EQUAL: lambda: np.array_equal,
        NOISE: AlikeButForNoise,
    }
    return rules[skip]()


class KeptStrips:
    """The strips of a video, each frame represented by the last strip that was kept.

    A strip is always compared with the one that stands for it and never with its neighbour, so that what changes slowly
    is noticed too.

    Args:
        strips: One strip per frame, in time order; each may be overwritten once the next is asked for.
        alike: Whether a strip need not be kept.
    """

    def __init__(self, strips: Iterable[Image], alike: Alike) -> None:
        self._strips, self._alike = strips, alike
        self.numbers = array("L")
        """Of each frame read so far: the number, from 0, of the kept strip that stands for it."""

    @property
    def count(self) -> int:
        """Number of strips kept so far."""
        return self.numbers[-1] + 1 if self.numbers else 0

    def frames(self) -> Iterator[tuple[int, Image]]:
        """Read the video: give for each frame the number of the strip that stands for it, and that strip.

        Raises ContractError for a strip unlike the first in shape or type.
        """
        kept, number = None, -1
        for strip in self._strips:
            if kept is not None and (strip.shape, strip.dtype) != (kept.shape, kept.dtype):
                raise ContractError(
                    f"All strips must be alike, got {strip.dtype} {strip.shape} after {kept.dtype} {kept.shape}."
                )
            if kept is None or not self._alike(kept, strip):
                kept, number = strip.copy(), number + 1
            self.numbers.append(number)
            yield number, kept

    def __iter__(self) -> Iterator[Image]:
        """Read the video: give each kept strip once, in an array of its own."""
        last = -1
        for number, strip in self.frames():
            if number != last:
                yield strip
            last = number

    def for_each_frame(self, made: Iterable[T]) -> Iterator[tuple[int, T]]:
        """Give for each frame the number of its strip and what was made of it; `made` has one for each kept strip.

        A kept strip's last frame is known when the next strip is kept: what was made is given no sooner.
        """
        frame = 0
        for number, (item, _) in enumerate(pairwise(chain(made, (None,)))):
            assert item is not None  # only the last is
            while frame < len(self.numbers) and self.numbers[frame] == number:
                yield number, item
                frame += 1
