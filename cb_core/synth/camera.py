"""Camera paths over a still picture: pan, zoom, a shaking hand, a tripod."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

OVERSIZE = 1.4
"""How much larger than the frame a picture must be for a camera to move over it."""


@dataclass(frozen=True)
class Camera:
    """A path of the frame over a picture that is `OVERSIZE` times as large."""

    start: tuple[float, float]
    """Position at the beginning as shares of the room there is, each in [0, 1]."""
    stop: tuple[float, float]
    """Position at the end."""
    zoom: tuple[float, float]
    """Magnification at the beginning and at the end, at least 1."""
    shake: float
    """Amplitude of a shaking hand as a share of the frame's height."""
    phase: float

    def view(self, picture: Pixels, width: int, height: int, share: float, seconds: float) -> Pixels:
        """Return what the camera sees: RGB uint8 `(height, width, 3)`, free to be changed.

        `share` is how much of the path is done, in [0, 1]; `seconds` drives the shaking.
        """
        room_x, room_y = picture.shape[1] - width, picture.shape[0] - height
        x = room_x * (self.start[0] + (self.stop[0] - self.start[0]) * share)
        y = room_y * (self.start[1] + (self.stop[1] - self.start[1]) * share)
        if self.shake:
            reach = self.shake * height
            x += reach * (np.sin(5.1 * seconds + self.phase) + 0.6 * np.sin(13.7 * seconds + 2 * self.phase))
            y += reach * (np.sin(6.3 * seconds + 3 * self.phase) + 0.6 * np.sin(11.9 * seconds))
        x, y = min(max(x, 0.0), room_x), min(max(y, 0.0), room_y)
        if self.zoom == (1.0, 1.0):
            left, top = round(x), round(y)
            return np.ascontiguousarray(picture[top : top + height, left : left + width])
        return self._zoomed(picture, width, height, x, y, share)

    def _zoomed(self, picture: Pixels, width: int, height: int, x: float, y: float, share: float) -> Pixels:
        zoom = self.zoom[0] + (self.zoom[1] - self.zoom[0]) * share
        step = 1 / zoom
        left, top = x + width * (1 - step) / 2, y + height * (1 - step) / 2
        matrix = np.array([[step, 0, left], [0, step, top]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT), np.uint8
        )


def pick_camera(rng: Generator) -> Camera:
    """Draw a camera path: a third stand still, a third pan, a third zoom."""
    start = (float(rng.random()), float(rng.random()))
    kind = int(rng.integers(3))
    travel = float(rng.uniform(0.1, 0.9)) if kind else 0.0
    toward = (float(rng.random()), float(rng.random() * 0.6 + 0.2))
    stop = tuple(begin + (end - begin) * travel for begin, end in zip(start, toward, strict=True))
    zoom = (float(rng.uniform(1, 1.3)), float(rng.uniform(1, 1.3))) if kind == 2 else (1.0, 1.0)
    shake = float(rng.uniform(0.002, 0.012)) if rng.random() < 0.25 else 0.0
    return Camera(start, (stop[0], stop[1]), zoom, shake, float(rng.uniform(0, 6)))
