"""Setting captions: lines that fit the frame, drawn once as sprites and blended into frames.

Sprites hold premultiplied colour and the share of the background that shines through, so that blending is one
multiplication and one addition on the caption's rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cb_core.synth.fonts import load_font
from cb_core.synth.style import CaptionStyle, Colour
from cb_core.synth.text import Sentence
from cb_runtime.geometry import Box

Pixels = NDArray[np.uint8]
Layer = NDArray[np.float32]

_SIDE = 0.06
"""Distance of left- and right-aligned captions from the frame's edge, as a share of its width."""
_VISIBLE = 10
"""Least coverage, of 255, that counts as part of the caption."""


@dataclass(frozen=True)
class Sprite:
    """A picture with transparency at its place in the frame."""

    box: Box
    """Where it stands, in frame coordinates; wholly inside the frame."""
    colour: Pixels
    """uint8 `(height, width, 3)`, multiplied by its opacity."""
    clear: Pixels
    """uint8 `(height, width, 3)`: share of the background that shines through, 255 for all of it."""


def blend(frame: Pixels, sprite: Sprite, opacity: float = 1.0) -> None:
    """Draw a sprite into a frame (RGB uint8, changed in place) with an extra opacity in [0, 1]."""
    if opacity <= 0:
        return
    colour, clear = sprite.colour, sprite.clear
    if opacity < 1:
        colour = cv2.convertScaleAbs(colour, alpha=opacity)  # type: ignore[assignment]
        clear = cv2.convertScaleAbs(clear, alpha=opacity, beta=255 * (1 - opacity))  # type: ignore[assignment]
    box = sprite.box
    part = frame[box.top : box.bottom, box.left : box.right]
    part[:] = cv2.add(cv2.multiply(part, clear, scale=1 / 255), colour)


def sprite_from_layers(premultiplied: Layer, left: int, top: int, frame_width: int, frame_height: int) -> Sprite:
    """Make a sprite of a float32 `(height, width, 4)` picture in [0, 1], cut to what is visible and inside the frame.

    `left` and `top` are the picture's place in the frame. At least one visible pixel must lie inside.
    """
    x0, y0 = max(0, -left), max(0, -top)
    inside = premultiplied[y0 : frame_height - top, x0 : frame_width - left]
    rows, columns = np.nonzero(inside[..., 3] * 255 >= _VISIBLE)
    assert len(rows), "a sprite must have a visible pixel inside the frame"
    y, x = int(rows.min()), int(columns.min())
    cut = inside[y : int(rows.max()) + 1, x : int(columns.max()) + 1]
    colour = np.rint(cut[..., :3] * 255).astype(np.uint8)
    clear = np.rint((1 - np.repeat(cut[..., 3:], 3, axis=2)) * 255).astype(np.uint8)
    x, y = x + x0 + left, y + y0 + top
    return Sprite(
        Box(x, y, x + cut.shape[1], y + cut.shape[0]), np.ascontiguousarray(colour), np.ascontiguousarray(clear)
    )


def over(layers: Layer, coverage: Layer, colour: Colour) -> None:
    """Lay a colour over a premultiplied picture (in place) where `coverage` (height, width), in [0, 1], says so."""
    paint = np.array([*(value / 255 for value in colour), 1.0], np.float32)
    layers *= 1 - coverage[..., None]
    layers += coverage[..., None] * paint


@dataclass(frozen=True)
class _Placement:
    """Where the lines of one caption stand in the frame."""

    lines: tuple[tuple[str, float, float], ...]
    """Text, x of its left end and y of its base line, in frame coordinates."""
    left: int
    top: int
    width: int
    height: int
    """The canvas that holds all of it with its decoration, in frame coordinates."""


