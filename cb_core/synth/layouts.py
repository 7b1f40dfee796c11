"""Layouts of rendered videos, as text detection or a person might give them: somewhat off, tight or loose.

A model meets regions of all kinds, from a detector that reserves room to a hand that draws a narrow box, so a dataset
of rendered videos should show them all. Detection itself would see only its own kind, at half a second a frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from cb_core.synth.truth import TRUTH_SUFFIX, read_truth
from cb_runtime.files import atomic_path

LAYOUT_SUFFIX = ".layout.json"

WITHOUT_BOXES = 0.25
"""Share of layouts that are a region only, as one given by hand."""

_JITTER = 0.06
"""Standard deviation of a box's sides, in font sizes."""

Rectangle = tuple[float, float, float, float]


def write_layouts(folder: Path, seed: int) -> list[Path]:
    """Write `<stem>.layout.json` beside each ground truth in a folder; return them in order.

    `cb dataset create` takes them in place of text detection. The same seed and videos give the same layouts.
    """
    written = []
    for number, truth in enumerate(sorted(folder.glob(f"*{TRUTH_SUFFIX}"))):
        place = truth.with_name(truth.name.removesuffix(TRUTH_SUFFIX) + LAYOUT_SUFFIX)
        document = layout_document(read_truth(truth), np.random.default_rng([7, number, seed]))
        with atomic_path(place) as temporary:
            temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")
        written.append(place)
    return written


def layout_document(truth: Mapping[str, Any], rng: Generator) -> dict[str, Any]:
    """Return a layout of one rendered video: `region`, and `boxes` seen in so many `samples` (or none)."""
    size: int = truth["details"]["style"]["size"]
    region = _region(truth, rng, size)
    samples = int(rng.integers(6, 25))
    boxes = [box for frame in rng.integers(0, truth["frames"], samples) for box in _seen(truth, int(frame), rng, size)]
    if rng.random() < WITHOUT_BOXES or not boxes:
        return {"region": region}
    return {"region": region, "boxes": boxes, "samples": samples}


def _region(truth: Mapping[str, Any], rng: Generator, size: int) -> list[int]:
    width, height = truth["width"], truth["height"]
    left, top, right, bottom = truth["region"] or _somewhere(rng, width, height, size)
    tight = rng.random() < 0.5
    above = (rng.uniform(0.05, 0.3) if tight else rng.uniform(0.3, 1.2)) * size
    beside = (rng.uniform(0.1, 0.8) if tight else rng.uniform(0.8, 5)) * size
    if rng.random() < 0.3:  # a detector reserves room for wider captions
        beside = max(beside, (width * rng.uniform(0.7, 0.95) - (right - left)) / 2)
    left, right = left - beside * rng.uniform(0.6, 1.3), right + beside * rng.uniform(0.6, 1.3)
    top, bottom = top - above * rng.uniform(0.5, 1.3), bottom + above * rng.uniform(0.5, 1.3)
    return _clipped((left, top, right, bottom), width, height, 8)


def _somewhere(rng: Generator, frame_width: int, frame_height: int, size: int) -> Rectangle:
    """Return where captions might be in a video that shows none."""
    width = int(frame_width * rng.uniform(0.3, 0.9))
    left = int(rng.uniform(0, frame_width - width)) if rng.random() < 0.3 else (frame_width - width) // 2
    height = min(frame_height, int(size * rng.uniform(1.2, 2.6)))
    top = int(rng.uniform(0, frame_height - height + 1))
    return left, top, left + width, top + height


def _seen(truth: Mapping[str, Any], frame: int, rng: Generator, size: int) -> Iterator[list[int]]:
    """Give the boxes that a detector sees in a frame: most lines of captions, now and then something else."""
    width, height = truth["width"], truth["height"]
    for caption in truth["captions"]:
        if caption["start_frame"] <= frame < caption["end_frame"] and rng.random() < 0.95:
            left, top, right, bottom = caption["region"]
            lines = caption["text"].count("\n") + 1
            for line in range(lines):
                first, last = (top + (bottom - top) * edge / lines for edge in (line, line + 1))
                sides = np.array([left, first, right, last]) + _JITTER * size * rng.normal(0, 1, 4)
                box = _clipped(tuple(sides), width, height, 4)
                if box[2] > box[0] + 2 and box[3] > box[1] + 2:
                    yield box
    if rng.random() < 0.03:
        left, top = int(rng.uniform(0, width - 20)), int(rng.uniform(0, height - 12))
        yield [left, top, min(width, left + int(rng.uniform(10, 80))), min(height, top + int(rng.uniform(8, 30)))]


def _clipped(rectangle: Rectangle, width: int, height: int, least: int) -> list[int]:
    left, top, right, bottom = rectangle
    return [
        int(min(max(left, 0), width - least)),
        int(min(max(top, 0), height - least)),
        int(min(max(right, least), width)),
        int(min(max(bottom, least), height)),
    ]
