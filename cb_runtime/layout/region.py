"""Where a video's captions are, told from text boxes seen in sampled frames.

No text is read; captions are told from other text by how they behave over the samples:

1. A small text near a corner that is at the same place in most samples is a logo or a clock.
2. A row of text that touches the left or right edge of the frame is a ticker: captions keep a margin.
3. What is left is joined to lines, and lines above each other to blocks of one caption. Captions return to the same
   height with changing widths, so the height that most caption-like blocks share is theirs; scene text does not return.
4. The region covers every block at that height, with padding, and is widened to what captions not sampled may need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from cb_runtime.contract import ANCHORS
from cb_runtime.geometry import Box
from cb_runtime.layout.blocks import Block, blocks_of, distinct, union
from cb_runtime.layout.overlays import without_overlays

VERTICAL_PADDING = 0.2
"""Added above and below, in heights of a line: outlines, shadows, and accents that no sample showed."""

HORIZONTAL_PADDING = 0.5
"""Added left and right, in heights of a line."""

MIN_WIDTH = 0.7
"""Least width of a detected region as a share of the frame: a full line of 42 characters at the usual size."""

MAX_WIDTH = 0.9
"""Width up to which a region is widened for captions not seen: the title-safe area of a frame."""

FULL_WIDTH = 0.3
"""Text at least this wide, as a share of the frame, counts fully as a caption."""

MIN_HEIGHT = 0.04
"""Least height of a detected region as a share of the frame."""

ALIGNED = 0.03
"""Lines this close to the captions' anchor, as a share of the frame's width, are in line with them."""

CENTRE_TOLERANCE = 0.1
"""A region whose centre is off the frame's by no more than this share of its width counts as centred."""


@dataclass(frozen=True)
class CaptionRegion:
    """The caption region of one video."""

    region: Box
    anchor: str
    """One of `ANCHORS`: the side of captions that stays in place."""


def anchor_of_region(region: Box, frame_width: int) -> str:
    """Return the anchor that a region's place in the frame suggests, when nothing is known of its captions."""
    offset = (region.left + region.right) / 2 / frame_width - 0.5
    return "center" if abs(offset) <= CENTRE_TOLERANCE else "left" if offset < 0 else "right"


def caption_region(seen: Sequence[Sequence[Box]], frame_width: int, frame_height: int) -> CaptionRegion | None:
    """Return where captions are, given the text boxes seen in each sampled frame; None when no box is a caption's."""
    samples = without_overlays(seen, frame_width, frame_height)
    blocks = [block for number, boxes in enumerate(samples) for block in blocks_of(boxes, number)]
    captions = _captions(blocks, frame_width, frame_height)
    if not captions:
        return None
    anchor = _anchor(captions, frame_width)
    return CaptionRegion(_region(captions, anchor, frame_width, frame_height), anchor)


def _captions(blocks: list[Block], frame_width: int, frame_height: int) -> list[Block]:
    """Return the blocks at the height that scores best as that of captions."""
    groups = [[other for other in blocks if other.shares_height(block)] for block in blocks]
    return max(groups, key=lambda group: _score(group, frame_width, frame_height), default=[])


def _score(group: list[Block], frame_width: int, frame_height: int) -> float:
    """Rate how much a group of blocks at one height looks like captions.

    The sum of what is seen there, each different block once (a text that stays is one), wide ones more; more when seen
    often, in the middle from left to right, low or high in the frame, and with one side or the centre in line.
    """
    changing = distinct(group)
    seen = sum(min(1.0, block.box.width / (FULL_WIDTH * frame_width)) for block in changing)
    often = 1 + 0.05 * len({block.sample for block in group})
    centred = 1.5 if abs(median(block.x_centre for block in group) / frame_width - 0.5) <= CENTRE_TOLERANCE else 1.0
    height = median(block.y_centre for block in group) / frame_height
    place = 1.3 if height >= 2 / 3 else 1.0 if height <= 1 / 4 else 0.7
    in_line = max(0.2, 1 - 3 * min(_spreads(changing).values()) / frame_width)
    return seen * often * centred * place * in_line


