"""The plan of one video: everything that is decided before its first frame is drawn.

Each aspect has a random generator of its own, made of seed, video number and the aspect's name. So a video does not
depend on how many others are rendered, and a change to one aspect leaves the others as they were.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from cb_core.synth.distractors import Distractor, kinds, pick_distractors
from cb_core.synth.encode import Encoding, pick_encoding
from cb_core.synth.fonts import find_fonts
from cb_core.synth.media import find_backgrounds
from cb_core.synth.script import PACES, CaptionEvent, write_script
from cb_core.synth.style import CaptionStyle, pick_style, writable_languages
from cb_core.synth.timing import Timing, check_rate, make_timing
from cb_core.synth.truth import GENERATOR
from cb_core.synth.typeset import Typesetter
from cb_runtime.errors import UsageError

SIZES = ((426, 240), (480, 360), (640, 360), (854, 480), (1280, 720), (1920, 1080), (360, 640))
"""Frame sizes chosen from when none is given."""
_SIZE_ODDS = (0.2, 0.1, 0.32, 0.18, 0.1, 0.04, 0.06)
_SMALLEST, _LARGEST = (96, 64), (4096, 4096)
_SHORTEST_SECONDS = 1.0


@dataclass(frozen=True)
class SynthOptions:
    """What the user asks for; the same options give the same videos on the same machine."""

    seconds: float
    """Length of each video."""
    seed: int
    size: tuple[int, int] | None = None
    """Width and height of all videos; None to choose for each."""
    frame_rate: Fraction | None = None
    """Frames per second of all videos; None to choose for each, variable for some."""
    backgrounds: Path | None = None
    """Folder of pictures and videos without captions; None for generated backgrounds."""
    fonts: Path | None = None
    """Folder of fonts; None for those of the system."""
    band: bool = False
    """Render only the rows around the captions: the same captions at a fraction of the cost, for training."""
    pace: str = "normal"
    """One of `PACES`: how long captions and gaps are, and how often captions are hard to tell apart."""

    def check(self) -> None:
        """Raise UsageError or InputError for options that cannot be obeyed."""
        if not (math.isfinite(self.seconds) and self.seconds >= _SHORTEST_SECONDS):
            raise UsageError(
                f"A video must last at least {_SHORTEST_SECONDS:g} second and a finite number of seconds, got "
                f"{self.seconds:g}."
            )
        if self.seed < 0:
            raise UsageError(f"The seed must be 0 or more, got {self.seed}.")
        if self.size is not None:
            check_size(self.size)
        if self.pace not in PACES:
            raise UsageError(f"The pace must be one of {', '.join(PACES)}, got {self.pace!r}.")
        if self.frame_rate is not None:
            check_rate(self.frame_rate, self.frame_rate)
        find_backgrounds(self.backgrounds)
        writable_languages(find_fonts(self.fonts))

    def settings(self, index: int) -> dict[str, Any]:
        """Return what determines video `index`, as JSON for its ground truth."""
        files = find_backgrounds(self.backgrounds)
        return {
            "seed": self.seed,
            "index": index,
            "seconds": float(self.seconds),
            "size": list(self.size) if self.size else None,
            "frame_rate": str(self.frame_rate) if self.frame_rate else None,
            "backgrounds": [[file.name, file.stat().st_size] for file in files] or None,
            "fonts": [face.name for face in find_fonts(self.fonts)] if self.fonts else None,
            "band": self.band,
            "pace": self.pace,
        }


def check_size(size: tuple[int, int]) -> None:
    """Raise UsageError for a frame size that cannot be encoded."""
    width, height = size
    fits = _SMALLEST[0] <= width <= _LARGEST[0] and _SMALLEST[1] <= height <= _LARGEST[1]
    if not fits or width % 2 or height % 2:
        raise UsageError(
            f"The size must be even numbers from {_SMALLEST[0]}x{_SMALLEST[1]} to {_LARGEST[0]}x{_LARGEST[1]}, "
            f"got {width}x{height}."
        )


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return a digest that two videos share when generator and settings are the same."""
    text = json.dumps({"generator": GENERATOR, **settings}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def generator_for(options: SynthOptions, index: int, aspect: str) -> Generator:
    """Return the random generator of one aspect of one video."""
    return np.random.default_rng([options.seed, index, zlib.crc32(aspect.encode())])


@dataclass(frozen=True)
class VideoPlan:
    """One video before it is rendered."""

    options: SynthOptions
    index: int
    size: tuple[int, int]
    """Width and height in pixels."""
    encoding: Encoding
    timing: Timing
    style: CaptionStyle
    events: tuple[CaptionEvent, ...]
    distractors: tuple[Distractor, ...]
    rows: tuple[int, int]
    """Rows `[top, bottom)` of the frame that are rendered: all, or the band around the captions."""

    @property
    def rendered_size(self) -> tuple[int, int]:
        """Width and height of the video file."""
        return self.size[0], self.rows[1] - self.rows[0]

    @property
    def stem(self) -> str:
        """File name without suffix."""
        return stem_of(self.index)

    def details(self) -> dict[str, Any]:
        """Return what the ground truth tells beyond the captions, for slices of an evaluation."""
        return {
            "style": self.style.to_dict(),
            "encoding": self.encoding.to_dict(),
            "distractors": kinds(self.distractors),
        }


def stem_of(index: int) -> str:
    """Return the file name, without suffix, of video `index`."""
    return f"video_{index:04d}"


def plan_timing(options: SynthOptions, index: int) -> tuple[Encoding, Timing]:
    """Return how video `index` is encoded and when its frames are shown."""
    encoding = pick_encoding(generator_for(options, index, "encoding"))
    rng = generator_for(options, index, "timing")
    return encoding, make_timing(rng, options.seconds, options.frame_rate, matroska=encoding.matroska)


def plan_video(options: SynthOptions, index: int) -> VideoPlan:
    """Decide everything about video `index`."""
    encoding, timing = plan_timing(options, index)
    size = options.size or SIZES[int(generator_for(options, index, "size").choice(len(SIZES), p=_SIZE_ODDS))]
    pace = PACES[options.pace]
    style = pick_style(generator_for(options, index, "style"), find_fonts(options.fonts), *size, bare=pace.bare)
    script = generator_for(options, index, "script")
    without = bool(script.random() < pace.without_captions) if pace.without_captions else False
    rng = generator_for(options, index, "distractors")
    distractors, style = pick_distractors(rng, style, timing, size, beside=options.band, busy=without)
    setter = Typesetter(style, *size)
    events = () if without else write_script(script, timing, style, setter, pace)
    rows = (0, size[1])
    if options.band:
        lines = [event.lines for event in events] or [setter.fit(style.writer().sentence(script, 8))[1]]
        rows = _band(generator_for(options, index, "band"), setter, lines, size[1])
    return VideoPlan(options, index, size, encoding, timing, style, events, distractors, rows)


def _band(rng: Generator, setter: Typesetter, captions: Sequence[tuple[str, ...]], height: int) -> tuple[int, int]:
    """Return the rows of all these captions with room above and below, an even number of them."""
    boxes = [setter.box(lines) for lines in captions]
    above, below = (round(setter.style.size * float(room)) for room in rng.uniform(0.3, 1.6, 2))
    top = max(0, min(box.top for box in boxes) - above)
    bottom = min(height, max(box.bottom for box in boxes) + below)
    missing = max(_SMALLEST[1] - (bottom - top), (bottom - top) % 2)
    top = max(0, top - missing)
    bottom = min(height, max(bottom, top + _SMALLEST[1]))
    return top, bottom - (bottom - top) % 2
