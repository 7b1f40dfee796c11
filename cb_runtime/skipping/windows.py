"""A video in windows of some frames, with the steps at which something may have come or gone.

Where a caption comes or goes, blocks of the strip change at once, by more than is usual there: whatever moves behind it
moves much alike from step to step. Cuts and jerks are sudden too; that costs work and loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cb_runtime.skipping.likeness import Blocks, KeptStrips, block_differences
from cb_runtime.video.types import Image

SUDDEN_FACTOR, SUDDEN_DIFFERENCE, SUDDEN_BLOCKS = 2.0, 8.0, 8
"""A step is sudden when so many blocks, which overlap, differ by more than so many times what is usual and so many grey
levels: a letter that changes is seen by about ten."""

USUAL_REACH = 8
"""What is usual in a block is the median over so many steps before and after."""

MOST_FRAMES = 512
"""Longest window, in frames: bounds the strips and features that are held."""


@dataclass(frozen=True, eq=False)
class SuddenStep:
    """A step from frame to frame in which something may have come or gone."""

    blocks: NDArray[np.bool_]
    """bool, as `block_differences` has them: those that change suddenly."""
    usual: Blocks
    """float32 grey levels: by how much each may differ without being sudden."""


@dataclass(frozen=True, eq=False)
class Window:
    """Some frames of a video."""

    strips: Sequence[tuple[int, Image]]
    """Of each frame the number of the strip that stands for it, and that strip."""
    sudden: Mapping[int, SuddenStep]
    """Of the steps to these frames that are sudden, by the frame's place in `strips`: what changes."""

    def __len__(self) -> int:
        return len(self.strips)


def windows_of(kept: KeptStrips, size: int) -> Iterator[Window]:
    """Read a video: give its frames, so many at a time, and which of them differ suddenly from the one before."""
    frames = kept.frames()
    before: list[Image] = []
    while strips := list(islice(frames, size)):
        sudden = sudden_steps([*before, *(strip for _, strip in strips)])
        yield Window(strips, {step + (not before): what for step, what in sudden.items()})
        before = [strips[-1][1]]


def sudden_steps(strips: Sequence[Image]) -> dict[int, SuddenStep]:
    """Return what changes in those of the steps between strips that are sudden, by number.

    A strip may stand for many frames.
    """
    if len(strips) < 2:
        return {}
    nothing = np.zeros_like(block_differences(strips[0], strips[0]))
    steps = np.stack([nothing if one is other else block_differences(one, other) for one, other in pairwise(strips)])
    around = np.pad(steps, ((USUAL_REACH, USUAL_REACH), (0, 0), (0, 0)), mode="symmetric")
    usual = SUDDEN_FACTOR * np.median(sliding_window_view(around, 2 * USUAL_REACH + 1, axis=0), axis=-1)
    usual += SUDDEN_DIFFERENCE
    blocks = steps > usual
    sudden = np.flatnonzero(np.count_nonzero(blocks, axis=(1, 2)) >= SUDDEN_BLOCKS)
    return {int(step): SuddenStep(blocks[step], usual[step]) for step in sudden}


def comes_and_goes(steps: Sequence[SuddenStep], first: Image, last: Image) -> bool:
    """Tell whether something that changed in sudden steps is undone between the first and the last strip."""
    changed = np.logical_or.reduce([step.blocks for step in steps])
    usual = np.maximum.reduce([step.usual for step in steps])
    undone = changed & (block_differences(first, last) <= usual)
    return bool(np.count_nonzero(undone) >= SUDDEN_BLOCKS)
