"""Still pictures to pan over: noise, landscapes, streets, lights, leaves, paper and other structure.

Each maker takes a random generator, width and height and returns RGB uint8 `(height, width, 3)`.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]


def noise_plane(rng: Generator, width: int, height: int, coarsest: int, octaves: int, roughness: float = 0.55) -> Plane:
    """Return noise of several scales, in [0, 1]; `coarsest` is the number of cells across at the coarsest scale."""
    plane: Plane = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        across = coarsest * 2**octave
        grid = rng.random((max(2, across * height // width), max(2, across)), np.float32)
        plane += roughness**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = float(plane.min()), float(plane.max())
    return np.asarray((plane - low) / max(1e-6, high - low), np.float32)


def _colour(rng: Generator, low: int = 0, high: int = 255) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(low, high + 1, 3))
    return red, green, blue


def _graded(plane: Plane, *colours: tuple[int, int, int]) -> Pixels:
    """Colour a plane in [0, 1] by a gradient through the colours."""
    stops = np.linspace(0, 255, len(colours))
    table = np.stack([np.interp(np.arange(256), stops, [colour[k] for colour in colours]) for k in range(3)], axis=1)
    return np.asarray(table.astype(np.uint8)[(plane * 255).astype(np.uint8)])


def clouds(rng: Generator, width: int, height: int) -> Pixels:
    """Multi-scale noise between two to four colours."""
    plane = noise_plane(
        rng, width, height, int(rng.integers(2, 8)), int(rng.integers(3, 7)), float(rng.uniform(0.4, 0.75))
    )
    return _graded(plane, *(_colour(rng) for _ in range(int(rng.integers(2, 5)))))


def gradient(rng: Generator, width: int, height: int) -> Pixels:
    """A smooth slope between colours, in any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    slope = np.cos(angle) * x + np.sin(angle) * y
    plane = ((slope - slope.min()) / (slope.max() - slope.min())).astype(np.float32)
    return _graded(plane, *(_colour(rng) for _ in range(int(rng.integers(2, 4)))))


