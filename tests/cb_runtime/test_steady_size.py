"""Batches that are filled up to a size that stays."""

import numpy as np
import pytest

from cb_runtime.steady_size import PATIENCE, SteadySize


def sizes(*rows):
    steady = SteadySize()
    return [steady.of(count) for count in rows]


def test_the_size_is_the_largest_so_far():
    assert sizes(4, 16, 3, 16, 15, 17, 1) == [4, 16, 16, 16, 16, 17, 17]


def test_small_calls_that_come_to_stay_get_a_size_of_their_own():
    assert sizes(64, *[1] * (PATIENCE - 1), 1, 1) == [64] * PATIENCE + [1, 1]
    assert sizes(64, *[2, 7] * (PATIENCE // 2), 3) == [64] * PATIENCE + [7, 7]


def test_one_call_that_is_half_full_begins_the_count_anew():
    assert set(sizes(64, *([1] * (PATIENCE - 1) + [33]) * 3)) == {64}


def test_answers_are_those_of_the_rows_asked_for():
    steady, asked = SteadySize(), []

    def graph(feeds):
        asked.append({name: len(of) for name, of in feeds.items()})
        return feeds["one"] * 10 + feeds["other"]

    for count in (4, 2, 1, 4):
        feeds = {"one": np.arange(count), "other": np.arange(count) + 1}
        assert steady.run(feeds, graph).tolist() == [11 * number + 1 for number in range(count)]
    assert asked == [{"one": 4, "other": 4}] * 4


@pytest.mark.parametrize("dtype", [np.float32, object])
def test_arrays_of_any_kind_are_filled_up_with_copies_of_the_last_row(dtype):
    steady, seen = SteadySize(), []
    steady.of(3)
    steady.run({"rows": np.array([[1], [2]], dtype)}, lambda feeds: seen.append(feeds["rows"].tolist()) or seen[-1])
    assert seen == [[[1], [2], [2]]]


def test_an_empty_batch_stays_empty():
    steady = SteadySize()
    steady.of(4)
    assert steady.run({"rows": np.zeros((0, 2))}, lambda feeds: feeds["rows"]).shape == (0, 2)
