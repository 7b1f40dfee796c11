"""Pictures inside an HTML page: JPEG in base64, and the difference of two pictures made visible."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from cb_runtime.video.types import Image

GAIN = 2
"""By how much differences are made brighter, so that faint ones are seen."""

_QUALITY = 85


def jpeg_base64(image: Image, width: int | None = None) -> str:
    """Return a picture, uint8 RGB `(h, w, 3)`, as JPEG in base64; one wider than `width` pixels is scaled down."""
    height, wide = image.shape[:2]
    if width is not None and wide > width:
        size = (width, max(1, round(height * width / wide)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return base64.b64encode(data.tobytes()).decode()


def brightened_difference(one: Image, other: Image) -> Image:
    """Return the absolute difference of two pictures of one shape, `GAIN` times as bright."""
    return np.minimum(cv2.absdiff(one, other).astype(np.int64) * GAIN, 255).astype(np.uint8)
