"""What captions say: sentences of random words, and successors that differ in one character."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.random import Generator

from cb_core.synth.fonts import FontFace, glyph_distance, has_glyph
from cb_core.synth.languages import Language

_DISTINCT = 0.15
"""Least `glyph_distance` between a character and its substitute, so that the change survives compression."""

_INVENTED = 0.25
"""Share of words that are random letters: a vocabulary shows few of the glyphs of Chinese or Korean."""

_LONGEST_INVENTED = 8
"""Letters of an invented word at most; three where no spaces are written."""

_TRIES = 24
"""Substitutes tried for a character: Chinese has thousands."""


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
        pieces = [self._word(rng) for _ in range(max(1, words))]
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

        In scripts whose letters join, where one letter changes its neighbours, half of the changes are a whole word.
        The same sentence comes back when nothing in it can be replaced.
        """
        changes: tuple[Callable[[Generator, str], str], ...] = (self._other_character,)
        if self._language.shaped:
            changes = (self._other_character, self._other_word)[:: 1 if rng.random() < 0.5 else -1]
        for place in rng.permutation(len(sentence.pieces)):
            piece = sentence.pieces[place]
            changed = next((other for change in changes if (other := change(rng, piece)) != piece), piece)
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
            substitutes = self._alphabet(character)
            for choice in rng.permutation(len(substitutes))[:_TRIES]:
                if self._distinct(character, substitutes[choice]):
                    return piece[:place] + substitutes[choice] + piece[place + 1 :]
        return piece

    def _alphabet(self, character: str) -> str:
        if character.isdigit():
            return "0123456789"
        if character in self._language.alphabet:
            return self._language.alphabet
        letters = self._language.letters
        if character not in letters or not character.isalpha():
            return ""
        if character.isupper():
            return "".join(letter for letter in letters if letter.isupper())
        return "".join(letter for letter in letters if letter.isalpha() and not letter.isupper())

    def _word(self, rng: Generator) -> str:
        if rng.random() < _INVENTED:
            alphabet, longest = self._language.alphabet, _LONGEST_INVENTED if self._language.separator else 3
            signs = [alphabet[place] for place in rng.integers(len(alphabet), size=int(rng.integers(1, longest + 1)))]
            invented = "".join(sign for sign in signs if has_glyph(self._face, sign))
            if invented:
                return invented
        return str(rng.choice(self._language.words))

    def _distinct(self, one: str, other: str) -> bool:
        return one != other and has_glyph(self._face, other) and glyph_distance(self._face, one, other) >= _DISTINCT
