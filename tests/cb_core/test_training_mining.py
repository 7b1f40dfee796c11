"""Hard-pair mining: what was got wrong comes again, what is easy does not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cb_core.training.config import Hyperparameters
from cb_core.training.mining import CEILING, PairMemory
from cb_core.training.sampling import EpochSampler
from cb_runtime.errors import UsageError


def memory(losses):
    kept = PairMemory(len(losses))
    known = [place for place, loss in enumerate(losses) if loss is not None]
    kept.remember(torch.tensor(known, dtype=torch.long), torch.tensor([losses[place] for place in known]))
    return kept


def draw(kept, count, seed=0):
    return kept.draw(count, torch.Generator().manual_seed(seed)).tolist()


def test_only_pairs_that_were_seen_and_got_wrong_are_drawn_each_once():
    kept = memory([None, 0.01, 0.5, 3.0, None, 0.09, 1.0])
    assert sorted(draw(kept, 10)) == [2, 3, 6]
    assert len(set(draw(kept, 2))) == 2
    assert draw(PairMemory(5), 3) == []


def test_odds_grow_with_the_loss_up_to_the_ceiling():
    kept = memory([0.2, 1.0, CEILING, 50.0])
    first = np.bincount([draw(kept, 1, seed)[0] for seed in range(2000)], minlength=4) / 2000
    expected = np.array([0.2, 1.0, CEILING, CEILING])
    assert np.allclose(first, expected / expected.sum(), atol=0.04)


def test_the_last_loss_counts():
    kept = memory([1.0, 1.0])
    kept.remember(torch.tensor([0]), torch.tensor([0.0]))
    assert draw(kept, 2) == [1]


def test_a_memory_goes_on_from_its_state():
    kept, other = memory([None, 0.4, 0.6]), PairMemory(3)
    other.load_state_dict(kept.state_dict())
    assert draw(other, 3) == draw(kept, 3)


def test_an_epoch_holds_the_share_of_hard_pairs_and_stays_as_long():
    losses = [1.0 if place < 40 else None for place in range(1000)]
    pairs = SimpleNamespace(labels=np.zeros(1000, np.int64))
    options = {"balanced": False, "share_frames": False, "epoch_pairs": 100}
    sampler = EpochSampler(pairs, 0, memory=memory(losses), hard_share=0.3, **options)
    order = [index for _, index in sampler]
    assert len(order) == len(sampler) == 100
    assert sum(index < 40 for index in order) >= 30
    without = [index for _, index in EpochSampler(pairs, 0, memory=memory([None] * 1000), hard_share=0.3, **options)]
    assert len(without) == 100
    assert sum(index < 40 for index in without) < 15


def test_hard_and_other_pairs_alternate_clip_by_clip():
    videos = np.arange(800) // 40
    strips = np.stack([np.arange(800) // 4, np.arange(800) // 4 + 1], axis=1)
    pairs = SimpleNamespace(labels=np.zeros(800, np.int64), video_ids=videos, strip_ids=strips)
    losses = [1.0 if place < 80 else None for place in range(800)]
    options = {"balanced": False, "share_frames": True, "epoch_pairs": 160}
    sampler = EpochSampler(pairs, 0, memory=memory(losses), hard_share=0.5, **options)
    order = np.array([index for _, index in sampler])
    halves = (order[:80] < 80).sum(), (order[80:] < 80).sum()
    assert min(halves) > 15
    assert sum(len(set(videos[order[start : start + 8]])) for start in range(0, 160, 8)) / 20 < 2


@pytest.mark.parametrize("share", [1.0, -0.1])
def test_a_share_that_leaves_no_new_pairs_is_refused(share):
    with pytest.raises(UsageError, match="hard_pairs"):
        Hyperparameters(hard_pairs=share)