def _spreads(blocks: list[Block]) -> dict[str, float]:
    """Return how far, in pixels, the sides and centres of lines stray from their median."""
    lines = [line for block in blocks for line in block.lines]
    return {anchor: _spread([_place(line, anchor) for line in lines]) for anchor in ANCHORS}


def _spread(places: Sequence[float]) -> float:
    middle = median(places)
    return median(abs(place - middle) for place in places)


def _place(box: Box, anchor: str) -> float:
    return box.left + (box.right - box.left) * ANCHORS.index(anchor) / (len(ANCHORS) - 1)


def _anchor(captions: list[Block], frame_width: int) -> str:
    """Return the side that stays in place while the widths of lines change; by place when nothing changes."""
    spreads = _spreads(distinct(captions))
    tolerance = 0.01 * frame_width
    steady = [anchor for anchor, spread in spreads.items() if spread <= min(spreads.values()) + tolerance]
    if len(steady) == 1:
        return steady[0]
    by_place = anchor_of_region(union([block.box for block in captions]), frame_width)
    return by_place if by_place in steady else min(spreads, key=spreads.__getitem__)


def _region(captions: list[Block], anchor: str, frame_width: int, frame_height: int) -> Box:
    line_height = median(line.height for block in captions for line in block.lines)
    rows = union(_aligned_lines(captions, anchor, frame_width))
    left, right = _horizontal(captions, anchor, frame_width, HORIZONTAL_PADDING * line_height)
    padding = max(VERTICAL_PADDING * line_height, (MIN_HEIGHT * frame_height - rows.height) / 2)
    top, bottom = max(0, round(rows.top - padding)), min(frame_height, round(rows.bottom + padding))
    return Box(max(0, round(left)), top, min(frame_width, round(right)), bottom)


def _aligned_lines(captions: list[Block], anchor: str, frame_width: int) -> list[Box]:
    """Return the lines in line with the anchor or with another line of their block.

    What is left out is scene text that happened to be just above or below a caption.
    """
    lines = [line for block in captions for line in block.lines]
    middle = median(_place(line, anchor) for line in lines)
    tolerance = ALIGNED * frame_width

    def with_anchor(box: Box) -> bool:
        return abs(_place(box, anchor) - middle) <= tolerance

    def with_block(line: Box, block: Block) -> bool:
        mates = [other for other in block.lines if other != line]
        return any(abs(_place(line, side) - _place(mate, side)) <= tolerance for mate in mates for side in ANCHORS)

    found = [
        line
        for block in captions
        for line in block.lines
        if with_anchor(line) or with_anchor(block.box) or with_block(line, block)
    ]
    return found or lines


def _horizontal(captions: list[Block], anchor: str, frame_width: int, padding: float) -> tuple[float, float]:
    """Return left and right: all captions seen, and from the anchor outward what wider ones may need."""
    seen = union([block.box for block in captions])
    wide = _width_foreseen(captions, frame_width)
    if anchor == "center":
        centre = median(block.x_centre for block in captions)
        reach = max(wide / 2, centre - seen.left, seen.right - centre) + padding
        return centre - reach, centre + reach
    if anchor == "left":
        return seen.left - padding, max(seen.right, seen.left + wide) + padding
    return min(seen.left, seen.right - wide) - padding, seen.right + padding


def _width_foreseen(captions: list[Block], frame_width: int) -> float:
    """Return the width in pixels that the widest caption of the whole video is expected to have."""
    count = len(distinct(captions))
    widest = max(block.box.width for block in captions)
    # Of n widths drawn evenly from [0, w], the widest is n / (n + 1) of w on average.
    return max(MIN_WIDTH * frame_width, min(MAX_WIDTH * frame_width, widest * (count + 1) / count))
