"""What looks like captions and is none: logos, running clocks, tickers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cb_core.synth.fonts import FontFace, built_in_face, covers, load_font
from cb_core.synth.style import BLACK, WHITE, CaptionStyle, Colour
from cb_core.synth.timing import Timing
from cb_core.synth.typeset import Layer, Sprite, blend, over, sprite_from_layers
from cb_runtime.geometry import Box

Pixels = NDArray[np.uint8]

_LABEL_CHARACTERS = "ABCDEFGHIKLMNOPRSTVWXZ0123456789:"


class Distractor(Protocol):
    """Something drawn into frames before the caption."""

    @property
    def kind(self) -> str:
        """What it is: logo, clock or ticker."""
        ...

    def draw(self, frame: Pixels, index: int) -> None:
        """Draw into frame `index` (RGB uint8, changed in place)."""
        ...


@dataclass(frozen=True)
class Logo:
    """A station's mark: still or slowly moving, for all of the video or a part of it."""

    sprite: Sprite
    opacity: float
    shown: tuple[int, int]
    """Frames `[start, stop)`."""
    speed: tuple[float, float] = (0.0, 0.0)
    """Pixels per frame; it turns back at the frame's edges."""
    kind: str = "logo"

    def draw(self, frame: Pixels, index: int) -> None:
        """Draw into frame `index`."""
        if not self.shown[0] <= index < self.shown[1]:
            return
        box = self.sprite.box
        left = _bounced(box.left + self.speed[0] * index, frame.shape[1] - box.width)
        top = _bounced(box.top + self.speed[1] * index, frame.shape[0] - box.height)
        moved = replace(self.sprite, box=Box(left, top, left + box.width, top + box.height))
        blend(frame, moved, self.opacity)


def _bounced(position: float, room: int) -> int:
    folded = position % (2 * max(1, room))
    return int(min(folded, 2 * max(1, room) - folded))


@dataclass(frozen=True)
class Clock:
    """Digits that change every second, or with every frame (a time code)."""

    face: FontFace
    size: int
    colour: Colour
    place: tuple[int, int]
    """Left end and top of the digits' canvas, in frame coordinates; may be negative."""
    start_seconds: int
    every_frame: bool
    timing: Timing
    kind: str = "clock"

    def draw(self, frame: Pixels, index: int) -> None:
        """Draw into frame `index`."""
        seconds = self.start_seconds + int(self.timing.seconds(index))
        text = f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        if self.every_frame:
            text += f":{index % round(self.timing.rate):02d}"
        blend(frame, _label(text, self.face, self.size, self.colour, self.place, (frame.shape[1], frame.shape[0])))


@dataclass(frozen=True)
class Ticker:
    """Text that runs along one edge of the frame over a bar."""

    strip: Pixels
    """The whole text, uint8 `(bar height, length, 3)`."""
    top: int
    speed: float
    """Pixels per second."""
    timing: Timing
    bar_opacity: float = 1.0
    """Of the bar behind the text, in [0, 1]; at 0 the text stands on the picture itself."""
    kind: str = "ticker"

    def draw(self, frame: Pixels, index: int) -> None:
        """Draw into frame `index`."""
        height, length = self.strip.shape[:2]
        shift = int(self.speed * self.timing.seconds(index)) % length
        columns = (shift + np.arange(frame.shape[1])) % length
        bar, rows = self.strip[:, columns], slice(self.top, self.top + height)
        if self.bar_opacity < 1:
            ink = np.abs(bar.astype(np.float32) - self.strip[0, 0]).max(axis=2, keepdims=True) / 255
            share = np.maximum(np.minimum(1.2 * ink, 1), self.bar_opacity)
            frame[rows] = np.rint(share * bar + (1 - share) * frame[rows]).astype(np.uint8)
        else:
            frame[rows] = bar


def pick_distractors(
    rng: Generator,
    style: CaptionStyle,
    timing: Timing,
    size: tuple[int, int],
    *,
    beside: bool = False,
    busy: bool = False,
) -> tuple[tuple[Distractor, ...], CaptionStyle]:
    """Draw a video's distractors; the style comes back with room made for a ticker where there is one.

    With `beside`, tickers run where the captions are; with `busy`, half the videos have one, and it may stand in the
    captions' very place.
    """
    face = style.face if covers(style.face, _LABEL_CHARACTERS) else built_in_face()
    found: list[Distractor] = []
    if rng.random() < (0.5 if busy else 0.12):
        ticker, style = _pick_ticker(rng, style, timing, size, beside=beside, instead=busy)
        found.append(ticker)
    corners = [(side, not style.top if rng.random() < 0.75 else style.top) for side in rng.permutation(2)]
    if rng.random() < 0.4:
        found.append(_pick_logo(rng, face, timing, size, corners[0]))
    if rng.random() < 0.15:
        found.append(_pick_clock(rng, face, timing, size, corners[1]))
    return tuple(found), style


