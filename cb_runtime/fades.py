"""Fades: how visible a caption is in each frame around its boundary, measured on the strips themselves.

The model says *that* a caption comes or goes; over a fade of many frames it does not say where half opacity lies. That
is measured: the difference between frames well after a boundary and frames well before it is a picture of what
appears, and how much of it is in a frame is the frame's opacity. Only inner products of strips are needed for this, so
of each frame only its products with the few frames before it are kept (192 bytes), and the frames to compare are chosen
when the boundaries are known. Strips are grey, small and high-pass filtered: strokes stay, slow backgrounds and light
go. A profile that is no clear ramp - a cut, or a background that cuts or moves like the text - changes nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cb_runtime import opencv as cv2
from cb_runtime.video.types import Image

REACH = 24
"""How many frames on each side of a boundary are looked at: fades of up to about 36 frames are found."""

MOST_ROUNDS = 6
"""How often the frames before and after a fade are chosen anew."""

SHRINK = 3
"""Factor between strip and what is kept of it: strokes of captions are still there, noise is averaged away."""

LEAST_CONTRAST = 1.0
"""Least mean squared difference between before and after, in squared grey levels; below it nothing appeared."""

LEAST_PARTLY_VISIBLE = 2
"""A fade has at least this many partly visible frames; one alone is how a cut looks after resampling."""

LEAST_SETTLED, SETTLED_SHARE = 2, 0.125
"""So many frames before and after a fade must have been seen, and this share of its length."""

SCENE_MARGIN = 4
"""Where a scene ends nearer than this many frames to a fade, part of the fade may lie beyond it."""

_LEVEL_ERROR, _WORST_ERROR = 0.25, 0.15
"""Most that the levels of a ramp and its worst frame may be off, as opacities."""

_FIT_ERROR, _LONG_FIT_ERROR, LONG = 0.06, 0.03, 13.0
"""Most that the root mean square error of a ramp may be, also for one longer than so many frames: a background that
moves slowly looks like a long ramp."""

_SCENE_SHARE, _SCENE_RATIO = 0.25, 4.0
"""A scene, or a caption, ends at once where one step changes this share of all that changes in the window and, at the
same time, this many times what is usual there. What is beyond is not looked at."""

_CUT_MARGIN, _CUT_RATIO = 0.07, 3.0
"""A ramp must fit so much better than every cut: the sum of squared errors of a cut is this much and factor larger."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fade:
    """A boundary that takes several frames."""

    frame: int
    """First frame with at least half of the new, or less than half of the old caption."""
    interval: tuple[int, int]
    """Frames `[first partly changed, first settled)`."""


class StripProducts:
    """Inner products of each strip with those before it, gathered while a video is read."""

    def __init__(self) -> None:
        self._recent: NDArray[np.float32] | None = None
        self._products = array("f")
        self.frames = 0
        """Number of strips added."""

    def add(self, strip: Image) -> None:
        """Take the next frame's strip, uint8 `(height, width, 3)`; only its products are kept."""
        strokes = _strokes(strip)
        if self._recent is None:
            self._recent = np.zeros((2 * REACH, len(strokes)), np.float32)
        self._recent[self.frames % len(self._recent)] = strokes
        backwards = (self.frames - np.arange(len(self._recent))) % len(self._recent)
        self._products.frombytes((self._recent @ strokes)[backwards].tobytes())
        self.frames += 1

    def gram(self, first: int, stop: int) -> Array:
        """Return the inner products `(stop - first, stop - first)` of frames `[first, stop)`, at most 2 x `REACH`."""
        rows = np.frombuffer(self._products, np.float32).reshape(-1, 2 * REACH)[first:stop]
        places = np.arange(stop - first)
        one, other = places[:, None], places
        products: Array = rows[np.maximum(one, other), np.abs(one - other)].astype(np.float64)
        return products


