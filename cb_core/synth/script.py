"""The caption timeline: what is shown from which frame to which, with which fades.

A boundary of a fade is where the opacity crosses one half. All fades have an even number of partly visible frames, so
that in a cross-fade one caption ends at exactly the frame where the next begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.random import Generator

from cb_core.synth.style import CaptionStyle
from cb_core.synth.text import Sentence
from cb_core.synth.timing import Timing
from cb_core.synth.typeset import Typesetter

SHORTEST, LONGEST = 0.3, 5.0
"""Length of captions in seconds."""
_FULL_SCRIPT_SECONDS = 10.0
"""A video this long shows every kind of transition."""
_GAP_SECONDS = {"none": (0.0, 0.0), "frame": (0.0, 0.0), "short": (0.08, 0.4), "pause": (0.4, 1.8), "long": (2.0, 6.0)}


@dataclass(frozen=True)
class Pace:
    """How captions follow each other."""

    speed: float
    """Lengths of captions and pauses are divided by this."""
    gaps: Mapping[str, float]
    """Kind of gap to its share."""
    near_identical: float
    """Share of captions that differ in one character from the one directly before."""
    without_captions: float
    """Share of videos that show no caption at all."""
    cuts: float = 1.0
    """Lengths of shots are divided by this."""
    moving: float = 0.0
    """Share of shots of still pictures over which cut-outs of other pictures move."""
    bare: float = 0.0
    """Share of videos whose captions are made to have neither outline nor box; others may have none by chance."""


_QUICK = {"none": 0.46, "frame": 0.1, "short": 0.16, "pause": 0.2, "long": 0.08}

PACES = {
    "normal": Pace(1.0, {"none": 0.4, "frame": 0.05, "short": 0.15, "pause": 0.28, "long": 0.12}, 0.22, 0.0),
    "fast": Pace(2.5, _QUICK, 0.4, 0.1),
    "restless": Pace(1.6, _QUICK, 0.45, 0.1, 4.0, 0.5),
    "similar": Pace(2.0, {"none": 0.66, "frame": 0.1, "short": 0.1, "pause": 0.1, "long": 0.04}, 0.85, 0.05, 2.0, 0.3),
    "bare": Pace(1.6, _QUICK, 0.45, 0.1, 4.0, 0.5, 0.5),
}
"""`normal` resembles subtitles of films. The others are for training: `fast` has many boundaries a second, and many
that are hard; `restless` has many cuts and much movement behind each caption, which are no boundaries; in `similar`
most captions differ in one character from the one before; `bare` is `restless` where half the videos have text without
outline and box."""


@dataclass(frozen=True)
class CaptionEvent:
    """One caption in time, in frame indices; intervals are half-open."""

    lines: tuple[str, ...]
    colour: int
    """Which of the style's colours it has."""
    start_frame: int
    """First frame at half opacity or more: the boundary."""
    end_frame: int
    """First frame after it below half opacity; the number of frames when the caption lasts to the end."""
    fade_in_frames: int = 0
    """Partly visible frames around the start, an even number; 0 for a cut."""
    fade_out_frames: int = 0
    """Partly visible frames around the end, an even number; 0 for a cut."""

    @property
    def text(self) -> str:
        """The caption's lines, separated by line feeds."""
        return "\n".join(self.lines)

    @property
    def first_frame(self) -> int:
        """First frame that shows anything of it."""
        return self.start_frame - self.fade_in_frames // 2

    @property
    def last_frame(self) -> int:
        """Last frame that shows anything of it (inclusive)."""
        return self.end_frame + self.fade_out_frames // 2 - 1

    @property
    def fade_in(self) -> tuple[int, int] | None:
        """`[first partly visible frame, first fully visible frame)`, or None for a cut."""
        half = self.fade_in_frames // 2
        return (self.start_frame - half, self.start_frame + half) if half else None

    @property
    def fade_out(self) -> tuple[int, int] | None:
        """`[first partly visible frame, first invisible frame)`, or None for a cut."""
        half = self.fade_out_frames // 2
        return (self.end_frame - half, self.end_frame + half) if half else None

    def opacity(self, frame: int) -> float:
        """Return how visible the caption is in a frame, in [0, 1]."""
        if not self.first_frame <= frame <= self.last_frame:
            return 0.0
        rising = falling = 1.0
        if self.fade_in_frames:
            rising = (frame - self.first_frame + 1) / (self.fade_in_frames + 1)
        if self.fade_out_frames:
            falling = (self.last_frame + 1 - frame) / (self.fade_out_frames + 1)
        return min(1.0, rising, falling)


@dataclass(frozen=True)
class _Slot:
    """Start and end frame of a caption to be written."""

    start: int
    end: int


