"""The picture of where text was seen in a video, drawn on the caption region.

Variants: `boundaries` draws outlines of boxes; `centers` discs at their centres; `both` both; `3d_channels` outlines,
discs and the distance to the nearest centre (in units of half the region's width, 255 at one and beyond) as R, G and B.
Brightness of outlines and discs grows with how often text was there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cb_runtime import opencv as cv2
from cb_runtime.contract import OCR_VIZ_VARIANTS
from cb_runtime.errors import ContractError
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout
from cb_runtime.video.types import Image

FAINTEST = 80
"""Brightness of text seen once in very many samples: clearly above black; text in all samples has 255."""

LINE = 2
"""Width of outlines in pixels of the strip: survives the averaging, and covers the jitter of boxes between samples."""

RADIUS = 4
"""Radius of discs in pixels of the strip: a disc is then a sixth of the strip high."""

Channel = NDArray[np.uint8]


def ocr_picture(layout: CaptionLayout, variant: str, strip_height: int) -> Image:
    """Draw the layout's boxes on its region: uint8 RGB `(region height, region width, 3)`; black without boxes.

    Lines and discs are as thick as they must be for a strip of `strip_height`. Raises ContractError for an unknown
    variant.
    """
    if variant not in OCR_VIZ_VARIANTS:
        raise ContractError(f"ocr_viz_variant must be one of {', '.join(OCR_VIZ_VARIANTS)}, got {variant!r}.")
    boxes = boxes_in_region(layout)
    if not boxes:
        return np.zeros((layout.region.height, layout.region.width, 3), np.uint8)
    scale = layout.region.height / strip_height
    return np.stack(_CHANNELS[variant](boxes, layout, scale), axis=-1)


def boxes_in_region(layout: CaptionLayout) -> list[Box]:
    """Return the parts of boxes that lie in the region, in coordinates of the region."""
    region = layout.region
    inside = []
    for box in layout.boxes:
        left, top = max(box.left, region.left), max(box.top, region.top)
        right, bottom = min(box.right, region.right), min(box.bottom, region.bottom)
        if left < right and top < bottom:
            inside.append(Box(left - region.left, top - region.top, right - region.left, bottom - region.top))
    return inside


def _outlines(boxes: list[Box], layout: CaptionLayout, scale: float) -> Channel:
    region = layout.region
    line = max(1, round(LINE * scale))
    counts = np.zeros((region.height, region.width), np.int32)
    for box in boxes:
        counts[box.top : box.bottom, box.left : box.right] += 1
        counts[box.top + line : max(0, box.bottom - line), box.left + line : max(0, box.right - line)] -= 1
    return _brightness(counts, layout.samples)


def _discs(boxes: list[Box], layout: CaptionLayout, scale: float) -> Channel:
    region = layout.region
    radius = max(1, round(RADIUS * scale))
    counts = np.zeros((region.height, region.width), np.int32)
    for box in boxes:
        x, y = _centre(box)
        disc = np.zeros((2 * radius + 1, 2 * radius + 1), np.uint8)
        cv2.circle(disc, (radius, radius), radius, (1,), thickness=-1)
        top, left = max(0, y - radius), max(0, x - radius)
        part = counts[top : y + radius + 1, left : x + radius + 1]
        skip_y, skip_x = top - (y - radius), left - (x - radius)
        part += disc[skip_y : skip_y + part.shape[0], skip_x : skip_x + part.shape[1]]
    return _brightness(counts, layout.samples)


def _distances(boxes: list[Box], layout: CaptionLayout) -> Channel:
    region = layout.region
    elsewhere = np.ones((region.height, region.width), np.uint8)
    for box in boxes:
        x, y = _centre(box)
        elsewhere[y, x] = 0
    distance = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    scaled = np.rint(np.asarray(distance, np.float32) * (2 * 255 / region.width))
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def _centre(box: Box) -> tuple[int, int]:
    return (box.left + box.right) // 2, (box.top + box.bottom) // 2


def _brightness(counts: NDArray[np.int32], samples: int) -> Channel:
    share = np.minimum(counts / max(1, samples), 1)
    return np.where(counts > 0, np.rint(FAINTEST + (255 - FAINTEST) * share), 0).astype(np.uint8)


def _boundaries(boxes: list[Box], layout: CaptionLayout, scale: float) -> list[Channel]:
    return [_outlines(boxes, layout, scale)] * 3


def _centers(boxes: list[Box], layout: CaptionLayout, scale: float) -> list[Channel]:
    return [_discs(boxes, layout, scale)] * 3


def _both(boxes: list[Box], layout: CaptionLayout, scale: float) -> list[Channel]:
    return [np.maximum(_outlines(boxes, layout, scale), _discs(boxes, layout, scale))] * 3


def _three_channels(boxes: list[Box], layout: CaptionLayout, scale: float) -> list[Channel]:
    return [
        _outlines(boxes, layout, scale),
        _discs(boxes, layout, scale),
        _distances(boxes, layout),
    ]


_CHANNELS: dict[str, Callable[[list[Box], CaptionLayout, float], list[Channel]]] = {
    "boundaries": _boundaries,
    "centers": _centers,
    "both": _both,
    "3d_channels": _three_channels,
}
