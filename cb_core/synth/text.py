"""What captions say: sentences of random words, and successors that differ in one character."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.random import Generator

from cb_core.synth.fonts import FontFace, glyph_distance, has_glyph
from cb_core.synth.languages import Language

_DISTINCT = 0.3
"""Least `glyph_distance` between a character and its substitute, so that the change survives strong compression."""


@dataclass(frozen=True)
class Sentence:
    """A caption's text as the pieces between which a line may be broken."""

    pieces: tuple[str, ...]
    separator: str
    """What stands between pieces on one line."""

    @property
    def text(self) -> str:
        """The whole text on one line."""
        return self.separator.join(self.pieces)

    def shortened(self) -> Sentence:
        """Return the sentence without its last piece."""
        return replace(self, pieces=self.pieces[:-1])


class Writer:
    """Writes sentences in one language with the signs that one font has."""

    def __init__(self, language: Language, face: FontFace, *, capitals: bool = False) -> None:
        self._language = language
        self._face = face
        self._capitals = capitals and language.cased
        self._digits = all(has_glyph(face, digit) for digit in "0123456789")
        self._endings = tuple(ending for ending in language.endings if all(has_glyph(face, sign) for sign in ending))

    def sentence(self, rng: Generator, words: int) -> Sentence:
        """Return a sentence of about this many words."""
        pieces = [str(rng.choice(self._language.words)) for _ in range(max(1, words))]
        if self._digits and rng.random() < 0.18:
            pieces[int(rng.integers(len(pieces)))] = self._number(rng)
        if len(pieces) > 4 and rng.random() < 0.4 and has_glyph(self._face, self._language.commas):
            pieces[int(rng.integers(1, len(pieces) - 2))] += self._language.commas
        if self._language.cased:
            pieces[0] = pieces[0][:1].upper() + pieces[0][1:]
        if self._endings:
            pieces[-1] += str(rng.choice(self._endings))
        if rng.random() < 0.06 and has_glyph(self._face, "-") and self._language.separator:
            pieces[0] = "- " + pieces[0]
        if self._capitals:
            pieces = [piece.upper() for piece in pieces]
        return Sentence(tuple(pieces), self._language.separator)

    def near_identical(self, rng: Generator, sentence: Sentence) -> Sentence:
        """Return the sentence with one character replaced by another that looks clearly different.

        In scripts whose letters join, where one letter changes its neighbours, a whole word is replaced. The same
        sentence comes back when nothing in it can be replaced.
        """
        change: Callable[[Generator, str], str] = self._other_word if self._language.shaped else self._other_character
        for place in rng.permutation(len(sentence.pieces)):
            piece = sentence.pieces[place]
            changed = change(rng, piece)
            if changed != piece:
                return replace(sentence, pieces=(*sentence.pieces[:place], changed, *sentence.pieces[place + 1 :]))
        return sentence

    def _number(self, rng: Generator) -> str:
        style = int(rng.integers(4))
        if style == 0 and has_glyph(self._face, ":"):
            return f"{rng.integers(24)}:{rng.integers(60):02d}"
        if style == 1 and has_glyph(self._face, "%"):
            return f"{rng.integers(100)}%"
        return str(rng.integers(1900, 2030) if style == 2 else rng.integers(1000))

    def _other_word(self, rng: Generator, piece: str) -> str:
        return str(rng.choice(self._language.words)) if piece in self._language.words else piece

    def _other_character(self, rng: Generator, piece: str) -> str:
        for place in rng.permutation(len(piece)):
            character = piece[place]
            substitutes = [other for other in self._alphabet(character) if self._distinct(character, other)]
            if substitutes:
                return piece[:place] + str(rng.choice(substitutes)) + piece[place + 1 :]
        return piece

    def _alphabet(self, character: str) -> str:
        if character.isdigit():
            return "0123456789"
        letters = self._language.letters
        if character not in letters:
            return ""
        if character.isupper():
            return "".join(letter for letter in letters if letter.isupper())
        return "".join(letter for letter in letters if letter.isalpha() and not letter.isupper())

    def _distinct(self, one: str, other: str) -> bool:
        return one != other and glyph_distance(self._face, one, other) >= _DISTINCT
