"""Choose the file that gives a video's captions; what an inference found is no annotation."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

from cb_core.data.captions import Caption, CaptionFile, read_captions
from cb_runtime.errors import InputError

CAPTION_SUFFIXES = (".truth.json", ".json", ".ass", ".ssa", ".vtt", ".srt")
"""What is looked for beside a video, the most exact times first."""

SAME_TIME = Fraction(1, 50)
"""Seconds: `cb infer` rounds the times of its subtitles to milliseconds or centiseconds, and to the frame they show."""


def find_captions(video: Path, folder: Path | None = None) -> Path | None:
    """Return the caption file of a video, in `folder` or beside it: same stem, first of `CAPTION_SUFFIXES`.

    A `.json` that is no caption file, or that carries what an inference found (key `model`), steps back for the next.
    So does a subtitle file that says just what such results say: `cb infer` wrote it together with them.

    Raises:
        InputError: There are results of an inference only. A model trained on them would learn its own mistakes.
    """
    place, stem = folder or video.parent, video.stem
    found = [path for path in (place / f"{stem}{suffix}" for suffix in CAPTION_SUFFIXES) if path.is_file()]
    document = place / f"{stem}.json"
    if not found or found[0] != document:
        return next(iter(found), None)
    if _is_result(document):
        return _annotation_among(found[1:], document)
    return document if _may_be_captions(document) or len(found) == 1 else found[1]


def _annotation_among(files: list[Path], results: Path) -> Path:
    known = read_captions(results)
    annotation = next((path for path in files if not _says_the_same(read_captions(path), known)), None)
    if annotation is None:
        beside = f"; {', '.join(path.name for path in files)} says the same" if files else ""
        raise InputError(
            f"{results} is no annotation: it holds what a model found (key 'model'){beside}. Give captions that people "
            "made, e.g. in another folder with --captions. If people have checked these, take the key 'model' out."
        )
    return annotation


def _says_the_same(one: CaptionFile, other: CaptionFile) -> bool:
    pairs = zip(one.captions, other.captions, strict=False)
    return len(one.captions) == len(other.captions) and all(_same(*pair) for pair in pairs)


def _same(one: Caption, other: Caption) -> bool:
    times = ((one.start, other.start), (one.end, other.end))
    near = all(a is not None and b is not None and abs(a - b) <= SAME_TIME for a, b in times)
    return near and one.text == other.text


def _is_result(path: Path) -> bool:
    values = _values(path)
    return isinstance(values, dict) and "model" in values and _entries(values)


def _may_be_captions(path: Path) -> bool:
    """Whether to read it as captions: it has some, or is damaged, which its reader will tell."""
    values = _values(path)
    return values is None or (isinstance(values, dict) and _entries(values))


def _entries(values: dict[str, object]) -> bool:
    return isinstance(values.get("segments", values.get("captions")), list)


def _values(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
