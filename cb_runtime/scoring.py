"""Strips in, label probabilities out: the pairs of one video at small distances, in both directions, in batches.

Each strip is read once, and no two strips are compared twice in a direction. Memory holds one batch of pairs and as
many strips as the largest distance asks for, whatever the video's length, and some fifty bytes of results a frame and
distance. With a staged graph each strip is encoded once, in batches, and what is kept and paired are its features:
those of the frames that the largest distance asks for, with the batches they came in; where the engine can, they stay
on the GPU, and what is kept here are rows that stand for them (`cb_runtime.resident`). Which strips need not be looked
at, and what then stands for them, is up to `cb_runtime.skipping`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Logits
from cb_runtime.contract import FARTHEST, LABELS, Decoding, distances_fit
from cb_runtime.errors import ModelError, UsageError
from cb_runtime.features import VideoInputs
from cb_runtime.pipeline import Pipeline, counted
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import Session, softmax
from cb_runtime.skipping import Skipping
from cb_runtime.skipping.coarse import search_coarse_to_fine
from cb_runtime.skipping.likeness import KeptStrips, alike_rule
from cb_runtime.skipping.looked import Encoded, Frame, Looked, Pair, PairModel, Place, Probabilities
from cb_runtime.skipping.windows import MOST_FRAMES, windows_of
from cb_runtime.stages import Stages
from cb_runtime.video.types import Image

_Array = NDArray[Any]
_Run = Callable[[_Array, _Array], Logits]
"""From batches that stand for `frame1` and `frame2` to logits."""


@dataclass(frozen=True, eq=False)
class PairScores:
    """Label probabilities of the pairs of a video of n frames, by their distance d in frames."""

    forward_at: Mapping[int, Probabilities]
    """float32 `(n - d, 5)` at each distance: pairs `(frame i, frame i + d)`."""
    backward_at: Mapping[int, Probabilities]
    """float32 `(n - d, 5)` at each distance: pairs `(frame i + d, frame i)`."""
    frames_encoded: int | None = None
    """Number of strips that went through the model; None where that is not known."""
    pairs_scored: int | None = None
    """Number of pairs that did, each direction counted; the others share answers of these. None where not known."""

    @property
    def distances(self) -> tuple[int, ...]:
        """Distances in frames that were scored."""
        return tuple(self.forward_at)

    @property
    def forward(self) -> Probabilities:
        """float32 `(n - 1, 5)`: pairs of neighbours `(frame i, frame i + 1)`."""
        return self.forward_at[1]

    @property
    def backward(self) -> Probabilities:
        """float32 `(n - 1, 5)`: pairs of neighbours `(frame i + 1, frame i)`."""
        return self.backward_at[1]

    @property
    def count(self) -> int:
        """Number of pairs, each direction counted."""
        return 2 * sum(map(len, self.forward_at.values()))


def no_scores(distances: tuple[int, ...] = Decoding.distances) -> PairScores:
    """Return the scores of a video without pairs."""
    return _by_distance(Looked(array("f"), array("L"), 0), 0, distances)


def score_strips(
    session: Session,
    strips: Iterable[Image],
    inputs: VideoInputs,
    *,
    distances: tuple[int, ...] = Decoding.distances,
    batch_size: int = 16,
    skipping: Skipping | None = None,
    total: int | None = None,
    progress: Progress = no_progress,
    pipeline: Pipeline | None = None,
) -> PairScores:
    """Score every pair of strips at some distances in both directions.

    Args:
        session: The model; its staged graph, where it has one, scores in place of the whole.
        strips: One strip per frame, uint8 `(48, 480, 3)`, in time order; read once, as they are needed.
        inputs: The video's own inputs, the same for all pairs.
        distances: Distances of the pairs in frames, ascending from 1.
        batch_size: Pairs per run of the model, each direction counted. The answer does not depend on it.
        skipping: What need not be looked at; None takes the default, which changes no answer.
        total: Number of strips, for progress only; None when unknown.
        progress: Told the number of strips scored.
        pipeline: Where encoding may run ahead of classifying; whoever gives it ends it. None: they take turns.

    Returns:
        Probabilities of n - d pairs for n strips at distance d; none for fewer than two strips.

    Raises:
        ContractError: Strips or inputs that the model does not take.
        ModelError: Logits that are not finite.
        UsageError: A batch size below 1, or distances that do not ascend from 1.
    """
    if batch_size < 1:
        raise UsageError(f"--batch must be 1 or more, got {batch_size}.")
    if not distances_fit(distances, FARTHEST):
        raise UsageError(f"Distances must ascend from 1 to at most {FARTHEST}, got {distances}.")
    wanted, pipeline = skipping or Skipping(), pipeline or Pipeline(overlapped=False)
    kept = KeptStrips(strips, alike_rule(wanted.skip))
    model = pair_model(session, inputs, batch_size)
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        progress("Scoring", told := done, total)

    if wanted.coarse == 1:
        encoded: Iterable[Encoded] = model.encoded(kept)
        if session.stages is not None:
            encoded = pipeline.ahead(encoded, "encode", depth=1, count=_frames_in)
        with pipeline.working("classify" if session.stages else "model", unit="pairs"):
            looked = _look_at_all(model, kept, encoded, distances, tell)
    else:
        size = min(wanted.coarse * batch_size, MOST_FRAMES)  # so that the first comparisons fill a batch
        windows = pipeline.ahead(windows_of(kept, size), "compare", depth=1, count=len)
        with pipeline.working("search"):
            looked = search_coarse_to_fine(_in_parts(model, session, pipeline), windows, distances, wanted.coarse, tell)
    frames = len(kept.numbers)
    if told < frames:
        tell(frames)
    return _by_distance(looked, frames, distances)


def _look_at_all(
    model: PairModel,
    kept: KeptStrips,
    encoded: Iterable[Encoded],
    distances: tuple[int, ...],
    told: Callable[[int], None],
) -> Looked:
    """Score every pair of frames, unless the same strips stand for another pair that was scored."""
    answers, answer_of = array("f"), array("L")
    frames = kept.for_each_frame(frame for batch in encoded for frame in zip(*batch, strict=True))
    for places, batch in model.answers(_pairs(frames, distances, answer_of)):
        answers.frombytes(batch.tobytes())
        counted(len(places))
        told(places[-1][1] + 1)
    return Looked(answers, answer_of, kept.count)


def _in_parts(model: PairModel, session: Session, pipeline: Pipeline) -> PairModel:
    """Return the model with its time booked to parts of the stage that asks it."""

    def answers(pairs: Iterable[Pair]) -> Iterator[tuple[list[Place], Probabilities]]:
        name = "classify" if session.stages else "model"
        return pipeline.inside(model.answers(pairs), name, unit="pairs", count=lambda batch: len(batch[0]))

    def encoded(strips: Iterable[Image]) -> Iterator[Encoded]:
        return pipeline.inside(model.encoded(strips), "encode", count=_frames_in)

    return PairModel(encoded if session.stages else model.encoded, answers)


def pair_model(session: Session, inputs: VideoInputs, batch_size: int) -> PairModel:
    """Return the model, its staged graph where it has one, with the inputs that all pairs share."""
    stages = session.stages and (session.stages.resident or session.stages)
    run = _run_on(session, inputs, batch_size) if stages is None else _classify_on(stages, inputs, batch_size)

    def encoded(strips: Iterable[Image]) -> Iterator[Encoded]:
        if stages is None:
            return ((strip[None], strip[None]) for strip in strips)
        return _encoded(stages, strips, batch_size)

    def answers(pairs: Iterable[Pair]) -> Iterator[tuple[list[Place], Probabilities]]:
        for places, first, second in _batches(pairs, batch_size):
            yield places, _probabilities(run(first, second), places)

    return PairModel(encoded, answers)


def _run_on(session: Session, inputs: VideoInputs, batch_size: int) -> _Run:
    """Return a function from two batches of strips to logits."""
    constant = _repeated({"ocr_viz": inputs.ocr_viz, **_vectors(inputs)}, batch_size)

    def run(first: _Array, second: _Array) -> Logits:
        return session.run({**_rows(constant, len(first)), "frame1": first, "frame2": second})

    return run


def _classify_on(stages: Stages, inputs: VideoInputs, batch_size: int) -> _Run:
    """Return a function from two batches of features to logits; the video's picture is encoded here, once."""
    picture = stages.encode("ocr_viz", inputs.ocr_viz[None])[0]
    constant = _repeated({"ocr_viz_features": picture, **_vectors(inputs)}, batch_size)

    def run(first: _Array, second: _Array) -> Logits:
        return stages.classify({**_rows(constant, len(first)), "frame1_features": first, "frame2_features": second})

    return run


