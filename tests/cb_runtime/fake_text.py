"""Videos whose frames are numbers, and a detector that knows which text each of them shows."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from cb_runtime.geometry import Box
from cb_runtime.layout import detect_layout
from cb_runtime.video.types import DecodeReport, Frame, VideoInfo

WIDTH, HEIGHT = 1280, 720
INFO = VideoInfo(Path("film.mp4"), WIDTH, HEIGHT, Fraction(1, 25), Fraction(25), 300, 12.0)
LINE = 40
LOGO = Box(1120, 30, 1230, 70)
WIDTHS = (300, 520, 180, 700, 410, 90)


class FakeSource:
    """A video whose frames are numbered: the first pixel of frame n is n. Samples are its first frames."""

    info = INFO
    report = DecodeReport()

    def __init__(self, count=12, images=None):
        self.images = images or [np.full((1, 1, 3), number, np.uint8) for number in range(count)]

    def sample(self, count):
        yield from (Frame(n, n, 1, image) for n, image in enumerate(self.images[:count]))


class EvenSource(FakeSource):
    """A video whose samples are spread evenly over it."""

    def sample(self, count):
        total = len(self.images)
        places = [total * (2 * number + 1) // (2 * count) for number in range(count)]
        yield from (Frame(-1, place, 1, self.images[place]) for place in places)


class FakeDetector:
    """Finds in frame n what `seen[n]` says, and remembers which frames it was asked for."""

    engine, version = "fake", "1.0"

    def __init__(self, seen):
        self.seen = seen
        self.asked = []

    def __call__(self, image):
        self.asked.append(int(image[0, 0, 0]))
        return [(box, 0.9) for box in self.seen[int(image[0, 0, 0])]]


def detected(seen):
    """Return the layout of a video whose samples show these boxes."""
    return detect_layout(FakeSource(len(seen)), samples=len(seen), detector=FakeDetector(seen))


def line(width, *, bottom=660, anchor="center", height=LINE):
    """Return the box of a caption's line."""
    left = {"left": 120, "center": (WIDTH - width) // 2, "right": 1160 - width}[anchor]
    return Box(left, bottom - height, left + width, bottom)


def contains(region, boxes, margin=0):
    """Tell whether all boxes are inside, with a margin."""
    return all(
        region.left <= box.left - margin
        and region.top <= box.top - margin
        and region.right >= box.right + margin
        and region.bottom >= box.bottom + margin
        for box in boxes
    )