def write_script(
    rng: Generator, timing: Timing, style: CaptionStyle, setter: Typesetter, pace: Pace = PACES["normal"]
) -> tuple[CaptionEvent, ...]:
    """Draw the captions of a video. One of ten seconds or more shows every kind of transition."""
    slots = _slots(rng, timing, pace)
    fades = _fades(rng, slots, timing, style)
    events: list[CaptionEvent] = []
    sentence: Sentence | None = None
    for number, slot in enumerate(slots):
        near = number > 0 and slot.start - slots[number - 1].end <= 2 and rng.random() < pace.near_identical
        seconds = pace.speed * (timing.seconds(slot.end) - timing.seconds(slot.start))
        sentence, lines = _next_text(rng, style, setter, sentence, seconds, near=near)
        colour = events[-1].colour if near else number % len(style.colours)
        events.append(CaptionEvent(lines, colour, slot.start, slot.end, *fades[number]))
    return tuple(events)


def _next_text(
    rng: Generator,
    style: CaptionStyle,
    setter: Typesetter,
    previous: Sentence | None,
    seconds: float,
    *,
    near: bool,
) -> tuple[Sentence, tuple[str, ...]]:
    writer = style.writer()
    if near and previous is not None:
        changed = writer.near_identical(rng, previous)
        fitted, lines = setter.fit(changed)
        if fitted == changed and changed != previous:
            return fitted, lines
    while True:
        words = int(rng.integers(1, 4 + round(4 * min(seconds, 3))))
        fitted, lines = setter.fit(writer.sentence(rng, words))
        if previous is None or fitted.text != previous.text:
            return fitted, lines


def _slots(rng: Generator, timing: Timing, pace: Pace) -> list[_Slot]:
    total = timing.seconds(timing.frames)
    scale = min(1.0, total / _FULL_SCRIPT_SECONDS) / pace.speed
    forced = [str(kind) for kind in rng.permutation(["none", "pause"])]
    slots: list[_Slot] = []
    start = 0 if rng.random() < 0.08 else timing.frame_at(scale * rng.uniform(0.1, 1.0))
    while start < timing.frames:
        length = _length(rng, scale if len(slots) < 3 else None, pace)
        end = max(start + 2, timing.frame_at(timing.seconds(start) + length))
        if end >= timing.frames:
            return _closed(rng, slots, start, timing)
        slots.append(_Slot(start, end))
        start = _after_gap(rng, timing, end, scale, forced.pop() if forced else None, pace)
    return slots


def _length(rng: Generator, forced_scale: float | None, pace: Pace) -> float:
    if forced_scale is not None:
        return max(SHORTEST / pace.speed, forced_scale * float(rng.uniform(0.6, 2.0)))
    if rng.random() < 0.2:
        return float(rng.uniform(SHORTEST, 0.8)) / pace.speed
    return float(rng.uniform(0.8, LONGEST) if rng.random() < 0.4 else rng.uniform(0.8, 2.5)) / pace.speed


def _closed(rng: Generator, slots: list[_Slot], start: int, timing: Timing) -> list[_Slot]:
    # What is left may hold one more caption that lasts to the end of the video.
    left = timing.seconds(timing.frames) - timing.seconds(start)
    if not slots or (left >= SHORTEST and timing.frames - start >= 2 and left <= LONGEST and rng.random() < 0.5):
        slots.append(_Slot(min(start, timing.frames - 1), timing.frames))
    return slots


def _after_gap(rng: Generator, timing: Timing, end: int, scale: float, forced: str | None, pace: Pace) -> int:
    kind = forced or str(rng.choice(list(pace.gaps), p=list(pace.gaps.values())))
    if kind == "none":
        return end
    if kind == "frame":
        return end + 1
    low, high = (0.8 * scale, 1.5 * scale) if forced else (value / pace.speed for value in _GAP_SECONDS[kind])
    return max(end + 2, timing.frame_at(timing.seconds(end) + float(rng.uniform(low, high))))


def _fades(rng: Generator, slots: Sequence[_Slot], timing: Timing, style: CaptionStyle) -> list[tuple[int, int]]:
    """Return how many frames each slot fades in and out; adjoining captions fade into each other."""
    halves = [[0, 0] for _ in slots]
    for number in range(len(slots) + 1):
        before = slots[number - 1] if number > 0 else None
        after = slots[number] if number < len(slots) else None
        gap = (after.start if after else timing.frames) - (before.end if before else 0)
        rising, falling = (_half(rng, timing, style) for _ in range(2))
        if before and after and gap == 0:
            rising = falling = min(rising, _room(before), _room(after))
        if before:
            halves[number - 1][1] = min(falling, _room(before), max(0, gap - 2) // 2) if gap else falling * bool(after)
        if after:
            halves[number][0] = min(rising, _room(after), max(0, gap - 2) // 2) if gap else rising * bool(before)
    return [(2 * rising, 2 * falling) for rising, falling in halves]


def _half(rng: Generator, timing: Timing, style: CaptionStyle) -> int:
    if rng.random() >= style.fades:
        return 0
    return max(1, round(float(rng.uniform(0.08, 0.5) * timing.rate) / 2))


def _room(slot: _Slot) -> int:
    # Fades take at most a third of the caption on each side, so that it is fully visible in between.
    return (slot.end - slot.start) // 3
