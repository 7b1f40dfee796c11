from collections import Counter

import numpy as np
import pytest

from cb_core.data.splits import assign_splits

SHARES = (0.15, 0.15)


def counts_of(videos, seed=0):
    rng = np.random.default_rng(seed)
    return {f"v{number:03}": rng.integers(10, 100, 5).tolist() for number in range(videos)}


def test_shares_are_kept():
    splits = Counter(assign_splits(counts_of(100), SHARES, 0).values())
    assert splits == {"train": 70, "val": 15, "test": 15}


@pytest.mark.parametrize(("videos", "expected"), [(1, {"train"}), (2, {"train", "val"}), (3, {"train", "val", "test"})])
def test_few_videos_fill_train_then_val_then_test(videos, expected):
    assert set(assign_splits(counts_of(videos), SHARES, 0).values()) == expected


def test_a_split_that_is_not_wanted_stays_empty():
    assert set(assign_splits(counts_of(10), (0.2, 0.0), 0).values()) == {"train", "val"}


def test_the_same_seed_gives_the_same_splits_in_any_order_of_videos():
    counts = counts_of(30)
    backwards = dict(reversed(counts.items()))
    assert assign_splits(counts, SHARES, 5) == assign_splits(backwards, SHARES, 5)
    assert assign_splits(counts, SHARES, 5) != assign_splits(counts, SHARES, 6)


def test_a_rare_class_reaches_every_split():
    counts = {f"v{number:02}": [50, 0, 50, 50, 50] for number in range(20)}
    for rare in ("v03", "v11", "v17"):
        counts[rare] = [50, 40, 50, 50, 50]
    splits = assign_splits(counts, SHARES, 0)
    assert {splits[rare] for rare in ("v03", "v11", "v17")} == {"train", "val", "test"}


def test_videos_keep_their_split_when_others_come():
    before = assign_splits(counts_of(10), SHARES, 0)
    after = assign_splits(counts_of(40), SHARES, 0, before)
    assert {key: after[key] for key in before} == before
    assert Counter(after.values()) == {"train": 28, "val": 6, "test": 6}


def test_no_videos_give_no_splits():
    assert assign_splits({}, SHARES, 0) == {}
