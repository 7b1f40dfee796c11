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
    start_score: float = 1.0
    """Probability, in [0, 1], that the start is right; 1.0 for ground truth and for a caption older than the video."""
    end_score: float = 1.0
    """Probability, in [0, 1], that the end is right; 1.0 for ground truth and for a caption that outlasts the video."""
    fade_in: tuple[int, int] | None = None
    """Frames `[first partly visible, first fully visible)` around the start; None for a cut."""
    fade_out: tuple[int, int] | None = None
    """Frames `[first partly visible, first invisible)` around the end; None for a cut."""
    fade_in_pts: tuple[int, int] | None = None
    """PTS of the two frames of `fade_in`."""
    fade_out_pts: tuple[int, int] | None = None
    """PTS of the two frames of `fade_out`."""

    @property
    def start_seconds(self) -> float:
        """Start in seconds from the first frame's presentation time."""
        return float(self.start_pts * self.time_base)

    @property
    def end_seconds(self) -> float:
        """End in seconds from the first frame's presentation time."""
        return float(self.end_pts * self.time_base)
