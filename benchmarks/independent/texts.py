"""What captions say: sentences in nine writing systems, and edits of one character that can be seen."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.random import Generator


@dataclass(frozen=True)
class Script:
    """A writing system."""

    fonts: tuple[str, ...]
    """Families that have all its letters."""
    width: float
    """Mean advance of a letter in font sizes, on the wide side."""
    letters: str
    """Letters that may replace each other in an edit."""
    sentences: tuple[str, ...]
    spaced: bool
    """Words are separated by spaces."""


def _read_scripts() -> dict[str, Script]:
    text = Path(__file__).with_name("scripts.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text).items()
    return {name: Script(**{key: _frozen(value) for key, value in table.items()}) for name, table in tables}


def _frozen(value: Any) -> Any:  # noqa: ANN401  (whatever TOML holds)
    return tuple(value) if isinstance(value, list) else value


SCRIPTS = _read_scripts()


def draw_text(rng: Generator, script: Script, lines: int, longest: int, avoid: str) -> str:
    """Return a caption of at most `lines` lines of at most `longest` letters each, other than `avoid`."""
    while True:
        sentences = [str(sentence) for sentence in rng.permutation(script.sentences)]
        fitting = [sentence for sentence in sentences if len(sentence) <= longest]
        if len(fitting) < 3:
            fitting = [_shortened(sentence, script, longest) for sentence in sentences]
        text = "\n".join(fitting[:lines])
        if text != avoid:
            return text


def _shortened(sentence: str, script: Script, longest: int) -> str:
    if not script.spaced:
        return sentence[:longest]
    words = sentence.split(" ")
    while len(" ".join(words)) > longest and len(words) > 1:
        words.pop()
    return " ".join(words)


def one_character_edit(rng: Generator, script: Script, text: str) -> str | None:
    """Return the text with one letter replaced by another of its kind; None when it has no such letter."""
    places = [index for index, letter in enumerate(text) if letter.lower() in script.letters]
    if not places:
        return None
    place = int(rng.choice(places))
    others = [letter for letter in script.letters if letter != text[place].lower()]
    letter = str(rng.choice(others))
    return text[:place] + (letter.upper() if text[place].isupper() else letter) + text[place + 1 :]
