"""The coarse-to-fine search looks between frames only where something may have changed."""

import weakref

import numpy as np
import pytest
from captioned_strips import (
    KnowingExecutor,
    StagedExecutor,
    boundaries,
    moving_background,
    probabilities_of,
    strip_with,
    strips_of_runs,
)

from cb_runtime.features import VideoInputs
from cb_runtime.scoring import score_strips
from cb_runtime.session import Session, softmax
from cb_runtime.skipping import Skipping, coarse, windows
from cb_runtime.skipping.coarse import search_coarse_to_fine
from cb_runtime.skipping.likeness import KeptStrips
from cb_runtime.skipping.looked import PairModel
from cb_runtime.skipping.windows import windows_of

INPUTS = VideoInputs(np.zeros((48, 480, 3), np.uint8), np.zeros(6, np.float32), np.zeros(512, np.float32))
RUNS = ((0, 40), (1, 50), (3, 30), (0, 9), (1, 21), (0, 60))
CHANGES = [40, 90, 120, 129, 150]


def scored(executor, strips, first, skip="equal", **options):
    return score_strips(Session(executor), strips, INPUTS, skipping=Skipping(skip, first), **options)


def captions_over_movement(*runs):
    captions = [caption for caption, frames in runs for _ in range(frames)]
    return [strip_with(caption, moving_background(frame)) for frame, caption in enumerate(captions)]


@pytest.fixture(scope="module")
def moving():
    return captions_over_movement(*RUNS)


@pytest.fixture(scope="module")
def exact(moving):
    return scored(StagedExecutor(), moving, 1, "none")


@pytest.mark.parametrize("executor", [KnowingExecutor, StagedExecutor])
@pytest.mark.parametrize("first", [2, 4, 8, 16])
def test_boundaries_are_those_of_looking_at_all_pairs(executor, first, moving):
    scores = scored(executor(), moving, first)
    assert boundaries(scores) == CHANGES
    for distance in (1, 2, 3):
        earlier, later = (
            np.repeat([c for c, _ in RUNS], [n for _, n in RUNS])[at]
            for at in (slice(None, -distance), slice(distance, None))
        )
        labels = probabilities_of(earlier, later).argmax(axis=1)
        np.testing.assert_array_equal(scores.forward_at[distance].argmax(axis=1), labels)


def test_around_a_change_every_answer_is_the_pair_s_own(moving, exact):
    scores = scored(StagedExecutor(), moving, 16)
    for distance in (1, 2, 3):
        near = [at for change in CHANGES for at in range(change - distance, change)]
        np.testing.assert_array_equal(scores.forward_at[distance][near], exact.forward_at[distance][near])
        np.testing.assert_array_equal(scores.backward_at[distance][near], exact.backward_at[distance][near])


def test_a_coarser_search_looks_at_less_and_says_how_much(moving):
    counts = []
    for first in (1, 2, 4, 8, 16):
        executor = StagedExecutor()
        scores = scored(executor, moving, first)
        assert (scores.frames_encoded, scores.pairs_scored) == (executor.stages.encoded, executor.stages.pairs)
        assert scores.count == 2 * (209 + 208 + 207)
        counts.append((scores.frames_encoded, scores.pairs_scored))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == (210, 1248)
    assert counts[-1][0] < 210 / 3
    assert counts[-1][1] < 1248 / 5


def test_a_model_that_is_never_sure_is_asked_for_all_pairs():
    strips = strips_of_runs((0, 20), (1, 20), noise=1.0)
    scores, all_pairs = (scored(KnowingExecutor(sureness=1.0), strips, first) for first in (8, 1))
    assert scores.frames_encoded == 40
    for distance in (1, 2, 3):
        np.testing.assert_array_equal(scores.forward_at[distance], all_pairs.forward_at[distance])
        np.testing.assert_array_equal(scores.backward_at[distance], all_pairs.backward_at[distance])


@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize(
    "runs",
    [
        ((1, 37), (0, 1), (1, 42)),
        ((1, 37), (3, 3), (1, 40)),
        ((0, 33), (1, 7), (0, 40)),
        ((0, 35), (3, 1), (0, 44)),
    ],
    ids=["gap of a frame", "A-B-A", "short caption", "flash"],
)
def test_what_comes_and_goes_between_equal_ends_is_found(runs, still, monkeypatch):
    strips = strips_of_runs(*runs, noise=1.0) if still else captions_over_movement(*runs)
    change = runs[0][1]
    assert boundaries(scored(KnowingExecutor(), strips, 16)) == [change, change + runs[1][1]]
    monkeypatch.setattr(windows, "SUDDEN_DIFFERENCE", np.inf)
    assert boundaries(scored(KnowingExecutor(), strips, 16)) == [], "the ends alone do not tell"


def test_one_letter_that_changes_for_a_moment_is_found_on_a_still_background():
    strips = strips_of_runs((1, 20), (2, 4), (1, 40), noise=1.0)
    assert boundaries(scored(KnowingExecutor(), strips, 16)) == [20, 24]


