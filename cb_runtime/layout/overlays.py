"""Text that is in a video but is no caption: tickers, logos and clocks."""

from __future__ import annotations

from collections.abc import Sequence

from cb_runtime.geometry import Box
from cb_runtime.layout.blocks import lines_of, rows_of, same_place, same_row, union

TALLEST_LINE = 0.2
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


def without_overlays(seen: Sequence[Sequence[Box]], frame_width: int, frame_height: int) -> list[list[Box]]:
    """Return the lines of text of each sampled frame without tickers, logos, clocks and what is too tall for a line."""
    low = [[box for box in boxes if box.height <= TALLEST_LINE * frame_height] for boxes in seen]
    # Logos first: a clock at the edge must not make a caption beside it part of a ticker.
    return _without_tickers(_without_logos([lines_of(boxes) for boxes in low], frame_width, frame_height), frame_width)


def _without_logos(samples: list[list[Box]], frame_width: int, frame_height: int) -> list[list[Box]]:
    logos = {
        line
        for lines in samples
        for line in lines
        if _in_corner(line, frame_width, frame_height) and _stays(line, samples)
    }
    return [[line for line in lines if line not in logos] for lines in samples]


def _without_tickers(samples: list[list[Box]], frame_width: int) -> list[list[Box]]:
    rows_seen = [rows_of(lines) for lines in samples]
    rows = [union(row) for sample in rows_seen for row in sample]
    crossing = [row for row in rows if _crosses_edge(row, frame_width)]
    return [
        [line for row in sample for line in row if not _is_ticker(union(row), rows, crossing)] for sample in rows_seen
    ]


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
