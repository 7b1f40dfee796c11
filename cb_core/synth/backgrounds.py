"""What stands behind the captions of a whole video: shots, cuts and dissolves, letterbox bars, film grain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cb_core.synth.shots import Shot, ShotMaker
from cb_core.synth.timing import Timing

Pixels = NDArray[np.uint8]

_GRAIN_FIELDS = 4
"""Different grain pictures; each frame takes one at a random shift."""
_GRAIN_ROOM = 64
"""How far grain pictures can be shifted, in pixels."""


@dataclass(frozen=True)
class Stretch:
    """The frames `[start, stop)` of one shot; from `fade_from` on it dissolves into the next."""

    start: int
    stop: int
    fade_from: int


def plan_stretches(rng: Generator, timing: Timing, caption_starts: Sequence[int], cuts: float = 1.0) -> list[Stretch]:
    """Divide a video into shots of 0.7 to 9 seconds, divided by `cuts`; a third meet the start of a caption."""
    if rng.random() < 0.12:  # one long take
        return [Stretch(0, timing.frames, timing.frames)]
    stretches: list[Stretch] = []
    start = 0
    while start < timing.frames:
        wanted = timing.frame_at(timing.seconds(start) + float(rng.uniform(0.7, 9.0)) / cuts)
        later = [frame for frame in caption_starts if start + 8 < frame < wanted + 40]
        if later and rng.random() < 0.33:
            wanted = min(later, key=lambda frame: abs(frame - wanted))
        stop = min(timing.frames, max(start + 2, wanted))
        dissolve = int(rng.integers(4, 20)) if rng.random() < 0.14 and stop - start > 40 else 0
        stretches.append(Stretch(start, stop, stop - dissolve if stop < timing.frames else stop))
        start = stop
    return stretches


class Background:
    """Gives the background frames of a video one after the other."""

    def __init__(
        self, rng: Generator, timing: Timing, size: tuple[int, int], maker: ShotMaker, stretches: list[Stretch]
    ) -> None:
        self._rng, self._timing, self._maker = rng, timing, maker
        self._stretches = stretches
        self._number = 0
        self._shot: Shot = maker(rng)
        self._next: Shot | None = None
        self._shot_start = 0
        self._grain = _Grain(rng, size, float(rng.uniform(2.0, 9.0))) if rng.random() < 0.4 else None
        bars = rng.random() < 0.12
        self._bar = round(size[1] * float(rng.uniform(0.08, 0.14))) if bars else 0

    def frame(self, index: int) -> Pixels:
        """Return frame `index` as RGB uint8 `(height, width, 3)`, free to be changed; call with 0, 1, 2 and so on."""
        if index >= self._stretches[self._number].stop:
            self._advance()
        stretch = self._stretches[self._number]
        picture = self._seen(self._shot, self._shot_start, stretch.stop, index)
        if index >= stretch.fade_from:
            picture = self._dissolved(picture, stretch, index)
        if self._grain:
            picture = self._grain.added(picture, self._rng)
        if self._bar:
            picture[: self._bar] = 0
            picture[-self._bar :] = 0
        return picture

    def _advance(self) -> None:
        begun = self._stretches[self._number].fade_from
        self._shot_start = begun if self._next else self._stretches[self._number].stop
        self._number += 1
        self._shot = self._next or self._maker(self._rng)
        self._next = None

    def _seen(self, shot: Shot, start: int, stop: int, index: int) -> Pixels:
        share = (index - start) / max(1, stop - start)
        return shot.frame(min(share, 1.0), self._timing.seconds(index) - self._timing.seconds(start))

    def _dissolved(self, picture: Pixels, stretch: Stretch, index: int) -> Pixels:
        if self._next is None:
            self._next = self._maker(self._rng)
        coming = self._stretches[self._number + 1]
        other = self._seen(self._next, stretch.fade_from, coming.stop, index)
        weight = (index - stretch.fade_from + 1) / (stretch.stop - stretch.fade_from + 1)
        return np.asarray(cv2.addWeighted(picture, 1 - weight, other, weight, 0), np.uint8)


class _Grain:
    """Noise that changes with every frame, as film and small sensors have it."""

    def __init__(self, rng: Generator, size: tuple[int, int], strength: float) -> None:
        width, height = size[0] + _GRAIN_ROOM, size[1] + _GRAIN_ROOM
        self._size = size
        self._fields = []
        for _ in range(_GRAIN_FIELDS):
            noise = strength * rng.standard_normal((height, width), np.float32)
            if rng.random() < 0.5:
                noise = np.asarray(2 * cv2.GaussianBlur(noise, (0, 0), 0.8), np.float32)
            self._fields.append(tuple(_grey(np.maximum(sign * noise, 0)) for sign in (1, -1)))

    def added(self, picture: Pixels, rng: Generator) -> Pixels:
        """Return the picture with grain."""
        lighter, darker = self._fields[int(rng.integers(len(self._fields)))]
        x, y = (int(value) for value in rng.integers(0, _GRAIN_ROOM, 2))
        part = np.s_[y : y + self._size[1], x : x + self._size[0]]
        return np.asarray(cv2.subtract(cv2.add(picture, lighter[part]), darker[part]), np.uint8)


def _grey(plane: NDArray[np.float32]) -> Pixels:
    return np.repeat(np.rint(plane).astype(np.uint8)[..., None], 3, axis=2)
