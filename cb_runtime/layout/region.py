"""Where a video's captions are, told from text boxes seen in sampled frames.

No text is read; captions are told from other text by how they behave over the samples:

1. A small text near a corner that is at the same place in most samples is a logo or a clock; one of the same size at
   many heights is a logo that moves.
2. A row of text that touches the left or right edge of the frame is a ticker: captions keep a margin.
3. What is left is joined to lines, and lines above each other to blocks of one caption. Captions return to the same
   height with changing widths and a side or the centre in line, so the height that most caption-like blocks share is
   theirs; scene text does not return, or is not in line.
4. The region lies close around every block at that height, because small text needs the pixels of the strip; it is
   widened by what the number of captions seen says of those not seen.
5. The same is asked of the blocks that are left: captions may be at a second place too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from cb_runtime.contract import ANCHORS
from cb_runtime.geometry import Box
from cb_runtime.layout.blocks import (
    LINE_GAP,
    Block,
    beside,
    blocks_of,
    distinct,
    overlap,
    same_block,
    same_place,
    same_size,
    union,
)
from cb_runtime.layout.overlays import DRIFT, MIN_RECURRENCES

VERTICAL_PADDING = 0.05
"""Added above and below, in heights of a line: OCR's boxes already go around outlines."""

HORIZONTAL_PADDING = 0.25
"""Added left and right, in heights of a line."""

FEW = 4
"""With fewer different captions seen, a region is at least `MIN_WIDTH` wide."""

MIN_WIDTH = 0.7
"""Width of a full line of 42 characters at the usual size, as a share of the frame."""

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


STAYING_DISCOUNT = 0.5
"""Text that is the same in all samples that show any at its height is rather a title than captions."""

NOT_IN_LINE = 0.08
"""Different texts whose sides and centres all stray more than this share of the frame's width are no captions."""

ENOUGH_TO_JUDGE = 4
"""Different texts from which on it counts that they are not in line."""

TALL_LINE = 1.35
"""A line taller than this many times the usual holds something beside it that was taken for text."""

LONG_LINE = 2.5
"""A line is at least this many times as wide as it is high, when its height alone is no reason to take it for one."""

FARTHEST_GAP = 2.0
"""What is not in line with captions is no part of them when it lies more than so many heights of a line beside them."""

HIGH, LOW = 1 / 4, 2 / 3
"""Shares of the frame's height above and below which captions usually are."""

MOST_REGIONS = 4
"""Regions told of; each further one looks less like captions."""


@dataclass(frozen=True)
class CaptionRegion:
    """A place in the frame where captions may be."""

    region: Box
    anchor: str
    """One of `ANCHORS`: the side of captions that stays in place."""
    score: float
    """How much it looks like captions, above 0; see `_score`."""
    different: int
    """Different texts seen there."""
    once: int
    """Those of them that only one sampled frame showed."""
    samples: int
    """Sampled frames that showed text there."""


def anchor_of_region(region: Box, frame_width: int) -> str:
    """Return the anchor that a region's place in the frame suggests, when nothing is known of its captions."""
    offset = (region.left + region.right) / 2 / frame_width - 0.5
    return "center" if abs(offset) <= CENTRE_TOLERANCE else "left" if offset < 0 else "right"


def caption_regions(samples: Sequence[Sequence[Box]], frame_width: int, frame_height: int) -> tuple[CaptionRegion, ...]:
    """Return the places where captions may be, the likeliest first; none overlaps another.

    `samples` are the lines of text in each sampled frame `without_overlays`.
    """
    blocks = [block for number, boxes in enumerate(samples) for block in blocks_of(boxes, number)]
    found: list[CaptionRegion] = []
    while len(found) < MOST_REGIONS and (best := _best_group(blocks, frame_width, frame_height)):
        score, captions = best
        anchor = _anchor(captions, frame_width)
        captions = _with_neighbours(captions, blocks, anchor, frame_width)
        region = _region(captions, anchor, frame_width, frame_height)
        different = distinct(captions)
        once = sum(sum(same_block(text, other) for other in captions) == 1 for text in different)
        count = len({block.sample for block in captions})
        found.append(CaptionRegion(region, anchor, score, len(different), once, count))
        blocks = [block for block in blocks if block not in captions and not overlap(block.box, region)]
    return tuple(found)


def _best_group(blocks: list[Block], frame_width: int, frame_height: int) -> tuple[float, list[Block]] | None:
    """Return the blocks at the height that scores best as that of captions, with the score; None when none does."""
    groups = {tuple(other for other in blocks if other.shares_height(block)): None for block in blocks}
    scores = [(_score(group, frame_width, frame_height), list(group)) for group in groups]
    best = max(scores, key=lambda scored: scored[0], default=(0.0, []))
    return best if best[0] > 0 else None


def _score(group: Sequence[Block], frame_width: int, frame_height: int) -> float:
    """Rate how much a group of blocks at one height looks like captions.

    The sum of what is seen there, each different block once (a text that stays is one, and is discounted), wide ones
    more; more when seen often, in the middle from left to right, low or high in the frame, and with one side or the
    centre in line. Many different blocks of which nothing is in line give 0.
    """
    changing = distinct(group)
    seen = sum(min(1.0, block.box.width / (FULL_WIDTH * frame_width)) for block in changing)
    samples = len({block.sample for block in group})
    staying = STAYING_DISCOUNT if len(changing) == 1 and samples >= MIN_RECURRENCES else 1.0
    often = 1 + 0.05 * samples
    centred = 1.5 if abs(median(block.x_centre for block in group) / frame_width - 0.5) <= CENTRE_TOLERANCE else 1.0
    height = median(block.y_centre for block in group) / frame_height
    place = 1.3 if height >= LOW else 1.0 if height <= HIGH else 0.7
    return seen * staying * often * centred * place * _in_line(changing, frame_width)


