"""Snap captions to a video's frames, and refuse those that cannot be true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from cb_core.data.captions import Caption, CaptionFile, Region
from cb_runtime.errors import InputError

UNKNOWN = -2
"""State of a frame that nobody annotated."""

EMPTY = -1
"""State of a frame that shows no caption; 0 and above: index of the caption it shows."""

END_GRACE = Fraction(1, 2)
"""Seconds by which the last caption may outlast the video: subtitle editors let it."""

_MARGIN = Fraction(1)
"""Seconds around a dropped caption without length that count as not annotated."""


@dataclass(frozen=True)
class Timeline:
    """When the frames of one video are shown."""

    pts: NDArray[np.int64]
    """Presentation time stamps in order, relative to the first frame's stream start."""
    end_pts: int
    """Last PTS plus its duration."""
    time_base: Fraction
    truncated: bool = False
    """True when the file goes on but could not be decoded."""

    @property
    def end_seconds(self) -> Fraction:
        """Where the decoded part of the video ends."""
        return self.end_pts * self.time_base

    def frame_at(self, seconds: Fraction) -> int:
        """Return the index of the first frame shown at or after a time; the number of frames when there is none."""
        return int(np.searchsorted(self.pts, math.ceil(seconds / self.time_base), "left"))

    def pts_at(self, frame: int) -> int:
        """Return a frame's PTS; the end of the video for the index after the last."""
        return int(self.pts[frame]) if frame < len(self.pts) else self.end_pts


@dataclass(frozen=True)
class FrameCaption:
    """A caption on frames `[start_frame, end_frame)`."""

    start_frame: int
    end_frame: int
    text: str | None
    name: str
    region: Region | None = None


@dataclass
class Annotation:
    """What is known of every frame of one video."""

    captions: list[FrameCaption]
    """In time order, without overlaps."""
    states: NDArray[np.int64]
    """Per frame: index into `captions`, `EMPTY` or `UNKNOWN`."""
    messages: list[str] = field(default_factory=list)


def annotate(timeline: Timeline, file: CaptionFile, *, skip_bad: bool = False) -> Annotation:
    """Lay captions over a video's frames.

    A caption shows on the frames from its start (within the file's rounding) until before its end. The stretch of a
    caption that is dropped counts as not annotated, never as empty.

    Raises:
        InputError: Captions without length, overlapping, or beyond the end, and `skip_bad` is false; lists them all.
    """
    placed = [_placed(timeline, caption, file.tolerance) for caption in file.captions]
    placed.sort(key=lambda caption: (caption.start_frame, caption.end_frame))
    cut = sum(caption.start_frame >= len(timeline.pts) for caption in placed) if timeline.truncated else 0
    placed = placed[: len(placed) - cut]
    problems = _problems(timeline, file, placed)
    if problems and not skip_bad:
        raise InputError(_complaint(file, list(problems.values())))
    kept = [caption for caption in placed if caption.name not in problems]
    messages = [f"{problem}: left out" for problem in problems.values()]
    if cut:
        messages.append(f"{cut} captions lie in the part that could not be decoded")
    dropped = [caption for caption in placed if caption.name in problems]
    return Annotation(kept, _states(timeline, file, kept, dropped), messages)


def _placed(timeline: Timeline, caption: Caption, tolerance: Fraction) -> FrameCaption:
    frames = len(timeline.pts)
    if caption.start is None or caption.end is None:
        assert caption.start_frame is not None
        assert caption.end_frame is not None
        stop = min(caption.end_frame, frames)
        return FrameCaption(caption.start_frame, stop, caption.text, caption.name, caption.region)
    start, end = timeline.frame_at(caption.start - tolerance), timeline.frame_at(caption.end - tolerance)
    return FrameCaption(start, end, caption.text, caption.name, caption.region)


def _problems(timeline: Timeline, file: CaptionFile, placed: Sequence[FrameCaption]) -> dict[str, str]:
    found: dict[str, str] = {}
    ends = {caption.name: _end_seconds(timeline, caption) for caption in file.captions}
    for caption in placed:
        if not timeline.truncated and ends[caption.name] > timeline.end_seconds + END_GRACE:
            found[caption.name] = f"{caption.name} is beyond the video's end at {float(timeline.end_seconds):.3f} s"
        elif caption.end_frame <= caption.start_frame:
            found[caption.name] = f"{caption.name} has no length: no frame shows it"
    for earlier, later in _overlaps([caption for caption in placed if caption.name not in found]):
        found[earlier.name] = found[later.name] = f"{earlier.name} and {later.name} overlap"
    return found


def _end_seconds(timeline: Timeline, caption: Caption) -> Fraction:
    if caption.end is not None and caption.start is not None:
        return max(caption.start, caption.end)
    assert caption.end_frame is not None
    beyond = caption.end_frame > len(timeline.pts)
    return timeline.end_seconds + (END_GRACE + 1 if beyond else 0)


def _overlaps(placed: Sequence[FrameCaption]) -> list[tuple[FrameCaption, FrameCaption]]:
    found = []
    longest: FrameCaption | None = None
    for caption in placed:
        if longest is not None and caption.start_frame < longest.end_frame:
            found.append((longest, caption))
        if longest is None or caption.end_frame > longest.end_frame:
            longest = caption
    return found


def _complaint(file: CaptionFile, problems: Sequence[str]) -> str:
    lines = "".join(f"\n  {problem}" for problem in dict.fromkeys(problems))
    return (
        f"{file.path} has captions that cannot be true:{lines}\nCorrect them, or leave them and their stretches out "
        "with --skip-bad-captions."
    )


def _states(
    timeline: Timeline, file: CaptionFile, kept: Sequence[FrameCaption], dropped: Sequence[FrameCaption]
) -> NDArray[np.int64]:
    states = np.full(len(timeline.pts), EMPTY if file.annotated is None else UNKNOWN, np.int64)
    for start, end in file.annotated or ():
        states[timeline.frame_at(start - file.tolerance) : timeline.frame_at(end - file.tolerance)] = EMPTY
    for index, caption in enumerate(kept):
        # A confirmed empty stretch (text '') is as good as annotated: it shows no caption.
        states[caption.start_frame : caption.end_frame] = EMPTY if caption.text == "" else index
    for caption in dropped:
        margin = _MARGIN if caption.end_frame <= caption.start_frame else Fraction(0)
        states[_around(timeline, caption, margin)] = UNKNOWN
    return states


def _around(timeline: Timeline, caption: FrameCaption, margin: Fraction) -> slice:
    frames = len(timeline.pts)
    first, stop = sorted(min(max(edge, 0), frames) for edge in (caption.start_frame, caption.end_frame))
    start = timeline.pts_at(first) * timeline.time_base - margin
    end = timeline.pts_at(stop) * timeline.time_base + margin
    return slice(timeline.frame_at(start), timeline.frame_at(end))
