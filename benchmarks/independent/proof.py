"""Whether the encoded video shows its captions on the frames that the ground truth names.

A caption's letters are opaque: while it is shown, the decoded pixels under its letters keep their colour whatever the
background does. So they must take that colour on exactly the first true frame of each cut, and lose it after the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from ffmpeg import Gray
from measure import Shown
from numpy.typing import NDArray

from cb_runtime.geometry import Box

_AROUND = 3
"""Frames looked at before and after a cut."""
_CONCLUSIVE = 4.0
"""Mean grey levels by which letters must stand out of what was there before for a verdict."""


_FEWEST = 12
"""Pixels that a verdict needs."""


@dataclass(frozen=True)
class Proof:
    """What the encoded video says of a ground truth."""

    agreeing: int
    """Cuts whose letters come or go on the true frame."""
    inconclusive: int
    """Cuts that cannot be seen so: letters hardly differ from what is behind them, or compression smears them."""
    disagreeing: tuple[tuple[int, int], ...]
    """True frame and frame of the largest change, of the others."""


@dataclass(frozen=True, eq=False)
class _Cut:
    """A caption that comes or goes at once."""

    frame: int
    letters: NDArray[np.bool_]
    """Pixels of the region that only this caption covers at this cut."""
    comes: bool

    def distances(self, pictures: dict[int, Gray]) -> dict[int, float]:
        """Return how far the pixels are from their colour while shown, by steps away from the cut into the caption.

        Step 0 is the caption's first frame (its last, if it goes), step -1 the frame without it.
        """
        frames = {step: self.frame + step if self.comes else self.frame - 1 - step for step in range(-_AROUND, 3)}
        values = {step: pictures[at][self.letters].astype(np.float64) for step, at in frames.items() if at in pictures}
        return {step: float(np.abs(value - values[1]).mean()) for step, value in values.items() if step != 1}


def prove(video: Path, region: Box, shown: Sequence[Shown]) -> Proof:
    """Look at the decoded frames around each cut."""
    cuts = list(_cuts(shown, region))
    wanted = {cut.frame + step for cut in cuts for step in range(-_AROUND, _AROUND + 1)}
    pictures = _pictures(video, region, wanted)
    verdicts = [(cut.frame, _found(cut, cut.distances(pictures))) for cut in cuts]
    return Proof(
        sum(found == frame for frame, found in verdicts),
        sum(found is None for _, found in verdicts),
        tuple((frame, found) for frame, found in verdicts if found not in (frame, None)),
    )


def _found(cut: _Cut, distances: dict[int, float]) -> int | None:
    """Return the frame of the cut as the pixels tell it, None when they cannot."""
    if cut.letters.sum() < _FEWEST:
        return None
    if distances[-1] >= _CONCLUSIVE and distances[0] <= distances[-1] / 2:
        return cut.frame
    steps = {step: distances[step - 1] - distances[step] for step in (-2, -1, 0, 2) if step - 1 in distances}
    steps[1] = distances[0]
    largest = max(steps, key=lambda step: steps[step])
    if steps[largest] < 2 * _CONCLUSIVE or distances[-1] < _CONCLUSIVE:
        return None
    return cut.frame + largest if cut.comes else cut.frame - largest


def _cuts(shown: Sequence[Shown], region: Box) -> Iterator[_Cut]:
    rows, columns = slice(region.top, region.bottom), slice(region.left, region.right)
    masks = [caption.letters[rows, columns] for caption in shown]
    for number, caption in enumerate(shown):
        before = masks[number - 1] if number and shown[number - 1].last_frame >= caption.start_frame - 2 else None
        after = number + 1 < len(shown) and shown[number + 1].first_frame <= caption.end_frame + 1
        sides = (
            (caption.start_frame, before, caption.fade_in, True),
            (caption.end_frame, masks[number + 1] if after else None, caption.fade_out, False),
        )
        for frame, neighbour, fade, comes in sides:
            letters = masks[number] if neighbour is None else masks[number] & ~neighbour
            if fade is None and letters.any():
                yield _Cut(frame, letters, comes)


def _pictures(video: Path, region: Box, wanted: set[int]) -> dict[int, Gray]:
    """Decode a video and return the luma of the region in the frames wanted."""
    with av.open(str(video)) as container:
        decoded = enumerate(container.decode(video=0))
        return {frame: _luma(picture, region).copy() for frame, picture in decoded if frame in wanted}


def _luma(frame: av.VideoFrame, region: Box) -> Gray:
    plane = frame.planes[0]
    rows = np.asarray(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[region.top : region.bottom, region.left : region.right]
