"""Text that is in a video but is no caption: tickers, logos and clocks, pages of text and textures taken for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cb_runtime.geometry import Box
from cb_runtime.layout.blocks import lines_of, overlap, rows_of, same_place, same_row, same_size, union

TALLEST_LINE = 0.25
"""Text taller than this share of the frame's height is no caption: a title, or a shape taken for text."""

EDGE = 0.01
"""Text this close to the left or right edge, as a share of the frame's width, runs across it."""

TICKER_SHARE = 0.3
"""A row that reaches the edges in more than this share of the samples that show it is a ticker's."""

MIN_RECURRENCES = 3
"""In fewer samples nothing can be said about whether a text stays."""

STAYING_SHARE = 0.5
"""A logo or clock is found in at least this share of samples."""

DRIFT = 0.5
"""How far the sides of a clock move as its digits change, in heights of its line."""

SMALL = 0.25
"""Widest logo or clock as a share of the frame's width."""

CORNER_X = 0.3
"""Corners begin at this share of the frame's width from its sides."""

CORNER_Y = 0.25
"""Corners begin at this share of the frame's height from top and bottom."""


PAGE = 0.35
"""Share of a frame that captions, logos and a ticker together do not reach: text covers more on a page, or where OCR
took a texture for text."""

SAME_WIDTH = 0.2
"""A text that moves through the frame keeps its width to this share."""

HEIGHTS = 5
"""At so many different heights captions are not: a small text of one size that is seen there moves."""

CORNER_REASON = "a small text that stays near a corner, as logos and clocks do"
MOVING_REASON = "a small text of one size that moves through the frame, as logos do"
TICKER_REASON = "text reaches the frame's left or right edge, as tickers do"


@dataclass(frozen=True)
class Overlay:
    """Text that is no caption."""

    box: Box
    reason: str


def without_overlays(
    seen: Sequence[Sequence[Box]], frame_width: int, frame_height: int
) -> tuple[list[list[Box]], list[Overlay]]:
    """Return the lines of sampled frames that may be captions, and the logos, clocks and tickers left out.

    What is too tall for a line is left out as well, and pages of text, as whole frames, when others show text too.
    """
    low = [[box for box in boxes if box.height <= TALLEST_LINE * frame_height] for boxes in seen]
    # Logos first: a clock at the edge must not make a caption beside it part of a ticker, nor a logo part of its line.
    boxes, moving = _without_moving(_without_pages(low, frame_width * frame_height), frame_width)
    boxes, logos = _without_logos(boxes, frame_width, frame_height)
    lines, clocks = _without_logos([lines_of(sample) for sample in boxes], frame_width, frame_height)
    kept, tickers = _without_tickers(lines, frame_width)
    left_out = ((moving, MOVING_REASON), ([*logos, *clocks], CORNER_REASON), (tickers, TICKER_REASON))
    return kept, [overlay for boxes, reason in left_out for overlay in _overlays(boxes, reason)]


def _without_pages(samples: list[list[Box]], frame_area: int) -> list[list[Box]]:
    others = [boxes for boxes in samples if sum(box.width * box.height for box in boxes) <= PAGE * frame_area]
    return others if any(others) else samples


def _without_logos(samples: list[list[Box]], frame_width: int, frame_height: int) -> tuple[list[list[Box]], list[Box]]:
    logos = {
        line
        for lines in samples
        for line in lines
        if _in_corner(line, frame_width, frame_height) and _stays(line, samples)
    }
    return [[line for line in lines if line not in logos] for lines in samples], sorted(logos)


def _without_moving(samples: list[list[Box]], frame_width: int) -> tuple[list[list[Box]], list[Box]]:
    moving = {
        box
        for boxes in samples
        for box in boxes
        if box.width <= SMALL * frame_width and _moves([_of_size(box, others) for others in samples])
    }
    return [[box for box in boxes if box not in moving] for boxes in samples], sorted(moving)


def _of_size(box: Box, others: Sequence[Box]) -> list[Box]:
    return [
        other
        for other in others
        if abs(other.width - box.width) <= SAME_WIDTH * box.width and same_size(other.height, box.height)
    ]


def _moves(seen: Sequence[Sequence[Box]]) -> bool:
    """Tell whether what has one size in each sample is one text, seen in most, at more heights than captions have."""
    alone = [boxes[0] for boxes in seen if len(boxes) == 1]
    if len(alone) < max(HEIGHTS, STAYING_SHARE * len(seen)) or 2 * len(alone) < sum(map(len, seen)):
        return False
    heights: list[Box] = []
    for box in sorted(alone, key=lambda box: box.top):
        if not heights or box.top >= heights[-1].bottom:
            heights.append(box)
    return len(heights) >= HEIGHTS


def _without_tickers(samples: list[list[Box]], frame_width: int) -> tuple[list[list[Box]], list[Box]]:
    rows_seen = [rows_of(lines) for lines in samples]
    rows = [union(row) for sample in rows_seen for row in sample]
    crossing = [row for row in rows if _crosses_edge(row, frame_width)]
    tickers = {row for row in set(rows) if _is_ticker(row, rows, crossing)}
    kept = [[line for row in sample if union(row) not in tickers for line in row] for sample in rows_seen]
    return kept, sorted(tickers)


def _overlays(boxes: Iterable[Box], reason: str) -> list[Overlay]:
    """Join boxes that touch, of whatever frames, to one overlay each."""
    joined: list[Box] = []
    for box in boxes:
        touching = [other for other in joined if overlap(box, other)]
        joined = [other for other in joined if other not in touching] + [union([box, *touching])]
    return [Overlay(box, reason) for box in joined]


def _is_ticker(row: Box, rows: list[Box], crossing: list[Box]) -> bool:
    # A short ticker is between the edges in some samples: what happens at its height in the others tells.
    crossings = sum(same_row(row, other) for other in crossing)
    return row in crossing or crossings > TICKER_SHARE * sum(same_row(row, other) for other in rows)


def _crosses_edge(row: Box, frame_width: int) -> bool:
    margin = EDGE * frame_width
    return row.left <= margin or row.right >= frame_width - margin


def _in_corner(line: Box, frame_width: int, frame_height: int) -> bool:
    sideways = abs((line.left + line.right) / 2 / frame_width - 0.5) >= 0.5 - CORNER_X
    high_or_low = abs((line.top + line.bottom) / 2 / frame_height - 0.5) >= 0.5 - CORNER_Y
    return line.width <= SMALL * frame_width and sideways and high_or_low


def _stays(line: Box, samples: Sequence[Sequence[Box]]) -> bool:
    recurrences = sum(any(same_place(line, other, DRIFT) for other in lines) for lines in samples)
    return recurrences >= max(MIN_RECURRENCES, STAYING_SHARE * len(samples))
