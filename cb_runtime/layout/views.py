"""Which pictures of the captions to score: close around the text, and with room around it.

Close, small text has more pixels of the strip and long text is squeezed less; with room, captions wider than those
sampled are whole. Where both are scored, their log-probabilities can be averaged.
"""

from __future__ import annotations

from statistics import median

from cb_runtime.contract import ANCHORS
from cb_runtime.geometry import Box
from cb_runtime.layout.blocks import distinct_boxes, union
from cb_runtime.layout.layout import CaptionLayout
from cb_runtime.layout.region import usual_lines, width_foreseen

INSIDE = 0.8
"""A box counts as a caption's when this share of its area is in the region."""

VERTICAL_PADDING = 0.05
"""Added above and below the text, in heights of a box: OCR's boxes already go around outlines."""

HORIZONTAL_PADDING = 0.25
"""Added left and right, in heights of a box."""

FEW = 4
"""With fewer different lines seen, wider ones must be expected."""

WORTH_IT = 0.85
"""A close box is given when it has at most this share of the region's area."""


def views(layout: CaptionLayout) -> tuple[Box, ...]:
    """Return the boxes to score, in frame coordinates: close around the text inside the region, then the region itself.

    Only the region where no text was seen in it (a region given by hand), or where it is close already.
    """
    region = layout.region
    text = [box for box in layout.boxes if _share_inside(box, region) >= INSIDE]
    if not text:
        return (region,)
    height = median(box.height for box in text)
    rows = union(usual_lines(text))
    left, right = _columns(text, layout.anchor, HORIZONTAL_PADDING * height)
    close = Box(
        max(region.left, round(left)),
        max(region.top, round(rows.top - VERTICAL_PADDING * height)),
        min(region.right, round(right)),
        min(region.bottom, round(rows.bottom + VERTICAL_PADDING * height)),
    )
    worth_it = close.width * close.height <= WORTH_IT * region.width * region.height
    return (close, region) if worth_it else (region,)


def _share_inside(box: Box, region: Box) -> float:
    width = min(box.right, region.right) - max(box.left, region.left)
    height = min(box.bottom, region.bottom) - max(box.top, region.top)
    return max(0, width) * max(0, height) / (box.width * box.height)


def _columns(text: list[Box], anchor: str, padding: float) -> tuple[float, float]:
    """Return left and right of the text seen; when it is little, widened away from the anchor for what was not seen."""
    seen = union(text)
    count = len(distinct_boxes(text))
    more = width_foreseen(seen.width, count) - seen.width if count < FEW else 0
    share = ANCHORS.index(anchor) / (len(ANCHORS) - 1)
    return seen.left - more * share - padding, seen.right + more * (1 - share) + padding
