"""When frames are shown: constant and variable frame rates, exact in a rational time base."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cb_runtime.errors import UsageError

RATES = tuple(Fraction(*rate) for rate in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60, 1)))
"""Frame rates chosen from when none is given."""
_RATE_ODDS = (0.2, 0.08, 0.28, 0.2, 0.12, 0.06, 0.06)
_NTSC = {
    "23.976": Fraction(24000, 1001),
    "23.98": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
    "59.94": Fraction(60000, 1001),
}
_FASTEST = 240

MILLISECOND = Fraction(1, 1000)
"""Time base of Matroska."""
_FINE = Fraction(1, 30000)
"""Time base of variable frame rate in MP4; MPEG-4 Part 2 allows at most 65535 units a second."""


@dataclass(frozen=True)
class Timing:
    """The presentation times of all frames of a video."""

    time_base: Fraction
    """Unit of `pts` in seconds."""
    pts: NDArray[np.int64]
    """Presentation time stamp of each frame, rising, from 0."""
    end_pts: int
    """When the last frame ends."""
    rate: Fraction
    """Nominal frames per second."""
    variable: bool
    """True when frames are not evenly spaced."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.pts)

    def seconds(self, frame: int) -> float:
        """Return when a frame is shown; for `frame == frames`, when the last one ends."""
        return float(self.pts_at(frame) * self.time_base)

    def pts_at(self, frame: int) -> int:
        """Return a frame's time stamp; for `frame == frames`, the end of the last one."""
        return int(self.pts[frame]) if frame < self.frames else self.end_pts

    def frame_at(self, seconds: float) -> int:
        """Return the first frame shown at `seconds` or later; `frames` when there is none."""
        return int(np.searchsorted(self.pts, seconds / float(self.time_base) - 1e-6))


def rate_from_text(text: str) -> Fraction | None:
    """Read a frame rate such as `25`, `29.97` or `30000/1001`; `auto` gives None. Raises UsageError otherwise."""
    if text == "auto":
        return None
    try:
        rate = _NTSC.get(text) or Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    check_rate(rate, text)
    return rate


def check_rate(rate: Fraction, shown: object) -> None:
    """Raise UsageError when a frame rate is out of range."""
    if not 1 <= rate <= _FASTEST:
        raise UsageError(
            f"The frame rate must be auto, or a number from 1 to {_FASTEST} such as 25 or 30000/1001, got {shown}."
        )


def make_timing(rng: Generator, seconds: float, rate: Fraction | None, *, matroska: bool) -> Timing:
    """Draw the frame times of a video of this length; a given rate is kept, otherwise one is chosen (some variable)."""
    variable = rate is None and rng.random() < 0.18
    rate = rate or RATES[int(rng.choice(len(RATES), p=_RATE_ODDS))]
    base = MILLISECOND if matroska else _FINE if variable else 1 / rate
    count = max(2, round(seconds * rate))
    if variable:
        times = _variable_times(rng, count, float(rate), seconds)
        pts = np.rint(times / float(base)).astype(np.int64)
    elif base == 1 / rate:
        pts = np.arange(count + 1, dtype=np.int64)
    else:
        pts = np.array([round(frame / rate / base) for frame in range(count + 1)], np.int64)
    pts = np.unique(pts - pts[0])
    return Timing(base, pts[:-1], int(pts[-1]), rate, variable)


def _variable_times(rng: Generator, count: int, rate: float, seconds: float) -> NDArray[np.float64]:
    kind = int(rng.integers(3))
    if kind == 0:  # dropped frames, as screen recorders and phones leave them
        keep = rng.random(count + 1) >= rng.uniform(0.08, 0.35)
        keep[[0, 1, -1]] = True
        times: NDArray[np.float64] = np.arange(count + 1)[keep] / rate
        return times
    if kind == 1:  # jitter
        steps = rng.uniform(0.75, 1.25, count) / rate
    else:  # stretches of other rates, as edited material has them
        stretches = np.repeat(rng.choice([0.5, 0.8, 1.0, 1.25], 1 + count // 40), 40)[:count]
        steps = 1 / (rate * stretches)
    times = np.concatenate([[0.0], np.cumsum(steps)])
    kept: NDArray[np.float64] = times[times <= max(seconds, times[2])]
    return kept