def landscape(rng: Generator, width: int, height: int) -> Pixels:
    """Sky, a sun or moon, and hills with rough surfaces."""
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    picture = _graded(rows, _colour(rng, 60, 220), _colour(rng, 120, 255))
    centre = (int(rng.integers(width)), int(rng.integers(height // 2)))
    cv2.circle(
        picture, centre, int(rng.integers(height // 30 + 2, height // 8 + 3)), _colour(rng, 200), -1, cv2.LINE_AA
    )
    layers = int(rng.integers(2, 5))
    for layer in range(layers):
        base = height * (0.35 + 0.6 * layer / layers)
        outline = base - height * 0.3 * noise_plane(rng, width, 2, int(rng.integers(3, 12)), 4)[0]
        surface = noise_plane(rng, width, height, 24, 4, 0.8)
        ground = _graded(surface, _colour(rng, 0, 110), _colour(rng, 40, 190))
        mask = np.arange(height)[:, None] >= outline[None]
        picture[mask] = ground[mask]
    return picture


def street(rng: Generator, width: int, height: int) -> Pixels:
    """Blocks with rows of windows: many straight, high-contrast edges."""
    picture = gradient(rng, width, height)
    left = 0
    while left < width:
        across = int(rng.integers(width // 12 + 4, width // 4 + 5))
        top = int(rng.integers(0, height * 2 // 3))
        cv2.rectangle(picture, (left, top), (left + across, height), _colour(rng, 20, 200), -1)
        _windows(rng, picture, left, top, across)
        left += across
    return picture


def _windows(rng: Generator, picture: Pixels, left: int, top: int, across: int) -> None:
    height = picture.shape[0]
    step = max(5, int(rng.integers(height // 30 + 4, height // 12 + 6)))
    light, dark = _colour(rng, 180), _colour(rng, 0, 60)
    for y in range(top + step // 2, height, step):
        for x in range(left + step // 3, left + across - step // 2, step):
            cv2.rectangle(
                picture, (x, y), (x + step // 2, y + step * 2 // 3), light if rng.random() < 0.4 else dark, -1
            )


def lights(rng: Generator, width: int, height: int) -> Pixels:
    """Blurred discs of light on a dark ground, as an open lens shows a city at night."""
    picture = _graded(noise_plane(rng, width, height, 3, 3), (0, 0, 0), _colour(rng, 10, 70))
    for _ in range(int(rng.integers(20, 90))):
        radius = int(rng.integers(2, height // 12 + 4))
        x, y = int(rng.integers(radius, width - radius)), int(rng.integers(radius, height - radius))
        part = picture[y - radius : y + radius, x - radius : x + radius]
        disc = part.copy()
        cv2.circle(disc, (radius, radius), radius - 1, _colour(rng, 90), -1, cv2.LINE_AA)
        part[:] = cv2.addWeighted(part, 0.4, disc, 0.6, 0)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.6, 3))), np.uint8)


def leaves(rng: Generator, width: int, height: int) -> Pixels:
    """Many small overlapping ellipses and strokes: busy at the size of letters."""
    picture = clouds(rng, width, height)
    base = np.array(_colour(rng, 30, 200))
    for _ in range(min(4000, width * height // 250)):
        colour = tuple(int(value) for value in np.clip(base + rng.integers(-70, 71, 3), 0, 255))
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(2, height // 25 + 4)), int(rng.integers(1, height // 60 + 3)))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return picture


def room(rng: Generator, width: int, height: int) -> Pixels:
    """Large plain areas with soft shading, and a few people-like blobs."""
    picture = np.full((height, width, 3), _colour(rng, 60, 220), np.uint8)
    for _ in range(int(rng.integers(4, 12))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = (x + int(rng.integers(width // 10, width // 2)), y + int(rng.integers(height // 10, height // 2)))
        cv2.rectangle(picture, (x, y), size, _colour(rng), -1)
    for _ in range(int(rng.integers(0, 4))):
        _person(rng, picture)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.8, 2.5))), np.uint8)
    shade = 0.55 + 0.45 * noise_plane(rng, width, height, 2, 4, 0.4)
    return np.asarray(picture * shade[..., None], np.uint8)


def _person(rng: Generator, picture: Pixels) -> None:
    height, width = picture.shape[:2]
    x, y = int(rng.integers(width // 8, width * 7 // 8)), int(rng.integers(height // 4, height * 2 // 3))
    head = int(rng.integers(height // 14 + 2, height // 6 + 3))
    skin = np.array((224, 172, 130)) * rng.uniform(0.35, 1.1)
    cv2.ellipse(picture, (x, y + 3 * head), (2 * head, 2 * head), 0, 0, 360, _colour(rng), -1, cv2.LINE_AA)
    colour = tuple(int(value) for value in np.clip(skin, 0, 255))
    cv2.ellipse(picture, (x, y), (head * 3 // 4, head), 0, 0, 360, colour, -1, cv2.LINE_AA)
    cv2.ellipse(
        picture, (x, y - head // 2), (head * 3 // 4, head * 2 // 3), 0, 180, 360, _colour(rng, 0, 90), -1, cv2.LINE_AA
    )


def stripes(rng: Generator, width: int, height: int) -> Pixels:
    """Stripes or a checkerboard in two far apart colours, rotated."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(height / 40 + 3, height / 5 + 6)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    plane = np.sin(2 * np.pi * along / period)
    if rng.random() < 0.5:
        plane = plane * np.sin(2 * np.pi * across / period)
    picture = _graded(np.clip(plane * 4 + 0.5, 0, 1).astype(np.float32), _colour(rng, 0, 120), _colour(rng, 130, 255))
    shade = 0.6 + 0.4 * noise_plane(rng, width, height, 3, 4)
    return np.asarray(picture * shade[..., None], np.uint8)


def bright(rng: Generator, width: int, height: int) -> Pixels:
    """Nearly white: snow, paper, an overexposed sky."""
    return _graded(noise_plane(rng, width, height, 3, 5, 0.5), _colour(rng, 205, 245), (255, 255, 255))


def dark(rng: Generator, width: int, height: int) -> Pixels:
    """Nearly black: night, credits."""
    return _graded(noise_plane(rng, width, height, 3, 5, 0.5), (0, 0, 0), _colour(rng, 0, 50))


def strokes(rng: Generator, width: int, height: int) -> Pixels:
    """Rows of small strokes that resemble writing but say nothing: a page, a shelf, a fence."""
    picture = bright(rng, width, height) if rng.random() < 0.6 else clouds(rng, width, height)
    ink = _colour(rng, 0, 90)
    step = max(7, int(rng.integers(height // 28 + 5, height // 9 + 8)))
    for y in range(step, height, step):
        x = int(rng.integers(0, width // 6 + 1))
        while x < width * 0.95:
            size = (int(rng.integers(1, step // 3 + 2)), int(rng.integers(step // 4 + 1, step // 2 + 2)))
            cv2.line(picture, (x, y), (x + int(rng.integers(-2, 3)), y - size[1]), ink, 1 + step // 14, cv2.LINE_AA)
            if rng.random() < 0.5:
                cv2.ellipse(
                    picture,
                    (x, y - size[1] // 2),
                    size,
                    0,
                    0,
                    int(rng.integers(120, 361)),
                    ink,
                    1 + step // 14,
                    cv2.LINE_AA,
                )
            x += int(rng.integers(step // 3 + 2, step // 2 + 5)) + (step if rng.random() < 0.15 else 0)
    return picture


TEXTURES: dict[Callable[[Generator, int, int], Pixels], float] = {
    clouds: 0.14,
    gradient: 0.07,
    landscape: 0.15,
    street: 0.1,
    lights: 0.09,
    leaves: 0.1,
    room: 0.16,
    stripes: 0.05,
    bright: 0.05,
    dark: 0.05,
    strokes: 0.04,
}
"""All makers, with how often each is chosen (the shares sum to 1)."""


def make_texture(rng: Generator, width: int, height: int) -> Pixels:
    """Return a texture of any kind, with colours as muted as those of real footage often are."""
    makers = list(TEXTURES)
    picture = makers[int(rng.choice(len(makers), p=list(TEXTURES.values())))](rng, width, height)
    saturation = 0.0 if rng.random() < 0.08 else float(rng.uniform(0.2, 1.0))
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(picture, saturation, grey, 1 - saturation, 0), np.uint8)
