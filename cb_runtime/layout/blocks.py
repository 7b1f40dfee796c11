"""Text boxes joined to lines, and lines to the block of one caption."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from cb_runtime.geometry import Box

WORD_GAP = 1.5
"""Boxes in a row with a gap of at most this many heights are one line."""

LINE_GAP = 0.9
"""Lines above each other with a gap of at most this many heights are one block."""

JITTER = 0.3
"""How far OCR's boxes of the same line stray from sample to sample, in heights of the line."""

HEIGHT_RATIO = 0.6
"""Lines whose heights differ by more than this ratio are not of one caption; ascenders alone make up to 0.7."""


@dataclass(frozen=True)
class Block:
    """The lines of one caption in one sampled frame."""

    sample: int
    """Number of the sampled frame."""
    box: Box
    lines: tuple[Box, ...]
    """At least one, from top to bottom."""

    @cached_property
    def line_height(self) -> float:
        """Median height of its lines in pixels."""
        return median(line.height for line in self.lines)

    @property
    def x_centre(self) -> float:
        """Horizontal centre in pixels."""
        return (self.box.left + self.box.right) / 2

    @property
    def y_centre(self) -> float:
        """Vertical centre in pixels."""
        return (self.box.top + self.box.bottom) / 2

    def shares_height(self, other: Block) -> bool:
        """Tell whether half of the lower of the two is beside the other, with lines of about the same size."""
        return beside(self.box, other.box) and same_size(self.line_height, other.line_height)


def union(boxes: Iterable[Box]) -> Box:
    """Return the smallest box around at least one box."""
    left, top, right, bottom = zip(*(box.as_tuple() for box in boxes), strict=True)
    return Box(min(left), min(top), max(right), max(bottom))


def rows_of(boxes: Sequence[Box]) -> list[list[Box]]:
    """Group the boxes of one frame into rows: boxes at the same height, wherever they are from left to right."""
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: (box.top + box.bottom, box.left)):
        row = next((row for row in rows if any(same_row(box, other) for other in row)), None)
        rows.append([box]) if row is None else row.append(box)
    return rows


def lines_of(boxes: Sequence[Box]) -> list[Box]:
    """Join the boxes of one frame to lines of text, from top to bottom."""
    lines: list[Box] = []
    for row in rows_of(boxes):
        line: list[Box] = []
        for box in sorted(row):
            if line and box.left - max(part.right for part in line) > WORD_GAP * box.height:
                lines.append(union(line))
                line = []
            line.append(box)
        lines.append(union(line))
    return sorted(lines, key=lambda line: line.top)


def blocks_of(boxes: Sequence[Box], sample: int) -> list[Block]:
    """Join the boxes of one frame to blocks of lines that belong together."""
    blocks: list[list[Box]] = []
    for line in lines_of(boxes):
        block = next((block for block in blocks if _continues(block[-1], line)), None)
        blocks.append([line]) if block is None else block.append(line)
    return [Block(sample, union(lines), tuple(lines)) for lines in blocks]


def distinct(blocks: Sequence[Block]) -> list[Block]:
    """Return each block once that several samples show at the same place."""
    found: list[Block] = []
    for block in blocks:
        if not any(same_block(block, other) for other in found):
            found.append(block)
    return found


def samples_from_boxes(boxes: Sequence[Box]) -> list[list[Box]]:
    """Share out boxes of unknown samples: boxes of one frame do not overlap, so each goes where it overlaps none."""
    samples: list[list[Box]] = []
    for box in boxes:
        sample = next((sample for sample in samples if not any(overlap(box, other) for other in sample)), None)
        samples.append([box]) if sample is None else sample.append(box)
    return samples


def same_row(one: Box, other: Box) -> bool:
    """Tell whether two boxes, of one frame or of two, are at the same height and of about the same size."""
    return beside(one, other) and same_size(one.height, other.height)


def beside(one: Box, other: Box) -> bool:
    """Tell whether half of the lower of the two boxes is at the other's height."""
    common = min(one.bottom, other.bottom) - max(one.top, other.top)
    return common >= 0.5 * min(one.height, other.height)


def same_size(one: float, other: float) -> bool:
    """Tell whether two heights of lines may be of one caption."""
    return min(one, other) >= HEIGHT_RATIO * max(one, other)


def _continues(upper: Box, lower: Box) -> bool:
    gap = lower.top - upper.bottom
    apart = lower.left >= upper.right or upper.left >= lower.right
    return gap <= LINE_GAP * min(upper.height, lower.height) and not apart and same_size(upper.height, lower.height)


def same_block(one: Block, other: Block) -> bool:
    """Tell whether two blocks, of whatever samples, show the same text as far as its place tells."""
    if len(one.lines) != len(other.lines):
        return False
    return all(same_place(line, wanted, JITTER) for line, wanted in zip(one.lines, other.lines, strict=True))


def same_place(one: Box, other: Box, tolerance: float) -> bool:
    """Tell whether no side of two lines differs by more than `tolerance` heights of a line."""
    allowed = tolerance * max(one.height, other.height)
    return all(abs(a - b) <= allowed for a, b in zip(one.as_tuple(), other.as_tuple(), strict=True))


def overlap(one: Box, other: Box) -> bool:
    """Tell whether two boxes have pixels in common."""
    return min(one.right, other.right) > max(one.left, other.left) and min(one.bottom, other.bottom) > max(
        one.top, other.top
    )
