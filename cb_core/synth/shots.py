"""Shots: what one camera position shows for a while, generated or from the user's pictures and videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cb_core.synth.camera import OVERSIZE, Camera, pick_camera
from cb_core.synth.media import VIDEO_SUFFIXES, VideoLoop, covering, read_picture
from cb_core.synth.textures import make_texture

Pixels = NDArray[np.uint8]


class Shot(Protocol):
    """One shot; asked for its frames in order."""

    def frame(self, share: float, seconds: float) -> Pixels:
        """Return RGB uint8 `(height, width, 3)`, free to be changed.

        `share` is how much of the shot is over, in [0, 1); `seconds` the time since the shot began.
        """
        ...


@dataclass(frozen=True)
class _Mover:
    """A shape that moves over a picture."""

    shape: str
    colour: tuple[int, int, int]
    size: tuple[int, int]
    start: tuple[float, float]
    speed: tuple[float, float]
    """Pixels per second."""
    spin: float
    """Degrees per second."""

    def draw(self, frame: Pixels, seconds: float) -> None:
        height, width = frame.shape[:2]
        reach = max(self.size)
        x = int((self.start[0] + self.speed[0] * seconds) % (width + 2 * reach)) - reach
        y = int((self.start[1] + self.speed[1] * seconds) % (height + 2 * reach)) - reach
        if self.shape == "ellipse":
            cv2.ellipse(frame, (x, y), self.size, self.spin * seconds, 0, 360, self.colour, -1)
        else:
            corners = cv2.boxPoints(((x, y), self.size, self.spin * seconds))
            cv2.fillConvexPoly(frame, corners.astype(np.int32), self.colour)


class PictureShot:
    """A still picture under a moving camera, with shapes moving over it and changing light."""

    def __init__(
        self, picture: Pixels, size: tuple[int, int], camera: Camera, movers: Sequence[_Mover], flicker: float
    ) -> None:
        self._picture, self._size, self._camera = picture, size, camera
        self._movers, self._flicker = movers, flicker

    def frame(self, share: float, seconds: float) -> Pixels:
        """Return the next frame (see `Shot`)."""
        view = self._camera.view(self._picture, *self._size, share, seconds)
        for mover in self._movers:
            mover.draw(view, seconds)
        if self._flicker:
            light = 1 + self._flicker * np.sin(4 * seconds)
            return np.asarray(cv2.convertScaleAbs(view, alpha=light), np.uint8)
        return view


class VideoShot:
    """A stretch of a user's video."""

    def __init__(self, path: Path, size: tuple[int, int], start_share: float) -> None:
        self._loop = VideoLoop(path, size, start_share)

    def frame(self, share: float, seconds: float) -> Pixels:
        """Return the next frame (see `Shot`)."""
        return self._loop.frame(seconds)


def generated_shot(rng: Generator, size: tuple[int, int]) -> Shot:
    """Return a shot over a generated texture."""
    picture = make_texture(rng, *oversized(size))
    if rng.random() < 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.8, 4))), np.uint8)
    return _picture_shot(rng, picture, size, busy=True)


def media_shot(rng: Generator, files: Sequence[Path], size: tuple[int, int]) -> Shot:
    """Return a shot of one of the user's pictures or videos."""
    path = files[int(rng.integers(len(files)))]
    start = float(rng.random())
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoShot(path, size, start)
    return _picture_shot(rng, _covering_picture(path, oversized(size)), size, busy=False)


@lru_cache(maxsize=8)
def _covering_picture(path: Path, size: tuple[int, int]) -> Pixels:
    return covering(read_picture(path), size)


def oversized(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a picture that a camera with frames of `size` moves over."""
    return round(size[0] * OVERSIZE), round(size[1] * OVERSIZE)


def _picture_shot(rng: Generator, picture: Pixels, size: tuple[int, int], *, busy: bool) -> Shot:
    count = int(rng.integers(1, 5)) if busy and rng.random() < 0.35 else 0
    movers = [_pick_mover(rng, size) for _ in range(count)]
    flicker = float(rng.uniform(0.02, 0.15)) if rng.random() < 0.15 else 0.0
    return PictureShot(picture, size, pick_camera(rng), movers, flicker)


def _pick_mover(rng: Generator, size: tuple[int, int]) -> _Mover:
    width, height = size
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return _Mover(
        shape=str(rng.choice(["ellipse", "box"])),
        colour=(red, green, blue),
        size=(
            int(rng.integers(height // 40 + 2, height // 4 + 3)),
            int(rng.integers(height // 40 + 2, height // 4 + 3)),
        ),
        start=(float(rng.uniform(0, width)), float(rng.uniform(0, height))),
        speed=(float(rng.normal(0, width / 5)), float(rng.normal(0, height / 8))),
        spin=float(rng.normal(0, 60)),
    )


ShotMaker = Callable[[Generator], Shot]


def shot_maker(size: tuple[int, int], files: Sequence[Path]) -> ShotMaker:
    """Return a function that makes shots: of the user's files when there are any, otherwise generated."""
    if files:
        return lambda rng: media_shot(rng, files, size)
    return lambda rng: generated_shot(rng, size)
