"""Read caption times from subtitle files, from cb's own JSON, and from the ground truth of rendered videos.

What a caption without words means depends on the file. In SRT, WebVTT and ASS a cue without text is a caption that was
timed and not transcribed: its text is None. In JSON `null` (or no text at all) says the same, and `""` says that
somebody looked and no caption is shown. A file without any cue says that the whole video has no captions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pysubs2

from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box

SUBTITLE_FORMATS = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa"}
"""Suffix -> pysubs2's name of the format."""

MILLISECOND = Fraction(1, 1000)
CENTISECOND = Fraction(1, 100)

_PLACEHOLDER = re.compile(r"\[caption \d+\]")
"""What cb writes as the text of a caption that nobody transcribed."""


Region = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the displayed frame, half-open."""


@dataclass(frozen=True)
class Caption:
    """One caption as its file gives it: by time, or by frames where the file has no times."""

    name: str
    """How an error calls it, e.g. `cue 3 (1.000 to 2.500 s)`."""
    text: str | None
    """None: not transcribed; `""`: confirmed that nothing is shown."""
    start: Fraction | None = None
    """Seconds from the first frame's presentation time; None when only frames are known."""
    end: Fraction | None = None
    start_frame: int | None = None
    """First frame that shows it, where the file has no times."""
    end_frame: int | None = None
    region: Region | None = None
    """Where it stands in the frame, where the file says so."""


@dataclass(frozen=True)
class CaptionFile:
    """What a caption file says of its video."""

    path: Path
    captions: tuple[Caption, ...]
    """In the order of the file."""
    tolerance: Fraction
    """Rounding of the file's times in seconds: a frame this much before a time still counts as at that time."""
    annotated: tuple[tuple[Fraction, Fraction], ...] | None = None
    """Stretches in seconds that somebody looked at; None for the whole video."""


