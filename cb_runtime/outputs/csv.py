"""CSV for spreadsheets: frame, timecode and seconds of start, end and length."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from cb_runtime.outputs._cues import MILLISECOND, write_text
from cb_runtime.results import CaptionTrack
from cb_runtime.spans import Span

SUFFIX = ".csv"

COLUMNS = (
    "id",
    *(f"{point}_{measure}" for point in ("start", "end", "length") for measure in ("frame", "timecode", "seconds")),
    "transcribed",
    "text",
    "score",
    "flags",
    "start_score",
    "end_score",
    *(f"{fade}_{point}_frame" for fade in ("fade_in", "fade_out") for point in ("start", "end")),
)
"""`transcribed` is `no` where the text is not known; `yes` with an empty text means confirmed empty.
The frames of a fade are empty for a cut."""


def write(track: CaptionTrack, path: Path) -> None:
    """Write one line per caption, after a line of column names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([number, *_row(span)] for number, span in enumerate(track.spans, 1))
    write_text(path, text.getvalue())


def _row(span: Span) -> Iterator[object]:
    start, end = span.start_pts * span.time_base, span.end_pts * span.time_base
    yield from (span.start_frame, _timecode(start), _seconds(start))
    yield from (span.end_frame, _timecode(end), _seconds(end))
    yield from (span.end_frame - span.start_frame, _timecode(end - start), _seconds(end - start))
    yield from ("no" if span.text is None else "yes", span.text or "", round(span.score, 6), " ".join(span.flags))
    yield from (round(span.start_score, 6), round(span.end_score, 6))
    yield from (*(span.fade_in or ("", "")), *(span.fade_out or ("", "")))


def _seconds(time: Fraction) -> float:
    return round(float(time), 6)


def _timecode(time: Fraction) -> str:
    seconds, milliseconds = divmod(max(0, time // MILLISECOND), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"