def _strokes(strip: Image) -> NDArray[np.float32]:
    """Return a strip grey, shrunk, without what is smooth, scaled so that a product is a mean over its pixels."""
    size = (strip.shape[1] // SHRINK, strip.shape[0] // SHRINK)
    small = cv2.resize(cv2.cvtColor(strip, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    plain = np.asarray(small, np.float32)
    sharp = np.asarray(plain - cv2.blur(plain, (5, 5)), np.float32).ravel()
    return sharp / np.float32(np.sqrt(sharp.size))


def find_fades(starts: Iterable[int], ends: Iterable[int], products: StripProducts) -> Mapping[int, Fade]:
    """Return the fade at each boundary that has one, by the frame at which the boundary was taken to be.

    Args:
        starts: First frame of each caption.
        ends: First frame after each caption.
        products: Gathered over all frames of the video.
    """
    frames = products.frames
    rising = set(starts)
    boundaries = sorted((rising | set(ends)) - {0, frames})
    fades = {}
    for number, boundary in enumerate(boundaries):
        before = boundary - (boundaries[number - 1] if number else 0)
        after = (boundaries[number + 1] if number + 1 < len(boundaries) else frames) - boundary
        # Neighbours may be fades too and reach into the window; up to half way they do not.
        half = ((before + 1) // 2 if number else before, (after + 1) // 2 if number + 1 < len(boundaries) else after)
        for window in ((before, after), half):
            ramp = _ramp_at(products, boundary, min(window[0], REACH), min(window[1], REACH))
            fade = _fade(*ramp, at_half=boundary in rising) if ramp else None
            if fade is not None and boundary - half[0] < fade.frame < boundary + half[1]:
                fades[boundary] = fade
                break
    return fades


def _ramp_at(products: StripProducts, boundary: int, before: int, after: int) -> tuple[float, float] | None:
    """Return the frames at which a ramp around a boundary leaves 0 and reaches 1; None when none is to be believed."""
    window = boundary - before, boundary + after
    first, stop = _same_scene(products.gram(*window), window[0], boundary)
    ramp = _credible_ramp(products.gram(first, stop), boundary - first)
    if ramp is None:
        return None
    bottom, top = first + ramp[0], first + ramp[1]
    cut_off = (first > window[0] and bottom - first < SCENE_MARGIN, stop < window[1] and stop - 1 - top < SCENE_MARGIN)
    return None if any(cut_off) else (bottom, top)


def _same_scene(gram: Array, first: int, boundary: int) -> tuple[int, int]:
    """Return the part `[first, stop)` of a window around its boundary in which no scene ends at once."""
    if len(gram) < 2:
        return first, first + len(gram)
    lengths = gram.diagonal()
    changes = lengths[1:] + lengths[:-1] - 2 * gram.diagonal(1)
    whole = lengths[0] + lengths[-1] - 2 * gram[0, -1]
    cuts = first + 1 + np.flatnonzero((changes > _SCENE_SHARE * whole) & (changes > _SCENE_RATIO * np.median(changes)))
    before, after = cuts[cuts <= boundary], cuts[cuts > boundary]
    return int(max(before, default=first)), int(min(after, default=first + len(gram)))


def _fade(bottom: float, top: float, *, at_half: bool) -> Fade:
    """Return the fade of a ramp that leaves 0 after frame `bottom` and is 1 from frame `top` on."""
    middle = (bottom + top) / 2
    # A caption starts at half opacity and ends below it.
    frame = np.ceil(middle - 1e-6) if at_half else np.floor(middle + 1e-6) + 1
    return Fade(int(frame), (int(np.floor(bottom)) + 1, int(np.ceil(top))))


def _credible_ramp(gram: Array, at: int) -> tuple[float, float] | None:
    """Return where a window's ramp leaves 0 and reaches 1; None when there is none to be believed near place `at`."""
    count = len(gram)
    if min(at, count - at) < LEAST_PARTLY_VISIBLE:
        return None
    opacity = _settled_profile(gram, at)
    if opacity is None:
        return None
    whole = _grid(count)
    fit = whole.fit(opacity)
    cut_error = fit.errors[whole.partly_visible < LEAST_PARTLY_VISIBLE].min()
    finer = _finer(whole.ends[fit.errors.argmin()], count)
    fit = finer.fit(opacity)
    best = int(fit.errors.argmin())
    bottom, top = map(float, finer.ends[best])
    level, height, error = fit.levels[best], fit.heights[best], fit.errors[best]
    believed = (
        finer.partly_visible[best] >= LEAST_PARTLY_VISIBLE
        and bottom - 1 <= at <= top + 1
        and min(bottom + 1, count - top) >= max(LEAST_SETTLED, SETTLED_SHARE * (top - bottom))
        and cut_error > _CUT_MARGIN + _CUT_RATIO * error
        and np.sqrt(error / count) < (_FIT_ERROR if top - bottom <= LONG else _LONG_FIT_ERROR)
        and np.abs(level + height * finer.values[best] - opacity).max() < _WORST_ERROR
        and max(abs(level), abs(level + height - 1)) < _LEVEL_ERROR
    )
    return (bottom, top) if believed else None


def _settled_profile(gram: Array, at: int) -> Array | None:
    """Return the opacity of each frame, measured on the frames before and after the ramp that fits it best."""
    first, stop = at, at
    whole = _grid(len(gram))
    opacity = None
    for _ in range(MOST_ROUNDS):  # each ramp says better which frames are before and after it
        opacity = opacity_profile(gram, first, stop)
        if opacity is None:
            return None
        bottom, top = map(int, whole.ends[whole.fit(opacity).errors.argmin()])
        if (first, stop) == (bottom + 1, top):
            break
        first, stop = bottom + 1, top
    return opacity


def opacity_profile(gram: Array, first: int, stop: int) -> Array | None:
    """Return how much of what appears is in each frame: about 0 before `first`, about 1 from `stop` on.

    A frame's opacity is its share of the difference between the means of the frames after and before the change
    (projection onto that difference). None where before and after are alike.
    """
    before, after = np.zeros(len(gram)), np.zeros(len(gram))
    before[:first], after[stop:] = 1 / first, 1 / (len(gram) - stop)
    appears = after - before
    contrast = appears @ gram @ appears
    if contrast < LEAST_CONTRAST:
        return None
    opacity: Array = (gram @ appears - before @ gram @ appears) / contrast
    return opacity


@dataclass(frozen=True, eq=False)
class _Fit:
    """How well each ramp fits, where it fits best (linear regression)."""

    errors: Array
    """Sum of squared errors."""
    levels: Array
    """Opacity before the ramp."""
    heights: Array
    """By how much it rises; never below 0."""


class _Ramps:
    """Ramps over a window: 0 up to a bottom, 1 from a top on, straight between; places may be fractions."""

    def __init__(self, ends: Array, count: int) -> None:
        self.ends = ends
        self.partly_visible = np.ceil(ends[:, 1]) - np.floor(ends[:, 0]) - 1
        self.values = np.clip((np.arange(count) - ends[:, :1]) / (ends[:, 1:] - ends[:, :1]), 0, 1)
        self._means = self.values.mean(axis=1)
        self._centred = self.values - self._means[:, None]
        self._squares = (self._centred**2).sum(axis=1)

    def fit(self, opacity: Array) -> _Fit:
        alike = self._centred @ opacity
        heights = np.maximum(alike / self._squares, 0)
        errors = ((opacity - opacity.mean()) ** 2).sum() - heights * alike
        return _Fit(np.maximum(errors, 0), opacity.mean() - heights * self._means, heights)


def _finer(ends: Array, count: int) -> _Ramps:
    """Return ramps around one between whole places, in quarters of a frame."""
    steps = np.arange(-1, 1.1, 0.25)
    near = np.stack(np.meshgrid(ends[0] + steps, ends[1] + steps), axis=-1).reshape(-1, 2)
    return _Ramps(near[(near[:, 0] >= 0) & (near[:, 1] <= count - 1) & (near[:, 1] > near[:, 0])], count)


@lru_cache(maxsize=2 * REACH + 1)
def _grid(count: int) -> _Ramps:
    """Return all ramps of a window between whole places."""
    ends = [(bottom, top) for bottom in range(count) for top in range(bottom + 1, count)]
    return _Ramps(np.array(ends, np.float64), count)