def read_captions(path: Path) -> CaptionFile:
    """Read a caption file. Raises InputError when it is unreadable or of an unknown kind."""
    suffix = path.suffix.lower()
    if suffix not in (".json", *SUBTITLE_FORMATS):
        known = ", ".join((".json", *SUBTITLE_FORMATS))
        raise InputError(f"{path} is not a caption file cb reads: expected {known}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    return _from_json(path, text) if suffix == ".json" else _from_subtitles(path, text, SUBTITLE_FORMATS[suffix])


def _from_subtitles(path: Path, text: str, kind: str) -> CaptionFile:
    tolerance = CENTISECOND / 2 if kind in ("ass", "ssa") else MILLISECOND
    if not text.strip():
        return CaptionFile(path, (), tolerance)
    try:
        events = list(pysubs2.SSAFile.from_string(text, format_=kind))
    except (pysubs2.exceptions.Pysubs2Error, ValueError) as error:
        raise InputError(f"{path} is not valid {kind.upper()}: {error}.") from error
    _check_all_read(path, text, kind, len(events))
    shown = [event for event in events if not (event.is_comment or event.is_drawing)]
    captions = [_from_event(number, event) for number, event in enumerate(shown, 1)]
    return CaptionFile(path, _merged(captions), tolerance)


def _check_all_read(path: Path, text: str, kind: str, events: int) -> None:
    # pysubs2 skips what it does not understand; a cue lost that way would be taken for "no caption here".
    patterns = {"srt": r"-->", "vtt": r"-->", "ass": r"^(Dialogue|Comment):", "ssa": r"^(Dialogue|Comment):"}
    headers = {"srt": "", "vtt": "WEBVTT", "ass": "[Events]", "ssa": "[Events]"}
    cues = len(re.findall(patterns[kind], text, re.MULTILINE))
    if headers[kind] not in text or cues != events or (kind == "srt" and not events):
        raise InputError(
            f"{path} is not valid {kind.upper()}: {cues} cues seen, {events} understood. Mend its time lines, or empty "
            "the file to say that the video has no captions."
        )


def _from_event(number: int, event: pysubs2.SSAEvent) -> Caption:
    start, end = Fraction(event.start, 1000), Fraction(event.end, 1000)
    text = event.plaintext.strip()
    transcribed = text and not _PLACEHOLDER.fullmatch(text)
    return Caption(_name("cue", number, start, end), text if transcribed else None, start, end)


def _merged(captions: Iterable[Caption]) -> tuple[Caption, ...]:
    # Two cues at exactly the same times are one caption written as two lines.
    found: dict[tuple[Fraction | None, Fraction | None], Caption] = {}
    for caption in captions:
        key = (caption.start, caption.end)
        if key in found:
            first = found[key]
            texts = [text for text in (first.text, caption.text) if text]
            caption = Caption(first.name, "\n".join(texts) or None, *key)
        found[key] = caption
    return tuple(found.values())


def _name(kind: str, number: object, start: Fraction, end: Fraction) -> str:
    return f"{kind} {number} ({float(start):.3f} to {float(end):.3f} s)"


def _from_json(path: Path, text: str) -> CaptionFile:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}.") from error
    entries = values.get("segments", values.get("captions")) if isinstance(values, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{path} is not a caption file: expected a JSON object with a list 'segments' or 'captions'.")
    captions = tuple(_from_entry(path, number, entry, values) for number, entry in enumerate(entries, 1))
    return CaptionFile(path, captions, MILLISECOND, _annotated(path, values.get("annotated")))


def _from_entry(path: Path, number: int, entry: object, document: Mapping[str, Any]) -> Caption:
    try:
        return _caption_from_entry(number, entry, document)
    except (KeyError, TypeError, ValueError, ArithmeticError, UsageError) as error:
        raise InputError(
            f"{path}: caption {number} must have whole start_pts and end_pts with a time_base, or start and end in "
            f"seconds, or start_frame and end_frame; text or null; and a region of four pixels, if any. Problem: "
            f"{type(error).__name__}: {error}."
        ) from error


def _caption_from_entry(number: int, entry: Any, document: Mapping[str, Any]) -> Caption:  # noqa: ANN401  (JSON)
    text = entry.get("text") if isinstance(entry, dict) else entry["text"]
    if text is not None and not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}")
    time_base = entry.get("time_base", document.get("time_base"))
    if "start_pts" in entry and time_base is not None:
        unit = _fraction(time_base)
        start, end = _whole(entry["start_pts"]) * unit, _whole(entry["end_pts"]) * unit
    elif "start" in entry:
        start, end = _fraction(entry["start"]), _fraction(entry["end"])
    else:
        first, stop = int(entry["start_frame"]), int(entry["end_frame"])
        if first < 0:
            raise ValueError("frames count from 0")
        name = f"caption {number} (frames {first} to {stop})"
        return Caption(name, text, start_frame=first, end_frame=stop, region=_region(entry.get("region")))
    return Caption(_name("caption", number, start, end), text, start, end, region=_region(entry.get("region")))


def _region(values: Any) -> Region | None:  # noqa: ANN401  (JSON)
    if values is None:
        return None
    left, top, right, bottom = (int(value) for value in values)
    return Box(left, top, right, bottom).as_tuple()


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise TypeError(f"{value!r} is not a whole number")
    return int(value)


def _fraction(value: object) -> Fraction:
    if isinstance(value, list | tuple):
        numerator, denominator = value
        return Fraction(int(numerator), int(denominator))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is not a number")
    return Fraction(str(value))


def _annotated(path: Path, values: object) -> tuple[tuple[Fraction, Fraction], ...] | None:
    if values is None:
        return None
    try:
        assert isinstance(values, list)
        return tuple((_fraction(start), _fraction(end)) for start, end in values)
    except (AssertionError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path}: 'annotated' must be a list of [start, end] in seconds, got {values!r}.") from error
