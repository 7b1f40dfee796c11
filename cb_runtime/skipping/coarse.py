"""Coarse to fine: compare frames far apart, and look between them only where something may have changed.

The video is read in windows. In each, frames k apart are compared in both directions, all at once so that batches are
full. Where the model is sure both ways that they are `same` (or `empty_empty`) the stretch is *still*: what lies inside
is not looked at. Every other stretch is halved, down to single steps. What the model sees at both ends says nothing of
a caption that comes and goes in between. Such a caption changes blocks of the strip at once, by more than is usual
there, which makes a step *sudden*, and at the other end they are as they were: there a stretch is halved unasked. What
moves through the strip changes blocks suddenly too, but at both ends it is elsewhere, and the model is asked.

A step that is in no still stretch is *open*. All pairs that span an open step are scored, at all distances that
decoding searches with, as they would be without the search: so around every boundary it sees the same evidence. For
pairs further apart, which confirm what was found, the nearest frames that were looked at are compared. A pair that
spans no open step has the answer of the still stretch that holds its last step: decoding sees it as it would see a pair
of its own that is as sure.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cb_runtime.contract import LABELS, MAX_DISTANCE
from cb_runtime.pipeline import counted
from cb_runtime.skipping.looked import Frame, Looked, Pair, PairModel, Place, Probabilities
from cb_runtime.skipping.windows import SuddenStep, Window, comes_and_goes
from cb_runtime.video.types import Image

SURE = 0.8
"""Least probability, in each direction, of a stretch's label for the stretch to be still."""

_STILL_LABELS = (LABELS.index("same"), LABELS.index("empty_empty"))


def search_coarse_to_fine(
    model: PairModel, windows: Iterable[Window], distances: Sequence[int], coarse: int, told: Callable[[int], None]
) -> Looked:
    """Search a video from coarse to fine.

    Args:
        model: Answers pairs.
        windows: The video.
        distances: Of the pairs that are wanted, in frames.
        coarse: Largest distance of first comparisons, in frames.
        told: Told the number of frames done.
    """
    search = _Search(model, distances, coarse)
    for window in windows:
        search.read(window)
        counted(len(window))
        told(search.frames)
    return search.looked


