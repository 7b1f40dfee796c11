"""When captions are shown and what they say, as a subtitle file would have it: centiseconds, one after another."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator
from plan import VideoPlan
from texts import SCRIPTS, draw_text, one_character_edit

SHORTEST_FRAMES, SHORT_FRAMES = 5, 12
"""A caption of at most `SHORT_FRAMES` is called short; none is shorter than `SHORTEST_FRAMES`."""
_GAPS = {"none": 0.4, "frame": 0.09, "blink": 0.16, "pause": 0.25, "long": 0.1}
_NEAR_IDENTICAL = 0.25
"""Share of captions after a gap of at most one frame that differ by one character from the one before."""


@dataclass(frozen=True)
class Event:
    """One caption as planned; what it came to on which frame is measured."""

    start: int
    """In centiseconds, like all times here."""
    end: int
    text: str
    fade_in: int = 0
    """In milliseconds."""
    fade_out: int = 0
    near_identical: bool = False
    """Differs by one character from the caption before."""
    karaoke: bool = False
    """Sung word by word: still one caption."""


def write_captions(plan: VideoPlan) -> list[Event]:
    """Draw the captions of a video; none for a video without."""
    if not plan.captioned:
        return []
    rng = plan.rng("captions")
    slots = _slots(rng, plan)
    events: list[Event] = []
    for number, (start, end) in enumerate(slots):
        gap_before = start - slots[number - 1][1] if number else start
        gap_after = slots[number + 1][0] - end if number + 1 < len(slots) else 100
        text, near = _text(rng, plan, events[-1].text if events else "", gap_before / 100 * plan.rate)
        fades = _fades(rng, plan, 10 * (end - start), gap_before, gap_after)
        events.append(Event(start, end, text, *fades, near, plan.cards["karaoke"] == "yes"))
    return events


def _slots(rng: Generator, plan: VideoPlan) -> list[tuple[int, int]]:
    total, rate = round(plan.seconds * 100), float(plan.rate)
    slots: list[tuple[int, int]] = []
    start = int(rng.integers(30, 150))
    while True:
        short = rng.random() < 0.2
        frames = rng.integers(SHORTEST_FRAMES + 1, SHORT_FRAMES + 1) if short else rate * rng.uniform(0.6, 2.6)
        end = start + max(12, round(float(frames) / rate * 100))
        if end > total - 20:
            return slots
        slots.append((start, end))
        start = _after_gap(rng, end, rate)


def _after_gap(rng: Generator, end: int, rate: float) -> int:
    kind = str(rng.choice(list(_GAPS), p=list(_GAPS.values())))
    if kind == "none":
        return end
    if kind == "frame":
        return end + max(1, round(100 / rate))
    frames = {"blink": (2, 7), "pause": (0.3 * rate, 1.0 * rate), "long": (1.2 * rate, 2.5 * rate)}[kind]
    return end + max(2, round(float(rng.uniform(*frames)) / rate * 100))


def _text(rng: Generator, plan: VideoPlan, previous: str, gap_frames: float) -> tuple[str, bool]:
    script = SCRIPTS[plan.cards["script"]]
    if previous and gap_frames <= 1.5 and rng.random() < _NEAR_IDENTICAL:
        changed = one_character_edit(rng, script, previous)
        if changed is not None:
            return changed, True
    lines = {"one": 1, "two": 2, "mixed": int(rng.integers(1, 3))}[plan.cards["lines"]]
    longest = int(0.86 * plan.size[0] / (plan.font_size * script.width))
    return draw_text(rng, script, lines, longest, previous), False


def _fades(rng: Generator, plan: VideoPlan, length_ms: int, before: int, after: int) -> tuple[int, int]:
    """Return fades in and out; none towards a neighbour that follows without a gap, as typesetters do it."""
    share = {"cut": 0.0, "fade": 0.9, "mixed": 0.4}[plan.cards["transition"]]
    longest = min(500, length_ms // 3)
    drawn = [int(rng.integers(80, 501)) if rng.random() < share else 0 for _ in range(2)]
    allowed = [min(fade, longest) if gap > 6 else 0 for fade, gap in zip(drawn, (before, after), strict=True)]
    return allowed[0], allowed[1]
