"""Captions in time: the `Span`. Label probabilities become spans in `cb_runtime.decoding`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Span:
    """One caption's half-open time `[start, end)`."""

    start_pts: int
    """PTS of the first frame that shows the caption, in units of `time_base`."""
    end_pts: int
    """PTS of the first frame that no longer shows it; for a caption that lasts to the end, last PTS plus duration."""
    time_base: Fraction
    """Unit of the PTS in seconds."""
    start_frame: int
    """Index of the first frame that shows the caption."""
    end_frame: int
    """Index of the first frame that does not: `[start_frame, end_frame)`."""
    text: str | None = None
    """What the caption says; None when not transcribed, `""` when confirmed empty."""
    score: float = 1.0
    """Probability, in [0, 1], that both boundaries are right; 1.0 for ground truth."""
    flags: tuple[str, ...] = ()
    """Doubts found while decoding, e.g. `contradiction`; empty for a clean caption."""

    @property
    def start_seconds(self) -> float:
        """Start in seconds from the first frame's presentation time."""
        return float(self.start_pts * self.time_base)

    @property
    def end_seconds(self) -> float:
        """End in seconds from the first frame's presentation time."""
        return float(self.end_pts * self.time_base)
