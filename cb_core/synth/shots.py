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


@dataclass(frozen=True)
class _Cutout:
    """A piece of another picture with soft edges that moves over a picture, turning and breathing, as people do."""

    piece: Pixels
    """RGB uint8 `(height, width, 3)`."""
    cover: NDArray[np.uint8]
    """How much it hides, of 255, uint8 `(height, width)`."""
    start: tuple[float, float]
    """Where its centre is at first, in pixels."""
    speed: tuple[float, float]
    """Pixels per second."""
    swing: tuple[float, float, float]
    """Amplitude of its turning in degrees and of its size as a share, and how often a second."""

    def draw(self, frame: Pixels, seconds: float) -> None:
        height, width = frame.shape[:2]
        reach = max(self.cover.shape) / 2
        x = (self.start[0] + reach + self.speed[0] * seconds) % (width + 2 * reach) - reach
        y = (self.start[1] + reach + self.speed[1] * seconds) % (height + 2 * reach) - reach
        degrees, breath, pace = self.swing
        phase = float(np.sin(2 * np.pi * pace * seconds))
        matrix = cv2.getRotationMatrix2D(
            (self.cover.shape[1] / 2, self.cover.shape[0] / 2), degrees * phase, 1 + breath * phase
        )
        matrix[:, 2] += (x - self.cover.shape[1] / 2, y - self.cover.shape[0] / 2)
        # Only where it may be: most frames are far larger than what moves over them.
        left, right = max(0, int(x - 1.5 * reach)), min(width, int(x + 1.5 * reach) + 1)
        top, bottom = max(0, int(y - 1.5 * reach)), min(height, int(y + 1.5 * reach) + 1)
        if right <= left or bottom <= top:
            return
        matrix[:, 2] -= (left, top)
        room = (right - left, bottom - top)
        share = cv2.warpAffine(self.cover, matrix, room)[..., None].astype(np.uint16)
        piece = cv2.warpAffine(self.piece, matrix, room)
        under = frame[top:bottom, left:right]
        under[:] = (share * piece + (255 - share) * under) // 255


class PictureShot:
    """A still picture under a moving camera, with things moving over it and changing light."""

    def __init__(
        self,
        picture: Pixels,
        size: tuple[int, int],
        camera: Camera,
        movers: Sequence[_Mover | _Cutout],
        flicker: float,
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

    def __init__(self, path: Path, size: tuple[int, int], start_share: float, place: tuple[float, float]) -> None:
        self._loop = VideoLoop(path, size, start_share, place)

    def frame(self, share: float, seconds: float) -> Pixels:
        """Return the next frame (see `Shot`)."""
        return self._loop.frame(seconds)


def generated_shot(rng: Generator, size: tuple[int, int]) -> Shot:
    """Return a shot over a generated texture."""
    picture = make_texture(rng, *oversized(size))
    if rng.random() < 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.8, 4))), np.uint8)
    return _picture_shot(rng, picture, size, busy=True)


def media_shot(rng: Generator, files: Sequence[Path], size: tuple[int, int], moving: float = 0.0) -> Shot:
    """Return a shot of one of the user's pictures or videos; over this share of pictures others' cut-outs move."""
    path = files[int(rng.integers(len(files)))]
    start = float(rng.random())
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoShot(path, size, start, (float(rng.random()), float(rng.random())))
    cutouts: list[_Cutout] = []
    if moving and rng.random() < moving:
        pictures = [file for file in files if file.suffix.lower() not in VIDEO_SUFFIXES]
        for _ in range(int(rng.integers(1, 4))):
            other = pictures[int(rng.integers(len(pictures)))]
            cutouts.append(_pick_cutout(rng, _covering_picture(other, oversized(size)), size))
    return _picture_shot(rng, _covering_picture(path, oversized(size)), size, busy=False, cutouts=cutouts)


@lru_cache(maxsize=8)
def _covering_picture(path: Path, size: tuple[int, int]) -> Pixels:
    return covering(read_picture(path), size)


def oversized(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a picture that a camera with frames of `size` moves over."""
    return round(size[0] * OVERSIZE), round(size[1] * OVERSIZE)


def _picture_shot(
    rng: Generator, picture: Pixels, size: tuple[int, int], *, busy: bool, cutouts: Sequence[_Cutout] = ()
) -> Shot:
    count = int(rng.integers(1, 5)) if busy and rng.random() < 0.35 else 0
    movers = [_pick_mover(rng, size) for _ in range(count)]
    flicker = float(rng.uniform(0.02, 0.15)) if rng.random() < 0.15 else 0.0
    return PictureShot(picture, size, pick_camera(rng), [*movers, *cutouts], flicker)


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


def _pick_cutout(rng: Generator, picture: Pixels, size: tuple[int, int]) -> _Cutout:
    width, height = size
    # As large as what stands behind captions: bands are as low as a caption, and people are larger than that.
    large = min(int(min(max(height, width / 4), 0.6 * width) * rng.uniform(0.3, 1.2)), *picture.shape[:2])
    across, down = max(8, large), max(8, int(large * rng.uniform(0.6, 1.0)))
    left, top = (int(rng.integers(room + 1)) for room in (picture.shape[1] - across, picture.shape[0] - down))
    cover = np.zeros((down, across), np.uint8)
    points = _outline(rng, across, down)
    cv2.fillPoly(cover, [points], 255)
    soft = float(rng.uniform(0.5, 1 + 0.04 * large))
    cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), soft), np.uint8)
    return _Cutout(
        piece=picture[top : top + down, left : left + across].copy(),
        cover=cover,
        start=(float(rng.uniform(0, width)), float(rng.uniform(0, height))),
        speed=(float(rng.normal(0, width / 6)), float(rng.normal(0, height / 8))),
        swing=(float(rng.uniform(0, 25)), float(rng.uniform(0, 0.15)), float(rng.uniform(0.1, 1.2))),
    )


def _outline(rng: Generator, width: int, height: int) -> NDArray[np.int32]:
    """Return a round outline with a few bumps within a box of this size."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    reach = 0.36 + sum(
        0.06 / order * np.sin(order * angles + float(rng.uniform(0, 2 * np.pi))) for order in (2, 3, 4, 5)
    )
    return np.stack([width * (0.5 + reach * np.cos(angles)), height * (0.5 + reach * np.sin(angles))], axis=1).astype(
        np.int32
    )


ShotMaker = Callable[[Generator], Shot]


def shot_maker(size: tuple[int, int], files: Sequence[Path], moving: float = 0.0) -> ShotMaker:
    """Return a function that makes shots: of the user's files when there are any, otherwise generated.

    `moving` is the share of shots of still pictures over which cut-outs of other pictures move.
    """
    if files:
        return lambda rng: media_shot(rng, files, size, moving)
    return lambda rng: generated_shot(rng, size)
