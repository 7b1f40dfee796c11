"""How the captions of one video look: chosen once per video, as real subtitles keep one style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numpy.random import Generator

from cb_core.synth.fonts import FontFace, faces_for
from cb_core.synth.languages import LANGUAGES, Language
from cb_core.synth.text import Writer
from cb_runtime.errors import InputError

Colour = tuple[int, int, int]

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
_BRIGHT: tuple[Colour, ...] = (WHITE, (235, 235, 235), (255, 235, 60), (255, 210, 0), (120, 255, 255), (150, 255, 140))
_BRIGHT_ODDS = (0.56, 0.1, 0.14, 0.06, 0.08, 0.06)
_SUNG: tuple[Colour, ...] = ((255, 110, 0), (255, 80, 160), (70, 220, 90), (90, 170, 255))
_VIVID: tuple[Colour, ...] = ((230, 30, 40), (20, 90, 230), (200, 0, 140), (0, 120, 60), (255, 120, 0))


@dataclass(frozen=True)
class CaptionStyle:
    """Everything about the look and the place of one video's captions."""

    face: FontFace
    language: Language
    size: int
    """Font size in pixels per em."""
    colours: tuple[Colour, ...]
    """Fill colours; more than one where each caption takes the next (speakers)."""
    edge_colour: Colour
    """Colour of outline, shadow or box: always far from the fill, so that text stays readable on anything."""
    outline: int
    """Width of the outline in pixels; 0 for none."""
    shadow: int
    """Offset of the shadow in pixels; 0 for none."""
    shadow_blur: float
    """Standard deviation of the shadow's blur in pixels."""
    box: str
    """`none`, `lines` (one box behind each line) or `block` (one behind all)."""
    box_opacity: float
    softness: float
    """Standard deviation in pixels of a blur over the finished caption, as upscaled video has it."""
    anchor: str
    """`left`, `center` or `right`: how lines are aligned and where the caption stands."""
    top: bool
    """True for captions at the top of the frame."""
    margin: float
    """Distance from the frame's edge as a share of the frame's height."""
    line_width: float
    """Widest line as a share of the frame's width."""
    max_lines: int
    karaoke: Colour | None
    """Colour that runs over the text while it is shown; None for still captions."""
    fades: float
    """Share of transitions that are fades, in [0, 1]."""
    capitals: bool

    def writer(self) -> Writer:
        """Return who writes this video's texts."""
        return Writer(self.language, self.face, capitals=self.capitals)

    def to_dict(self) -> dict[str, Any]:
        """Return what the ground truth tells of the style."""
        return {
            "font": self.face.name,
            "language": self.language.name,
            "script": self.language.script,
            "size": self.size,
            "colours": [list(colour) for colour in self.colours],
            "outline": self.outline,
            "shadow": self.shadow,
            "box": self.box,
            "anchor": self.anchor,
            "top": self.top,
            "max_lines": self.max_lines,
            "karaoke": self.karaoke is not None,
            "fades": self.fades,
        }


_LOOKS = {"outline": 0.38, "shadow": 0.11, "both": 0.21, "lines": 0.14, "block": 0.1, "plain": 0.06}
_BARE_LOOKS = {"shadow": 0.7, "plain": 0.3}
"""How text is set off from what is behind it, to its share."""


@lru_cache(maxsize=8)
def writable_languages(faces: tuple[FontFace, ...]) -> Mapping[Language, tuple[FontFace, ...]]:
    """Return the languages these fonts can write, each with its faces. Raises InputError when there is none."""
    found = {language: faces_for(language, faces) for language in LANGUAGES}
    found = {language: able for language, able in found.items() if able}
    if not found:
        raise InputError(
            "None of the fonts given can write any of the known languages. Give a folder with a text font."
        )
    return found


def pick_style(
    rng: Generator, faces: Sequence[FontFace], width: int, height: int, *, bare: float = 0.0
) -> CaptionStyle:
    """Draw a style for a video of this size; `bare` is how often it is made to have neither outline nor box."""
    writable = writable_languages(tuple(faces))
    languages = list(writable)
    weights = [language.weight for language in languages]
    language = languages[int(rng.choice(len(languages), p=[weight / sum(weights) for weight in weights]))]
    able = writable[language]
    looks = _BARE_LOOKS if bare and rng.random() < bare else _LOOKS
    return _dressed(rng, able[int(rng.integers(len(able)))], language, width, height, looks)


def _dressed(
    rng: Generator, face: FontFace, language: Language, width: int, height: int, looks: Mapping[str, float]
) -> CaptionStyle:
    size = _font_size(rng, width, height)
    colours, edge = _colours(rng)
    look = str(rng.choice(list(looks), p=list(looks.values())))
    outlined = look in ("outline", "both")
    shadowed = look in ("shadow", "both")
    return CaptionStyle(
        face=face,
        language=language,
        size=size,
        colours=colours,
        edge_colour=edge,
        outline=max(1, round(size * rng.uniform(0.04, 0.13))) if outlined else 0,
        shadow=max(1, round(size * rng.uniform(0.04, 0.1))) if shadowed else 0,
        shadow_blur=float(rng.choice([0.0, 0.03, 0.06])) * size,
        box=look if look in ("lines", "block") else "none",
        box_opacity=float(rng.choice([0.55, 0.65, 0.8, 1.0])),
        softness=float(rng.choice([0.0, 0.0, 0.0, 0.4, 0.7])),
        anchor=str(rng.choice(["center", "left", "right"], p=[0.86, 0.11, 0.03])),
        top=bool(rng.random() < 0.12),
        margin=float(rng.uniform(0.035, 0.12)),
        line_width=float(rng.uniform(0.5, 0.88)),
        max_lines=int(rng.choice([1, 2], p=[0.4, 0.6])),
        karaoke=_karaoke(rng, colours),
        fades=float(rng.choice([0.0, 0.25, 0.9], p=[0.55, 0.25, 0.2])),
        capitals=bool(rng.random() < 0.1),
    )


def _font_size(rng: Generator, width: int, height: int) -> int:
    # Upright video has captions sized by its width.
    reference = min(height, width * 10 // 16)
    return max(12, round(reference * rng.uniform(0.048, 0.1)))


def _colours(rng: Generator) -> tuple[tuple[Colour, ...], Colour]:
    if rng.random() < 0.1:  # dark or vivid text with a bright edge
        return ((_VIVID[int(rng.integers(len(_VIVID)))] if rng.random() < 0.5 else (15, 15, 15)),), WHITE
    edge = BLACK if rng.random() < 0.85 else (30, 20, 60)
    count = 3 if rng.random() < 0.12 else 1
    return tuple(_BRIGHT[int(rng.choice(len(_BRIGHT), p=_BRIGHT_ODDS))] for _ in range(count)), edge


def _karaoke(rng: Generator, colours: tuple[Colour, ...]) -> Colour | None:
    if rng.random() >= 0.06 or sum(colours[0]) < 300:
        return None
    return _SUNG[int(rng.integers(len(_SUNG)))]