class _Search:
    """One video's search; `read` it window by window.

    Args:
        model: Answers pairs.
        distances: Of the pairs that are wanted, in frames.
        coarse: Largest distance of the first comparison in a window. The first window begins with it; afterwards it is
            halved where less than half of the first stretches were still, and doubled where more were.
    """

    def __init__(self, model: PairModel, distances: Sequence[int], coarse: int) -> None:
        self._known = _Known(model)
        self._distances, self._coarse, self._first_distance = distances, coarse, coarse
        self._numbers: dict[int, int] = {}
        self._still: dict[int, _Still] = {}
        self._answer_of = array("L")
        self.frames = 0
        """Number of frames read."""

    @property
    def looked(self) -> Looked:
        """What was found in the windows read."""
        return Looked(self._known.answers, self._answer_of, self._known.frames_encoded)

    def read(self, window: Window) -> None:
        """Take the next frames."""
        first, self.frames = self.frames, self.frames + len(window)
        self._numbers |= {first + place: number for place, (number, _) in enumerate(window.strips)}
        self._known.strips.update(window.strips)
        sudden = {first - 1 + place: step for place, step in window.sudden.items()}
        self._search(max(first - 1, 0), self.frames - 1, sudden)
        self._answer(range(first, self.frames))
        self._forget()

    def _search(self, begin: int, last: int, sudden: Mapping[int, SuddenStep]) -> None:
        """Find the still stretches from frame `begin` to frame `last`."""
        distance = self._first_distance
        tiles = [(at, min(at + distance, last)) for at in range(begin, last, distance)]
        waiting = list(tiles)
        while waiting := waiting or self._torn(begin):
            asked = {one for one in waiting if one[1] - one[0] == 1 or not self._hides_something(one, sudden)}
            self._known.ask((one, self._key(one)) for one in waiting if one in asked)
            halves = []
            for one in waiting:
                label = self._known.still_label(self._key(one)) if one in asked else None
                if label is not None:
                    self._still |= dict.fromkeys(range(*one), _Still(one, label, self._known.rows[self._key(one)]))
                elif one[1] - one[0] > 1:
                    halves += _halves(one)
            waiting = halves
        held = sum(at in self._still and self._still[at].stretch == (at, end) for at, end in tiles)
        self._first_distance = min(2 * distance, self._coarse) if 2 * held > len(tiles) else max(distance // 2, 1)

    def _hides_something(self, stretch: Place, sudden: Mapping[int, SuddenStep]) -> bool:
        """Tell whether something comes and goes in a stretch, so that the model need not be asked about its ends."""
        inside = [sudden[step] for step in range(*stretch) if step in sudden]
        first, last = (self._known.strips[number] for number in self._key(stretch))
        return bool(inside) and comes_and_goes(inside, first, last)

    def _torn(self, begin: int) -> list[Place]:
        """Take back still stretches that meet with different labels; return the halves of those that have halves.

        Those before frame `begin` are not taken back: what they hold is no longer there.
        """
        halves = []
        for step in sorted(self._still):
            met = self._still.get(step - 1), self._still.get(step)
            if met[0] is None or met[1] is None or met[0].label == met[1].label:
                continue
            for one in (still.stretch for still in met if still is not None and still.stretch[0] >= begin):
                for inside in range(*one):
                    del self._still[inside]
                if one[1] - one[0] > 1:
                    halves += _halves(one)
        return halves

    def _answer(self, frames: Iterable[int]) -> None:
        """Answer all pairs that end at these frames."""
        pairs = [(later - d, later) for later in frames for d in self._distances if later >= d]
        asked = [self._asked_for(pair) for pair in pairs]
        self._known.ask((pair, self._key(pair)) for pair in asked if pair is not None)
        for pair, own in zip(pairs, asked, strict=True):
            self._answer_of.extend(self._still[pair[1] - 1].rows if own is None else self._known.rows[self._key(own)])

    def _asked_for(self, pair: Place) -> Place | None:
        """Return the frames that the model is asked about for a pair; None when it spans no open step."""
        earlier, later = pair
        if all(step in self._still for step in range(*pair)):
            return None
        if later - earlier <= MAX_DISTANCE:
            return pair
        return _end_near(earlier, self._still.get(earlier)), _end_near(later, self._still.get(later - 1))

    def _key(self, pair: Place) -> Place:
        return self._numbers[pair[0]], self._numbers[pair[1]]

    def _forget(self) -> None:
        """Forget what no later pair needs."""
        oldest = max(self.frames - self._distances[-1], 0)
        self._still = {step: still for step, still in self._still.items() if step >= oldest}
        oldest = min([oldest, *(still.stretch[0] for still in self._still.values())])
        self._numbers = {frame: number for frame, number in self._numbers.items() if frame >= oldest}
        self._known.forget(self._numbers[oldest])


@dataclass(frozen=True)
class _Still:
    """A still stretch."""

    stretch: Place
    label: int
    rows: tuple[int, int]
    """Its answers, forward and backward."""


class _Known:
    """What is known of a video's strips, by their numbers."""

    def __init__(self, model: PairModel) -> None:
        self._model = model
        self._frames: dict[int, Frame] = {}
        self._labels: dict[Place, int | None] = {}
        self.strips: dict[int, Image] = {}
        self.rows: dict[Place, tuple[int, int]] = {}
        """Rows of the answers of each pair of strips, forward and backward."""
        self.answers = array("f")
        self.frames_encoded = 0
        self._count = 0

    def ask(self, pairs: Iterable[tuple[Place, Place]]) -> None:
        """Score pairs that were not, in both directions: frames, for errors, and numbers of strips."""
        new = {key: place for place, key in pairs if key not in self.rows}
        if not new:
            return
        missing = sorted({number for key in new for number in key} - self._frames.keys())
        encoded = self._model.encoded(self.strips[number] for number in missing)
        frames = (frame for batch in encoded for frame in zip(*batch, strict=True))
        self._frames.update(zip(missing, frames, strict=True))
        self.frames_encoded += len(missing)
        for key in new:
            self.rows[key] = self._count, self._count + (key[0] != key[1])
            self._count = self.rows[key][1] + 1
        answers = np.concatenate([batch for _, batch in self._model.answers(self._directed(new))])
        offset = self._count - len(answers)
        for key in new:
            forward, backward = (answers[row - offset] for row in self.rows[key])
            self._labels[key] = _still_label(forward, backward)
        self.answers.frombytes(answers.tobytes())

    def _directed(self, pairs: Mapping[Place, Place]) -> Iterator[Pair]:
        for (one, other), place in pairs.items():
            yield place, self._frames[one][0], self._frames[other][1]
            if one != other:
                yield place, self._frames[other][0], self._frames[one][1]

    def still_label(self, key: Place) -> int | None:
        """Return the label that both directions of a scored pair are sure of; None where nothing is still."""
        return self._labels[key]

    def forget(self, before: int) -> None:
        """Forget strips with smaller numbers."""
        for known in (self.strips, self._frames):
            for number in [number for number in known if number < before]:
                del known[number]
        for key in [key for key in self.rows if key[0] < before]:
            del self.rows[key], self._labels[key]


def _still_label(forward: Probabilities, backward: Probabilities) -> int | None:
    label = int(forward.argmax())
    still = label in _STILL_LABELS and min(forward[label], backward[label]) >= SURE
    return label if still else None


def _end_near(frame: int, still: _Still | None) -> int:
    """Return the end of the still stretch around a frame that is nearest to it; the frame where there is none."""
    return frame if still is None else min(still.stretch, key=lambda end: abs(end - frame))


def _halves(stretch: Place) -> list[Place]:
    middle = (stretch[0] + stretch[1]) // 2
    return [(stretch[0], middle), (middle, stretch[1])]