def _vectors(inputs: VideoInputs) -> dict[str, _Array]:
    return {"spatial_features": inputs.spatial_features, "font_embedding": inputs.font_embedding}


def _repeated(values: dict[str, _Array], batch_size: int) -> dict[str, _Array]:
    """Return the video's inputs as a batch, made once and fed again and again."""
    return {name: np.repeat(np.asarray(value)[None], batch_size, axis=0) for name, value in values.items()}


def _rows(batch: dict[str, _Array], count: int) -> dict[str, _Array]:
    return {name: array[:count] for name, array in batch.items()}


def _encoded(stages: Stages, strips: Iterable[Image], batch_size: int) -> Iterator[Encoded]:
    """Give features of batches of frames, as `frame1` and as `frame2`: every strip passes each encoder once."""
    same = stages.roles["frame1"] == stages.roles["frame2"]
    for pictures in _stacked(strips, batch_size):
        first = stages.encode("frame1", pictures)
        yield first, first if same else stages.encode("frame2", pictures)


def _frames_in(encoded: Encoded) -> int:
    return len(encoded[0])


def _stacked(strips: Iterable[Image], size: int) -> Iterator[Image]:
    """Give strips in batches, in one buffer that is valid until the next batch."""
    buffer: Image | None = None
    count = 0
    for strip in strips:
        if buffer is None:
            buffer = np.empty((size, *strip.shape), strip.dtype)
        buffer[count] = strip
        count += 1
        if count == size:
            yield buffer
            count = 0
    if buffer is not None and count:
        yield buffer[:count]


