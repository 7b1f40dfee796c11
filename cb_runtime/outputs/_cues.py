"""What the subtitle formats share: times in the format's unit, texts, and writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

from pysubs2 import SSAEvent, SSAFile

from cb_runtime.files import atomic_path
from cb_runtime.results import CaptionTrack
from cb_runtime.spans import Span

MILLISECOND = Fraction(1, 1000)
CENTISECOND = Fraction(1, 100)


def cue_times(span: Span, unit: Fraction) -> tuple[int, int]:
    """Return start and end in whole units, such that players show the cue on the same frames.

    A cue is drawn on a frame at time t when start <= t < end. Both are rounded *down*: rounded up, or to nearest, a
    start may come after its first frame (that frame stays bare), and an end after the first frame without the caption
    (that frame is drawn on). Rounded down they cannot reach the frame before, unless frames follow each other within a
    unit. Captions that follow each other without a gap still do. A caption shorter than a unit gets one.
    """
    start = max(0, span.start_pts * span.time_base // unit)
    end = max(0, span.end_pts * span.time_base // unit)
    return start, max(end, start + 1)


def cue_texts(track: CaptionTrack) -> Iterator[tuple[Span, str]]:
    """Give spans with what to show: a numbered placeholder when untranscribed; confirmed empty ones are left out."""
    for number, span in enumerate(track.spans, 1):
        if span.text is None:
            yield span, f"[caption {number}]"
        elif span.text:
            yield span, span.text


def subtitles(track: CaptionTrack, unit: Fraction, escaped: Callable[[str], str]) -> SSAFile:
    """Return the cues as pysubs2 holds them, times in milliseconds."""
    file = SSAFile()
    for span, text in cue_texts(track):
        start, end = (int(time * unit / MILLISECOND) for time in cue_times(span, unit))
        file.append(SSAEvent(start=start, end=end, text=escaped(text).replace("\n", "\\N")))
    return file


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; line ends are written as given.

    What is no character, as in file names that are no UTF-8, is written as an escape, which JSON reads back as it was.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
