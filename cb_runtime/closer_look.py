"""A closer look at changes in doubt: at pieces of the caption region, each brought to a strip of its own.

A strip holds the whole region in 48 x 480 pixels. Two lines are small in it and a long one is squeezed, so a letter
that changes may be a pixel wide, and what moves behind thin strokes changes as much. A piece holds part of one line, up
to twice as large. Asked about the pieces of a frame before and a frame after, the same model is sure of the piece that
holds a change, and where there is none it is sure of all. Few changes are in doubt, so it costs little: their frames
are read again, by seeking. A region that is one piece itself, a short line, has shown all it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from cb_runtime.decoding import pair_evidence
from cb_runtime.doubts import Doubt
from cb_runtime.features import VideoInputs, strip, video_inputs
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout
from cb_runtime.pipeline import counted
from cb_runtime.scoring import pair_model
from cb_runtime.session import Session
from cb_runtime.skipping.looked import Pair, PairModel
from cb_runtime.trellis import DIFFERENT, EMPTY_EMPTY, EMPTY_VALID, SAME, VALID_EMPTY
from cb_runtime.video.types import Frame, Image

OFFSETS = (1, 4)
"""Frames that lie between a change and each of the two that are compared across it: near it, and further from what
fades or moves there. Only within the captions on both sides."""

ROWS = 3
"""Most lines that a region is taken to hold."""
UNKNOWN_ROWS = (1, 2)
"""For how many lines a region is cut whose text boxes are not known, one given by hand."""
LINE_HEIGHT, LINE_AIR = 1.15, 0.2
"""Height of a line of text, and of the air around all lines, in heights of a text box."""
LONGEST = 9.0
"""Longest piece, in its heights: a strip is ten times as long as high, and pieces overlap."""
OVERLAP = 0.07
"""Share of a piece's size by which it reaches into the next on each side, so that no letter is cut in both."""

TOGETHER = 16
"""Doubts looked at in one go: enough to fill batches."""

Strips = tuple[Image, ...]
"""Of one frame: the strip of each piece."""


def pieces_of(layout: CaptionLayout) -> tuple[Box, ...]:
    """Return the pieces of the caption region: each line cut into parts that a strip need not squeeze.

    How many lines there are is told by the height of the text boxes in the region; where there are none it is cut for
    one line and for two.
    """
    region = layout.region
    heights = [box.height for box in layout.boxes if _mostly_inside(box, region)]
    return tuple(
        Box(left, top, right, bottom)
        for rows in ([_rows(region, float(np.median(heights)))] if heights else UNKNOWN_ROWS)
        for top, bottom in _cut(region.top, region.bottom, rows)
        for left, right in _cut(region.left, region.right, math.ceil(region.width * rows / (region.height * LONGEST)))
    )


def _rows(region: Box, text: float) -> int:
    """Return how many lines of text of some height a region holds."""
    return min(max(round((region.height - LINE_AIR * text) / (LINE_HEIGHT * text)), 1), ROWS)


def _mostly_inside(box: Box, region: Box) -> bool:
    """Tell whether more than half of a box's height, and some of its width, lies in the region."""
    high = min(box.bottom, region.bottom) - max(box.top, region.top)
    wide = min(box.right, region.right) - max(box.left, region.left)
    return high > box.height / 2 and wide > 0


def _cut(first: int, last: int, count: int) -> Iterator[tuple[int, int]]:
    """Cut `[first, last)` into equal parts that overlap."""
    size = (last - first) / count
    for number in range(count):
        begin, end = first + number * size, first + (number + 1) * size
        yield max(round(begin - OVERLAP * size), first), min(round(end + OVERLAP * size), last)


def compared(doubt: Doubt) -> list[tuple[int, int]]:
    """Return the pairs of frames to compare for a doubt: at `OFFSETS`, where the captions last that long."""
    near = ((doubt.frame - 1 - offset, doubt.frame + offset) for offset in OFFSETS)
    return [pair for pair in near if pair[0] >= doubt.first and pair[1] < doubt.stop]