class Typesetter:
    """Sets and draws the captions of one video."""

    def __init__(self, style: CaptionStyle, width: int, height: int) -> None:
        self.style = style
        self._width, self._height = width, height
        self._font = load_font(style.face, style.size)
        ascent, descent = self._font.getmetrics()
        self._ascent, self._descent = ascent, descent
        self._line_height = max(round(1.18 * style.size), round(0.95 * (ascent + descent)))
        self._box_pad = round(0.22 * style.size) if style.box != "none" else 0
        self._pad = 2 + self._box_pad + style.outline + style.shadow + round(3 * (style.shadow_blur + style.softness))

    def fit(self, sentence: Sentence) -> tuple[Sentence, tuple[str, ...]]:
        """Shorten a sentence until its lines fit the frame; return it and its lines."""
        while True:
            lines = self.lines(sentence)
            if len(lines) <= self.style.max_lines and all(self._fits(line) for line in lines):
                return sentence, lines
            if len(sentence.pieces) == 1:  # a single word too wide for the frame: cut it
                sentence = Sentence((sentence.pieces[0][:-1],), sentence.separator)
            else:
                sentence = sentence.shortened()

    def lines(self, sentence: Sentence) -> tuple[str, ...]:
        """Break a sentence into as few lines as it needs."""
        lines = [sentence.pieces[0]]
        for piece in sentence.pieces[1:]:
            longer = lines[-1] + sentence.separator + piece
            if self._fits(longer):
                lines[-1] = longer
            else:
                lines.append(piece)
        return tuple(lines)

    def _fits(self, line: str) -> bool:
        return self._font.getlength(line) + 2 * self._pad <= self.style.line_width * self._width or len(line) == 1

    def sprite(self, lines: tuple[str, ...], fill: Colour) -> Sprite:
        """Draw a caption of these lines in this colour."""
        place = self._place(lines)
        layers: Layer = np.zeros((place.height, place.width, 4), np.float32)
        self._decorate(layers, place)
        over(layers, self._text(place, 0), fill)
        if self.style.softness:
            layers = np.asarray(cv2.GaussianBlur(layers, (0, 0), self.style.softness), np.float32)
        return sprite_from_layers(layers, place.left, place.top, self._width, self._height)

    def box(self, lines: tuple[str, ...]) -> Box:
        """Return the rectangle, in frame coordinates, within which `sprite` draws a caption of these lines."""
        place = self._place(lines)
        left, top = max(0, place.left), max(0, place.top)
        return Box(left, top, min(self._width, place.left + place.width), min(self._height, place.top + place.height))

    def karaoke_boxes(self, lines: tuple[str, ...]) -> tuple[Box, ...]:
        """Return the rectangle of each line in frame coordinates; together they cover the caption's height."""
        place = self._place(lines)
        boxes = []
        for number, (text, x, y) in enumerate(place.lines):
            top = 0 if number == 0 else round(y - 0.8 * self._line_height)
            bottom = round(y + 0.2 * self._line_height) if number < len(place.lines) - 1 else self._height
            right = min(self._width, round(x + self._font.getlength(text)) + 1)
            boxes.append(Box(max(0, round(x)), max(0, top), right, min(self._height, bottom)))
        return tuple(boxes)

    def _place(self, lines: tuple[str, ...]) -> _Placement:
        widths = [self._font.getlength(line) for line in lines]
        edge = max(round(self.style.margin * self._height), self._pad)
        below = (len(lines) - 1) * self._line_height
        first = edge + self._ascent if self.style.top else self._height - edge - self._descent - below
        placed = tuple(
            (line, self._x(width), first + number * self._line_height)
            for number, (line, width) in enumerate(zip(lines, widths, strict=True))
        )
        # Slanted and joined letters reach beyond their advance width: half an em more on both sides.
        side = self._pad + self.style.size // 2
        left = int(min(x for _, x, _ in placed)) - side
        right = int(max(x + width for (_, x, _), width in zip(placed, widths, strict=True))) + side + 1
        top = first - self._ascent - self._pad
        bottom = first + below + self._descent + self._pad
        return _Placement(placed, left, top, right - left, bottom - top)

    def _x(self, line_width: float) -> float:
        side = _SIDE * self._width + self._pad
        if self.style.anchor == "left":
            return round(side)
        if self.style.anchor == "right":
            return round(self._width - side - line_width)
        return round((self._width - line_width) / 2)

    def _text(self, place: _Placement, stroke: int) -> Layer:
        canvas = Image.new("L", (place.width, place.height))
        draw = ImageDraw.Draw(canvas)
        for line, x, y in place.lines:
            draw.text(
                (x - place.left, y - place.top), line, fill=255, font=self._font, anchor="ls", stroke_width=stroke
            )
        return np.asarray(np.asarray(canvas, np.float32) / 255, np.float32)

    def _decorate(self, layers: Layer, place: _Placement) -> None:
        style = self.style
        if style.box != "none":
            over(layers, self._boxes(place), style.edge_colour)
        if style.shadow:
            shadow = np.roll(self._text(place, style.outline), (style.shadow, style.shadow), (0, 1))
            if style.shadow_blur:
                shadow = np.minimum(1, 1.5 * cv2.GaussianBlur(shadow, (0, 0), style.shadow_blur)).astype(np.float32)
            over(layers, shadow, style.edge_colour)
        if style.outline:
            over(layers, self._text(place, style.outline), style.edge_colour)

    def _boxes(self, place: _Placement) -> Layer:
        coverage = np.zeros((place.height, place.width), np.float32)
        pad = self._box_pad
        spans = [(x - pad, x + self._font.getlength(text) + pad, y) for text, x, y in place.lines]
        if self.style.box == "block":
            low, high = min(left for left, _, _ in spans), max(right for _, right, _ in spans)
            spans = [(low, high, y) for _, _, y in spans]
        for left, right, y in spans:
            top, bottom = y - self._ascent - pad // 2 - place.top, y + self._descent + pad // 2 - place.top
            x0, x1 = round(left) - place.left, round(right) - place.left
            coverage[max(0, round(top)) : round(bottom), max(0, x0) : x1] = self.style.box_opacity
        return coverage
