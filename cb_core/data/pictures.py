"""Pictures and vectors as the bytes a database keeps: lossless PNG, little-endian float32."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cb_runtime.errors import InputError
from cb_runtime.video.types import Image


def png_from_image(image: Image) -> bytes:
    """Return an RGB picture (height, width, 3) uint8 as PNG."""
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert ok, "PNG takes every uint8 picture"
    return encoded.tobytes()


def image_from_png(data: bytes) -> Image:
    """Return the RGB picture (height, width, 3) uint8 that a PNG holds. Raises InputError when it is damaged."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise InputError("A picture in the dataset is damaged: expected PNG. Build the dataset again.")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def bytes_from_vector(vector: NDArray[np.float32]) -> bytes:
    """Return a vector as little-endian float32."""
    return vector.astype("<f4").tobytes()


def vector_from_bytes(data: bytes) -> NDArray[np.float32]:
    """Return a writable float32 vector."""
    return np.frombuffer(data, "<f4").astype(np.float32)