class CloserLook:
    """Looks at the pieces of one video's caption region.

    Args:
        session: The model.
        layout: The video's.
        font_embedding: The video's, as in its `VideoInputs`.
        batch_size: Pairs per run of the model.
    """

    def __init__(
        self, session: Session, layout: CaptionLayout, font_embedding: NDArray[np.float32], batch_size: int
    ) -> None:
        contract = session.metadata
        self._region, self._anchor, self._preprocessing = layout.region, layout.anchor, contract.preprocessing
        self._pieces = pieces_of(layout)

        def inputs(piece: Box) -> VideoInputs:
            own = replace(layout, region=piece)
            return video_inputs(own, contract.preprocessing, contract.ocr_viz_variant, font_embedding)

        self._models = [pair_model(session, inputs(piece), batch_size) for piece in self._pieces]

    def strips(self, picture: Image) -> Strips:
        """Return the strips of the pieces of one frame's caption region."""
        left, top = self._region.left, self._region.top
        cut = (picture[box.top - top : box.bottom - top, box.left - left : box.right - left] for box in self._pieces)
        return tuple(strip(np.ascontiguousarray(piece), self._preprocessing, self._anchor) for piece in cut)

    def results(
        self, doubts: Sequence[Doubt], frames: Iterable[Frame], times: Sequence[int]
    ) -> Iterator[tuple[int, float]]:
        """Give for each doubt its frame and how much surer the surest piece is of a change than of none.

        That is in natural log units and in the mean over the pairs compared. A doubt whose frames cannot be read again
        has none.

        Args:
            doubts: In time order.
            frames: Those that `compared` names, in time order, cropped to the caption region.
            times: PTS of every frame of the video.
        """
        ready = self._ready(doubts, frames, times)
        while together := list(islice(ready, TOGETHER)):
            counted(len(together))
            yield from self._answers(together)

    def _ready(
        self, doubts: Sequence[Doubt], frames: Iterable[Frame], times: Sequence[int]
    ) -> Iterator[tuple[int, list[tuple[Strips, Strips]]]]:
        """Give doubts with the strips to compare, as soon as their frames are there."""
        held: dict[int, Strips] = {}
        coming = iter(frames)
        newest = -math.inf
        for doubt in doubts:
            pairs = compared(doubt)
            wanted = {times[number] for pair in pairs for number in pair}
            while newest < max(wanted, default=newest) and (frame := next(coming, None)) is not None:
                held[frame.pts], newest = self.strips(frame.image), frame.pts
            if pairs and wanted <= held.keys():
                yield doubt.frame, [(held[times[one]], held[times[other]]) for one, other in pairs]
            # What comes next compares no frame further back than this.
            held = {pts: strips for pts, strips in held.items() if pts >= times[max(doubt.frame - 1 - max(OFFSETS), 0)]}

    def _answers(self, doubts: Sequence[tuple[int, list[tuple[Strips, Strips]]]]) -> Iterator[tuple[int, float]]:
        of_pieces = [self._of_piece(number, doubts) for number in range(len(self._pieces))]
        for (frame, _), surer in zip(doubts, zip(*of_pieces, strict=True), strict=True):
            yield frame, max(surer)

    def _of_piece(self, piece: int, doubts: Sequence[tuple[int, list[tuple[Strips, Strips]]]]) -> list[float]:
        """Return, for each doubt, how much surer the pairs of one piece are of a change than of none."""
        pairs = [(one[piece], other[piece]) for _, compared_pairs in doubts for one, other in compared_pairs]
        probabilities = _both_ways(self._models[piece], pairs)
        evidence = pair_evidence(probabilities[0::2], probabilities[1::2])
        # A line that comes or goes within one of its pieces is a change too.
        changes = evidence[:, [DIFFERENT, EMPTY_VALID, VALID_EMPTY]].max(axis=1)
        surer = changes - evidence[:, [SAME, EMPTY_EMPTY]].max(axis=1)
        ends = np.cumsum([len(compared_pairs) for _, compared_pairs in doubts])
        return [float(part.mean()) for part in np.split(surer, ends[:-1])]


def _both_ways(model: PairModel, pairs: Sequence[tuple[Image, Image]]) -> NDArray[np.float32]:
    """Return the label probabilities of pairs of strips, each forward and then backward."""
    encoded = model.encoded(picture for pair in pairs for picture in pair)
    seen = [frame for batch in encoded for frame in zip(*batch, strict=True)]

    def asked() -> Iterator[Pair]:
        for number in range(len(pairs)):
            one, other = seen[2 * number], seen[2 * number + 1]
            yield (2 * number, 2 * number + 1), one[0], other[1]
            yield (2 * number + 1, 2 * number), other[0], one[1]

    return np.concatenate([answers for _, answers in model.answers(asked())])