def test_a_thing_that_moves_through_the_strip_is_not_looked_at_step_by_step(monkeypatch):
    strips = strips_of_runs((1, 80))
    for frame, strip in enumerate(strips):
        left = 4 + 5 * frame
        strip[8:40, left : left + 40] = 250
    assert len(windows.sudden_steps(strips)) > 60
    asked = scored(StagedExecutor(), strips, 4)
    assert boundaries(asked) == []
    assert asked.frames_encoded < 30
    monkeypatch.setattr(coarse, "comes_and_goes", lambda *_: True)
    assert scored(StagedExecutor(), strips, 4).frames_encoded == 80


def search(levels, first, window, label=None, alike=np.array_equal, told=lambda done: None, distances=(1, 2, 3)):
    """Search strips of flat levels; `label` tells the label of two levels, by default of captions 0, 1, ..."""

    def answers(pairs):
        for place, one, other in pairs:
            levels = int(one[0, 0, 0]), int(other[0, 0, 0])
            yield [place], probabilities_of(*levels)[None] if label is None else sure_of(label(*levels))

    model = PairModel(lambda strips: ((strip[None], strip[None]) for strip in strips), answers)
    strips = (np.full((16, 24, 3), level, np.uint8) for level in levels)
    looked = search_coarse_to_fine(model, windows_of(KeptStrips(strips, alike), window), distances, first, told)
    found = np.array(looked.answers, np.float32).reshape(-1, 5)[np.array(looked.answer_of, int)]
    return found.argmax(axis=1)


def sure_of(label):
    return softmax(12 * np.eye(5, dtype=np.float32)[[label]])


def pairs_of(frames, distances=(1, 2, 3)):
    return [(at - d, at) for at in range(frames) for d in distances if at >= d]


@pytest.mark.parametrize("frames", [1, 2, 3, 16, 17, 18, 33, 34, 35, 100])
def test_windows_and_stretches_end_anywhere(frames):
    captions = (np.arange(frames) // 7 % 3).tolist()
    pairs = [(captions[one], captions[other]) for one, other in pairs_of(frames)]
    wanted = [probabilities_of(*way).argmax() for pair in pairs for way in (pair, pair[::-1])]
    assert search(captions, first=16, window=17).tolist() == wanted


@pytest.mark.parametrize("window", [17, 64])
def test_pairs_far_apart_are_asked_about_frames_that_were_looked_at(window):
    """Captions follow each other at frames 50 and 100; levels are frames, so that what was asked can be told."""
    asked = set()

    def label(one, other):
        asked.add((min(one, other), max(one, other)))
        return 0 if one // 50 == other // 50 else 1

    forward = search(range(150), first=8, window=window, label=label)[::2]
    frames = {frame for pair in asked for frame in pair}
    asked.clear()
    with_far = search(range(150), first=8, window=window, label=label, distances=(1, 2, 3, 12))[::2]
    assert {frame for pair in asked for frame in pair} == frames, "no frame more"
    pairs = pairs_of(150, (1, 2, 3, 12))
    near = [found for found, (one, other) in zip(with_far, pairs, strict=True) if other - one < 12]
    assert near == forward.tolist()
    far = [found for found, (one, other) in zip(with_far, pairs, strict=True) if other - one == 12]
    assert far == [int(one // 50 != (one + 12) // 50) for one in range(138)]
    assert sum(other - one > 3 for one, other in asked) > 2 * 12 / 8


def test_stretches_that_meet_with_different_labels_are_looked_into():
    """Far apart the model says `same` up to frame 8 and `empty_empty` from there on; the caption ends at frame 12."""

    def label(one, other):
        before, after = min(one, other), max(one, other)
        if after - before > 3:
            return 0 if after <= 8 else 2
        ends = 4 if one < other else 3
        return 0 if after < 12 else 2 if before >= 12 else ends

    forward = search(range(17), first=8, window=17, label=label)[::2]
    steps = [found for found, (one, other) in zip(forward, pairs_of(17), strict=True) if other - one == 1]
    assert steps == [0] * 11 + [4] + [2] * 4


def test_strips_of_the_windows_before_are_not_held():
    held, most = [], 0

    def alike(kept, strip):
        nonlocal most
        held.append(weakref.ref(kept))
        most = max(most, sum(reference() is not None for reference in held))
        return False

    search(np.arange(320) // 40 % 2, first=8, window=32, alike=alike)
    assert most <= 32 + 32 + 3, "a window that is done, the next, and what pairs across them need"


def test_progress_counts_frames():
    seen = []
    search([0] * 70, first=4, window=32, told=seen.append)
    assert seen == [32, 64, 70]


def test_the_first_distance_shrinks_where_little_is_still_and_grows_where_much_is():
    asked = {}

    def label(one, other):
        asked.setdefault(min(one, other) // 32, other - one)
        return 3 if one < 96 else 2

    search(range(32 * 7 + 1), first=8, window=32, label=label)
    assert list(asked.values())[:3] == [8, 4, 2]
    assert asked[6] == 8
