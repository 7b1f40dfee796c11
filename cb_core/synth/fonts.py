"""Fonts: those found on the machine, the one inside Pillow, and what each of them can write.

A font is used for a language only when it draws every letter of that language: a character a font lacks comes out as
the "missing" box, which is recognised by its picture (Pillow gives no access to a font's character map).
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ImageFont, features
from PIL.ImageFont import FreeTypeFont

from cb_core.synth.languages import Language
from cb_runtime.errors import InputError

FONT_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")

_PROBE_SIZE = 24
_MISSING = "\U0010ffff"  # a noncharacter: no font draws it, so it shows what a missing glyph looks like
_FACES_MAX = 32
# Fonts that draw something for every character without writing it, or that write symbols in the place of letters.
_NOT_FOR_TEXT = ("lastresort", "symbol", "dingbat", "emoji", "wingding", "webding", "icon", "math", "barcode", "blank")


@dataclass(frozen=True, order=True)
class FontFace:
    """One face of a font file, or the font inside Pillow."""

    family: str
    style: str
    """Name of the style, e.g. `Bold Oblique`."""
    path: str = ""
    """Font file; empty for the font inside Pillow."""
    index: int = 0
    """Which face of a collection."""

    @property
    def name(self) -> str:
        """Family and style: the same on every machine."""
        return f"{self.family} {self.style}".strip()


@lru_cache(maxsize=64)
def load_font(face: FontFace, size: int) -> FreeTypeFont:
    """Load a face at a size in pixels per em."""
    if face.path:
        return ImageFont.truetype(face.path, size, index=face.index)
    font = ImageFont.load_default(size)
    assert isinstance(font, FreeTypeFont), "this Pillow was built without FreeType"
    return font


@lru_cache(maxsize=8)
def find_fonts(folder: Path | None = None) -> tuple[FontFace, ...]:
    """Return the faces in `folder`, or those of the system and of Pillow; each family and style once, sorted by name.

    Raises InputError when a given folder is missing or holds no font.
    """
    folders = _system_folders() if folder is None else [folder]
    if folder is not None and not folder.is_dir():
        raise InputError(f"Font folder {folder} does not exist. Give a folder with {', '.join(FONT_SUFFIXES)} files.")
    faces = {face.name: face for face in _faces_in(folders)}
    if folder is not None and not faces:
        raise InputError(
            f"No usable font in {folder}. Put {', '.join(FONT_SUFFIXES)} files there, or leave the option out."
        )
    if folder is None:
        built_in = built_in_face()
        faces[built_in.name] = built_in
    return tuple(sorted(faces.values()))


def _system_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]


def _faces_in(folders: Sequence[Path]) -> list[FontFace]:
    files = [path for folder in folders if folder.is_dir() for path in folder.rglob("*") if _is_font_file(path)]
    # The last of equals wins in the caller's table, so the order must not depend on the file system's.
    return [face for path in sorted(files, key=lambda path: (path.name, str(path))) for face in _faces_of(path)]


def _is_font_file(path: Path) -> bool:
    return path.suffix.lower() in FONT_SUFFIXES and not any(word in path.name.lower() for word in _NOT_FOR_TEXT)


def _faces_of(path: Path) -> list[FontFace]:
    faces = []
    for index in range(_FACES_MAX if path.suffix.lower() in (".ttc", ".otc") else 1):
        try:
            family, style = ImageFont.truetype(str(path), _PROBE_SIZE, index=index).getname()
        except (
            OSError,
            ValueError,
        ):  # past the last face, or a file FreeType cannot scale (bitmap fonts, damaged files)
            break
        faces.append(FontFace(family or path.stem, style or "", str(path), index))
    return faces


def built_in_face() -> FontFace:
    """Return the one scalable font inside Pillow; it writes English."""
    font = ImageFont.load_default(_PROBE_SIZE)
    assert isinstance(font, FreeTypeFont), "this Pillow was built without FreeType"
    family, style = font.getname()
    return FontFace(family or "built-in", style or "")


def can_shape() -> bool:
    """Tell whether this Pillow shapes complex scripts (Arabic, Devanagari, Thai) correctly."""
    return bool(features.check("raqm"))


def faces_for(language: Language, faces: Sequence[FontFace]) -> tuple[FontFace, ...]:
    """Return those faces that draw every letter of the language."""
    if language.shaped and not can_shape():
        return ()
    return tuple(face for face in faces if covers(face, language.letters))


@lru_cache(maxsize=16384)
def covers(face: FontFace, characters: str) -> bool:
    """Tell whether a face draws every character as a glyph of its own."""
    if not all(has_glyph(face, character) for character in characters):
        return False
    # Different characters may share a glyph (Latin and Cyrillic `a`), but a font of place-holders shares most.
    return len({glyph(face, character) for character in characters}) > 0.8 * len(characters)


def has_glyph(face: FontFace, character: str) -> bool:
    """Tell whether a face draws this one character, neither as nothing nor as the "missing" box."""
    picture = glyph(face, character)
    return any(picture[2:]) and picture != glyph(face, _MISSING)


@lru_cache(maxsize=65536)
def glyph(face: FontFace, character: str) -> bytes:
    """Return a character's picture at a fixed size, as width, height and coverage bytes."""
    font = load_font(face, _PROBE_SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = font.getmask(character, mode="L")
    width, height = mask.size
    return bytes((min(width, 255), min(height, 255))) + bytes(mask)


def glyph_distance(face: FontFace, one: str, other: str) -> float:
    """Return how differently two characters look: the share of their ink that they do not have in common, in [0, 1]."""
    first, second = _padded(face, one), _padded(face, other)
    total = np.maximum(first, second).sum(dtype=np.int64)
    return float(np.abs(first - second).sum(dtype=np.int64) / total) if total else 0.0


def _padded(face: FontFace, character: str) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    picture = glyph(face, character)
    canvas = np.zeros((3 * _PROBE_SIZE, 3 * _PROBE_SIZE), np.int16)
    width, height = picture[0], picture[1]
    pixels = np.frombuffer(picture[2:], np.uint8).reshape(height, width)[: canvas.shape[0], : canvas.shape[1]]
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas
