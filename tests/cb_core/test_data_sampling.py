from collections import Counter

import numpy as np
import pytest

from cb_core.data.sampling import DIFFERENT, EMPTY_EMPTY, EMPTY_VALID, SAME, VALID_EMPTY, label_of, plan_pairs
from cb_core.data.timeline import EMPTY, UNKNOWN
from cb_runtime.contract import LABELS, REVERSED_LABEL

DISTANCES = (1, 2, 4, 8, 16)


def states_of(*stretches):
    return np.concatenate([np.full(length, state, np.int64) for length, state in stretches])


TYPICAL = states_of((40, EMPTY), (30, 0), (25, EMPTY), (30, 1), (30, 2), (40, EMPTY))
TEXTS = ["one", "two", "three"]


def plan(states=TYPICAL, texts=TEXTS, pairs=600, seed=0):
    return plan_pairs(states, texts, DISTANCES, pairs, np.random.default_rng(seed))


def test_labels_are_those_of_the_contract():
    assert LABELS[SAME] == "same"
    assert LABELS[DIFFERENT] == "different"
    assert LABELS[EMPTY_EMPTY] == "empty_empty"
    assert LABELS[EMPTY_VALID] == "empty_valid"
    assert LABELS[VALID_EMPTY] == "valid_empty"


def test_every_label_follows_from_its_two_frames():
    for first, second, label in plan():
        assert label == label_of(TYPICAL[first], TYPICAL[second])


def test_every_boundary_is_crossed_at_every_distance_in_both_orders():
    pairs = {(first, second) for first, second, _ in plan()}
    for boundary in (40, 70, 95, 125, 155):
        for distance in DISTANCES:
            crossing = [(b - 1 - phase) for b in [boundary] for phase in range(distance)]
            assert any((first, first + distance) in pairs for first in crossing), (boundary, distance)
            assert any((first + distance, first) in pairs for first in crossing), (boundary, distance)


def test_phases_are_random():
    firsts = {first for seed in range(8) for first, second, _ in plan(seed=seed) if second - first == 16 and first < 40}
    assert len(firsts & set(range(24, 40))) > 8


def test_each_pair_comes_in_both_orders_with_the_reversed_label():
    labels = {(first, second): label for first, second, label in plan()}
    assert all(labels[second, first] == REVERSED_LABEL[label] for (first, second), label in labels.items())


def test_no_pair_twice_and_none_of_a_frame_with_itself():
    pairs = [(first, second) for first, second, _ in plan()]
    assert len(set(pairs)) == len(pairs)
    assert all(first != second for first, second in pairs)


def test_classes_are_roughly_balanced_and_capped():
    counts = Counter(label for _, _, label in plan(pairs=300))
    assert set(counts) == set(range(5))
    assert max(counts.values()) <= 60
    assert min(counts.values()) >= 30


def test_calm_pairs_are_near_and_far():
    for label in (SAME, EMPTY_EMPTY):
        distances = {abs(second - first) for first, second, found in plan() if found == label}
        assert set(DISTANCES) <= distances
        assert max(distances) > 16
        assert distances - set(DISTANCES) == {distance for distance in distances if distance > 16}


def test_without_back_to_back_captions_distant_ones_give_different_pairs():
    apart = states_of((40, EMPTY), (30, 0), (40, EMPTY), (30, 1), (40, EMPTY))
    different = [pair for pair in plan(apart, ["one", "two"]) if pair[2] == DIFFERENT]
    assert len(different) > 60
    assert all(abs(second - first) > 16 for first, second, _ in different)


def test_two_captions_that_say_the_same_are_not_called_different():
    assert not [
        pair
        for pair in plan(texts=["one", "same", "same"], pairs=600)
        if set(pair[:2]) <= set(range(95, 155)) and pair[2] == DIFFERENT
    ]


def test_two_captions_that_nobody_transcribed_are_different():
    assert DIFFERENT in {label for _, _, label in plan(texts=[None, None, None])}


def test_frames_nobody_annotated_take_part_in_no_pair():
    states = TYPICAL.copy()
    states[30:50] = UNKNOWN
    frames = {frame for first, second, _ in plan(states) for frame in (first, second)}
    assert frames
    assert not frames & set(range(30, 50))


@pytest.mark.parametrize("states", [np.full(0, EMPTY), np.full(1, EMPTY), np.full(5, UNKNOWN)])
def test_a_video_without_usable_frames_gives_no_pairs(states):
    assert plan(states, []) == []


def test_a_video_without_captions_gives_empty_pairs_only():
    assert {label for _, _, label in plan(np.full(60, EMPTY), [])} == {EMPTY_EMPTY}


def test_the_same_seed_gives_the_same_plan():
    assert plan(seed=3) == plan(seed=3)
    assert plan(seed=3) != plan(seed=4)
