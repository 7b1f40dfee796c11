"""A profile as a picture: one row per stage, time to the right, and how much of each moment it was busy."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cb_runtime.files import atomic_path
from cb_runtime.pipeline.profile import BINS, BUSY, INPUT, OUTPUT, Profile, StageProfile
from cb_runtime.video.types import Image

_Colour = tuple[int, int, int]

WHITE, INK, GREY, RULE = (255, 255, 255), (35, 35, 35), (110, 110, 110), (215, 215, 215)
COLOURS: dict[int, _Colour] = {BUSY: (31, 105, 180), INPUT: (250, 200, 120), OUTPUT: (205, 208, 212)}
"""RGB by state: working, waiting for input, waiting for a place for the output."""

MEANINGS = {BUSY: "busy", INPUT: "waits for input", OUTPUT: "waits for a place for its output"}

PLOT = 1024
"""Width of the plot in pixels: two for each bin."""

LEFT, RIGHT, TOP, ROW, GAP, BOTTOM = 150, 250, 96, 64, 22, 56
"""Pixels of the margins, and of a row and what is below it."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def save_timeline(profile: Profile, path: str | Path) -> None:
    """Draw a profile into a PNG file. Raises StorageError when it cannot be written."""
    with atomic_path(path) as temporary:
        done, data = cv2.imencode(".png", cv2.cvtColor(timeline_picture(profile), cv2.COLOR_RGB2BGR))
        assert done
        temporary.write_bytes(data.tobytes())


def timeline_picture(profile: Profile) -> Image:
    """Return the picture, uint8 `(height, width, 3)` RGB."""
    stages = profile.stages
    height = TOP + len(stages) * (ROW + GAP) + BOTTOM
    picture: Image = np.full((height, LEFT + PLOT + RIGHT, 3), WHITE, np.uint8)
    _text(picture, _title(profile), (LEFT, 34), 0.66, INK)
    _legend(picture)
    for number, stage in enumerate(stages):
        top = TOP + number * (ROW + GAP)
        _row(picture, profile, stage, top)
    _axis(picture, profile.elapsed_seconds, height - BOTTOM - GAP // 2)
    return picture


def _title(profile: Profile) -> str:
    slowest, longest = profile.slowest(), profile.longest()
    rate = f"; {slowest.name} sets the rate" if slowest else ""
    most = f"; {longest.name} takes the longest" if longest and longest is not slowest else ""
    return f"Where the time went: {profile.elapsed_seconds:.1f} s{rate}{most}"


def _legend(picture: Image) -> None:
    x = LEFT
    for state, meaning in MEANINGS.items():
        cv2.rectangle(picture, (x, 54), (x + 18, 70), COLOURS[state], cv2.FILLED)
        _text(picture, meaning, (x + 26, 68), 0.5, INK)
        x += 50 + cv2.getTextSize(meaning, _FONT, 0.5, 1)[0][0]


def _row(picture: Image, profile: Profile, stage: StageProfile, top: int) -> None:
    plot = picture[top : top + ROW, LEFT : LEFT + PLOT]
    plot[...] = _bars(_levels(stage, profile))
    cv2.rectangle(picture, (LEFT - 1, top - 1), (LEFT + PLOT, top + ROW), RULE, 1)
    mark = stage is profile.slowest()
    width = cv2.getTextSize(stage.name, _FONT, 0.62, 2 if mark else 1)[0][0]
    _text(picture, stage.name, (LEFT - 14 - width, top + 38), 0.62, INK, bold=mark)
    busy, for_input, for_output = stage.shares
    right = LEFT + PLOT + 14
    _text(picture, f"{busy:.0%} busy", (right, top + 18), 0.54, COLOURS[BUSY], bold=True)
    waits = f"input {for_input:.0%}, output {for_output:.0%}"
    own = f"{stage.seconds.sum():.1f} s"
    _text(picture, waits if stage.streaming else own, (right, top + 38), 0.46, GREY)
    rate = profile.items_per_second(stage)
    counts = f"{stage.items} {stage.unit}, {f'{rate:.3g}' if rate < 1000 else f'{rate:.0f}'}/s" if stage.items else ""
    _text(picture, counts, (right, top + 57), 0.46, GREY)


def _levels(stage: StageProfile, profile: Profile) -> NDArray[np.float64]:
    """Return for each column of the plot where busy, input and output end, `(3, PLOT)`, 1 being the whole of a bin."""
    used = min(BINS, max(1, int(np.ceil(profile.elapsed_seconds / profile.bin_seconds))))
    columns = np.minimum(np.arange(PLOT) * used // PLOT, used - 1)
    # Several videos at once give a stage more than a bin's time in a bin.
    most = max(profile.bin_seconds, float(stage.bins.sum(axis=0).max()))
    levels: NDArray[np.float64] = np.cumsum(stage.bins[:, columns] / most, axis=0)
    return levels


def _bars(levels: NDArray[np.float64]) -> Image:
    """Return a row's picture: in each column, from below, busy, then waiting for input, then for a place."""
    heights = (np.arange(ROW, 0, -1)[:, None] - 0.5) / ROW
    bars: Image = np.full((ROW, PLOT, 3), WHITE, np.uint8)
    for state in (OUTPUT, INPUT, BUSY):
        bars[heights <= levels[state]] = COLOURS[state]
    return bars


def _axis(picture: Image, seconds: float, y: int) -> None:
    step = _round_step(seconds / 8)
    for number in range(int(seconds / step) + 1):
        x = LEFT + round(number * step / max(seconds, 1e-9) * PLOT)
        cv2.line(picture, (x, TOP - 8), (x, y + 4), RULE, 1)
        label = f"{number * step:g} s"
        width = cv2.getTextSize(label, _FONT, 0.46, 1)[0][0]
        _text(picture, label, (x - width // 2, y + 24), 0.46, GREY)


def _round_step(seconds: float) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that is not less."""
    power = 10.0 ** np.floor(np.log10(max(seconds, 1e-6)))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= seconds))


def _text(
    picture: Image, text: str, place: tuple[int, int], scale: float, colour: _Colour, *, bold: bool = False
) -> None:
    cv2.putText(picture, text, place, _FONT, scale, colour, 2 if bold else 1, cv2.LINE_AA)