def _in_line(changing: list[Block], frame_width: int) -> float:
    lines, boxes = _spreads(changing), _spread_of([block.box for block in changing])
    spread = min(*lines.values(), *boxes.values()) / frame_width
    if spread > NOT_IN_LINE and len(changing) >= ENOUGH_TO_JUDGE:
        return 0.0
    return max(0.2, 1 - 3 * min(lines.values()) / frame_width)


def _with_neighbours(captions: list[Block], blocks: Sequence[Block], anchor: str, frame_width: int) -> list[Block]:
    """Return the captions with those of which OCR found only the line directly above or below the others."""
    rows = union([block.box for block in captions])
    height = median(line.height for block in captions for line in block.lines)
    middle = median(_place(block.box, anchor) for block in captions)
    known, shown = set(captions), {block.sample for block in captions}
    # What is seen together with captions and stays while they change is a title beside them.
    together = [block for block in blocks if block not in known and block.sample in shown]

    def belongs(block: Block) -> bool:
        gap = max(rows.top - block.box.bottom, block.box.top - rows.bottom)
        return (
            block not in known
            and len(block.lines) == 1
            and -0.5 * height <= gap <= LINE_GAP * height
            and same_size(block.line_height, height)
            and abs(_place(block.box, anchor) - middle) <= ALIGNED * frame_width
            and not any(same_place(block.box, other.box, DRIFT) for other in together)
        )

    return captions + [block for block in blocks if belongs(block)]


def _spreads(blocks: list[Block]) -> dict[str, float]:
    """Return how far, in pixels, the sides and centres of lines stray from their median."""
    return _spread_of([line for block in blocks for line in block.lines])


def _spread_of(boxes: Sequence[Box]) -> dict[str, float]:
    return {anchor: _spread([_place(box, anchor) for box in boxes]) for anchor in ANCHORS}


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
    lines = usual_lines(_aligned_lines(captions, anchor, frame_width))
    rows = union(lines if len(distinct(captions)) < FEW else _long_or_not_alone(lines))
    within = _within_reach(captions, anchor, frame_width, FARTHEST_GAP * line_height)
    left, right = _horizontal(within, anchor, frame_width, HORIZONTAL_PADDING * line_height)
    padding = max(VERTICAL_PADDING * line_height, (MIN_HEIGHT * frame_height - rows.height) / 2)
    top, bottom = max(0, round(rows.top - padding)), min(frame_height, round(rows.bottom + padding))
    return Box(max(0, round(left)), top, min(frame_width, round(right)), bottom)


def _aligned_lines(captions: list[Block], anchor: str, frame_width: int) -> list[Box]:
    """Return the lines in line with the anchor, or with another on the left or right side of their block.

    What is left out is scene text that happened to be just above or below a caption.
    """
    lines = [line for block in captions for line in block.lines]
    middle = median(_place(line, anchor) for line in lines)
    tolerance = ALIGNED * frame_width

    def with_block(line: Box, block: Block) -> bool:
        at_left = [other for other in block.lines if other.left - block.box.left <= tolerance]
        at_right = [other for other in block.lines if block.box.right - other.right <= tolerance]
        return any(line in side and len(side) > 1 for side in (at_left, at_right))

    found = [
        line
        for block in captions
        for line in block.lines
        if abs(_place(line, anchor) - middle) <= tolerance or with_block(line, block)
    ]
    return found or lines


def usual_lines(lines: list[Box]) -> list[Box]:
    """Return the lines without those too tall for the others, unless they are long and alone at their height."""
    tallest = TALL_LINE * median(line.height for line in lines)
    usual = [line for line in lines if line.height <= tallest]

    def alone(line: Box) -> bool:
        return line.width >= LONG_LINE * line.height and not any(beside(line, other) for other in usual)

    return [line for line in lines if line in usual or alone(line)]


def _long_or_not_alone(lines: list[Box]) -> list[Box]:
    """Return the lines without short ones at whose height no other text was seen: shapes that were taken for text."""

    def another_beside(line: Box) -> bool:
        return any(beside(line, other) and not same_place(line, other, DRIFT) for other in lines)

    return [line for line in lines if line.width >= LONG_LINE * line.height or another_beside(line)] or lines


def _within_reach(captions: list[Block], anchor: str, frame_width: int, gap: float) -> list[Block]:
    """Return the blocks without those neither in line with the anchor nor within a gap of all that are."""
    middle = median(_place(block.box, anchor) for block in captions)
    in_line = [block for block in captions if abs(_place(block.box, anchor) - middle) <= ALIGNED * frame_width]
    if not in_line:
        return captions
    whole = union(block.box for block in in_line)
    return [block for block in captions if whole.left - gap <= block.box.right and block.box.left <= whole.right + gap]


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
    widest = max(block.box.width for block in captions)
    count = len(distinct(captions))
    # Of n widths drawn evenly from [0, w], the widest is n / (n + 1) of w on average.
    foreseen = min(MAX_WIDTH * frame_width, widest * (count + 1) / count)
    return max(MIN_WIDTH * frame_width, foreseen) if count < FEW else foreseen