def _pick_ticker(
    rng: Generator, style: CaptionStyle, timing: Timing, size: tuple[int, int], *, beside: bool, instead: bool
) -> tuple[Ticker, CaptionStyle]:
    width, height = size
    font_size = max(11, round((float(rng.uniform(0.7, 1.1)) if instead else 0.7) * style.size))
    bar = round(1.6 * font_size)
    beside_captions = beside or rng.random() < 0.4
    at_top = style.top == beside_captions
    if beside_captions and not instead:
        style = replace(style, margin=max(style.margin, bar / height + 0.03))
    speed = float(rng.uniform(0.08, 0.3)) * width
    strip = _ticker_strip(rng, style, font_size, bar, 2 * width)
    edge = round(style.margin * height) if instead and rng.random() < 0.5 else 0
    opacity = float(rng.choice([1.0, 0.6, 0.0])) if instead else 1.0
    return Ticker(strip, edge if at_top else height - bar - edge, speed, timing, opacity), style


def _ticker_strip(rng: Generator, style: CaptionStyle, font_size: int, bar: int, length: int) -> Pixels:
    dark, light = ((0, 0, 0), (255, 255, 255)) if rng.random() < 0.6 else ((120, 10, 20), (255, 255, 255))
    if rng.random() < 0.25:
        dark, light = light, dark
    canvas = Image.new("RGB", (length, bar), dark)
    font = load_font(style.face, font_size)
    writer = style.writer()
    x = 0.0
    while True:
        text = writer.sentence(rng, 6).text
        advance = font.getlength(text) + 2 * font_size
        if x + advance > length:
            return np.array(canvas)
        ImageDraw.Draw(canvas).text((x, bar * 0.72), text, fill=light, font=font, anchor="ls")
        x += advance


def _pick_logo(rng: Generator, face: FontFace, timing: Timing, size: tuple[int, int], corner: tuple[int, bool]) -> Logo:
    text = "".join(str(rng.choice(list("ABCDEFGHIKLMNOPRSTVWXZ"))) for _ in range(int(rng.integers(1, 5))))
    font_size = max(10, round(min(size) * float(rng.uniform(0.04, 0.1))))
    colour = WHITE if rng.random() < 0.6 else (int(rng.integers(256)), int(rng.integers(256)), int(rng.integers(256)))
    sprite = _at_corner(_label(text, face, font_size, colour, (0, 0), size, badge=rng.random() < 0.4), size, corner)
    frames = timing.frames
    shown = (0, frames) if rng.random() < 0.65 else (int(rng.integers(frames)), frames)
    speed = (float(rng.uniform(-1, 1)), float(rng.uniform(-0.7, 0.7))) if rng.random() < 0.12 else (0.0, 0.0)
    return Logo(sprite, float(rng.uniform(0.35, 1.0)), shown, speed)


def _at_corner(sprite: Sprite, size: tuple[int, int], corner: tuple[int, bool]) -> Sprite:
    box, gap = sprite.box, max(4, round(0.035 * size[1]))
    left = size[0] - gap - box.width if corner[0] else gap
    top = gap if corner[1] else size[1] - gap - box.height
    left, top = max(0, left), max(0, top)
    return replace(sprite, box=Box(left, top, left + box.width, top + box.height))


def _pick_clock(
    rng: Generator, face: FontFace, timing: Timing, size: tuple[int, int], corner: tuple[int, bool]
) -> Clock:
    font_size = max(10, round(min(size) * float(rng.uniform(0.04, 0.07))))
    every_frame = bool(rng.random() < 0.3)
    widest = _label("00:00:00" + ":00" * every_frame, face, font_size, WHITE, (0, 0), size)
    colour = WHITE if rng.random() < 0.7 else (255, 220, 60)
    corner_box = _at_corner(widest, size, corner).box
    place = (corner_box.left - widest.box.left, corner_box.top - widest.box.top)
    return Clock(face, font_size, colour, place, int(rng.integers(86400)), every_frame, timing)


@lru_cache(maxsize=16)
def _label(
    text: str,
    face: FontFace,
    font_size: int,
    colour: Colour,
    place: tuple[int, int],
    size: tuple[int, int],
    *,
    badge: bool = False,
) -> Sprite:
    """Draw a short text with a dark edge, or on a badge, with its top left corner at `place`."""
    font = load_font(face, font_size)
    pad = font_size // 3 + 2
    width, height = round(font.getlength(text)) + 2 * pad, round(1.2 * font_size) + 2 * pad
    layers: Layer = np.zeros((height, width, 4), np.float32)
    if badge:
        disc = np.zeros((height, width), np.float32)
        cv2.rectangle(disc, (1, 1), (width - 2, height - 2), 1.0, -1)
        over(layers, disc, (255 - colour[0], 255 - colour[1], 255 - colour[2]))
    for stroke, paint in ((1, BLACK), (0, colour)):
        canvas = Image.new("L", (width, height))
        ImageDraw.Draw(canvas).text((pad, pad + font_size), text, 255, font, "ls", stroke_width=stroke)
        over(layers, np.asarray(np.asarray(canvas, np.float32) / 255, np.float32), paint)
    return sprite_from_layers(layers, place[0], place[1], *size)


def kinds(distractors: Sequence[Distractor]) -> list[str]:
    """Return the kinds of these distractors, for the ground truth."""
    return [distractor.kind for distractor in distractors]