def _pairs(frames: Iterable[tuple[int, Frame]], distances: tuple[int, ...], answer_of: array[int]) -> Iterator[Pair]:
    """Give every pair at every distance in both directions as soon as its later frame is there, but none twice.

    Frames are kept as they are given, without copies, for as long as a pair needs them.

    Args:
        frames: Of each frame the number of the strip that stands for it, and what was made of that strip.
        distances: Distances of the pairs in frames.
        answer_of: Filled with the place, among the pairs given, of the answer to each pair that was wanted.
    """
    recent: deque[tuple[int, Frame]] = deque(maxlen=distances[-1] + 1)
    given: dict[Place, tuple[int, int]] = {}
    count = 0
    for index, (number, later) in enumerate(frames):
        recent.append((number, later))
        given = {key: rows for key, rows in given.items() if key[0] >= recent[0][0]}
        for distance in distances[: bisect_right(distances, index)]:
            other, earlier = recent[-1 - distance]
            if (other, number) not in given:
                place = (index - distance, index)
                yield place, earlier[0], later[1]
                if other != number:
                    yield place, later[0], earlier[1]
                given[other, number] = count, count + (other != number)
                count += 1 + (other != number)
            answer_of.extend(given[other, number])


def _batches(pairs: Iterable[Pair], size: int) -> Iterator[tuple[list[Place], _Array, _Array]]:
    """Give full batches of pairs, and what is left at the end; their arrays are valid until the next batch."""
    places: list[Place] = []
    buffers: tuple[_Array, ...] = ()
    for place, one, other in pairs:
        if not buffers:
            buffers = tuple(np.empty((size, *array.shape), array.dtype) for array in map(np.asarray, (one, other)))
        buffers[0][len(places)], buffers[1][len(places)] = one, other
        places.append(place)
        if len(places) == size:
            yield places, buffers[0], buffers[1]
            places = []
    if places:
        yield places, buffers[0][: len(places)], buffers[1][: len(places)]


def _probabilities(logits: Logits, places: list[Place]) -> Probabilities:
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        one, other = places[int(finite.argmin())]
        raise ModelError(
            f"The model gave logits that are not finite for the pair of frames {one} and {other}. "
            "Check it on this machine with `cb verify`."
        )
    return softmax(logits)


def _by_distance(looked: Looked, frames: int, distances: tuple[int, ...]) -> PairScores:
    """Give each pair its answer, and sort pairs by frame, distance and direction into arrays."""
    scored = np.arange(frames)[:, None] >= distances
    distance_of = np.broadcast_to(distances, scored.shape)[scored]
    answers = np.frombuffer(looked.answers, np.float32).reshape(-1, len(LABELS))
    both = answers[np.frombuffer(looked.answer_of, looked.answer_of.typecode)].reshape(-1, 2, len(LABELS))
    forward_at, backward_at = ({d: both[distance_of == d, way] for d in distances} for way in (0, 1))
    return PairScores(forward_at, backward_at, looked.frames_encoded, len(answers))
