"""The search for modules that have to stay in float, on made-up scores."""

from __future__ import annotations

import pytest

from cb_export.modules import WHOLE, blocks, divided, is_inside, members
from cb_export.search import Score, search

MODULES = ["enc.fine.0", "enc.fine.1", "enc.fine.2", "enc.wide", "head.compare.0", "head.compare.1"]


def test_a_module_is_inside_what_its_name_begins_with_and_inside_the_whole():
    assert is_inside("enc.fine.0", ["enc.fine"])
    assert is_inside("enc.fine", ["enc.fine"])
    assert not is_inside("enc.fineness", ["enc.fine"])
    assert is_inside("enc.fine", [WHOLE])
    assert not is_inside("enc.fine", [])


def test_blocks_hold_every_module_and_the_largest_is_divided_first():
    assert blocks(MODULES, 1) == ["enc", "head.compare"] or blocks(MODULES, 1) == ["enc", "head"]
    assert blocks(MODULES, 3) == ["enc.fine", "enc.wide", "head"]
    assert sorted(blocks(MODULES, 99)) == sorted(MODULES)
    for count in range(1, 8):
        parts = [members(block, MODULES) for block in blocks(MODULES, count)]
        assert sorted(module for part in parts for module in part) == sorted(MODULES)


def test_a_module_without_parts_is_its_own_block():
    assert divided("enc.wide", MODULES) == ["enc.wide"]
    assert divided("head", MODULES) == ["head.compare.0", "head.compare.1"]
    assert blocks([], 3) == []
    assert blocks(["a"], 3) == ["a"]


def scorer(needed, calls=None):
    """Return a score that passes when all needed modules are kept, and grows with each that is."""

    def score(names):
        if calls is not None:
            calls.append(frozenset(names))
        kept = [module for module in needed if is_inside(module, names)]
        return Score(len(kept) == len(needed), 0.9 + 0.1 * len(kept) / max(1, len(needed)), 1 - len(kept) / 10)

    return score


@pytest.mark.parametrize(
    "needed",
    [["enc.wide"], ["enc.fine.1"], ["head.compare.0", "head.compare.1"], ["enc.fine.0", "head.compare.1"], MODULES],
)
@pytest.mark.parametrize("count", [1, 3, 12])
def test_the_set_found_holds_what_is_needed_and_nothing_else(needed, count):
    smallest = search(MODULES, scorer(needed), count).smallest
    held = {module for name in smallest for module in members(name, MODULES)}
    assert held == set(needed)


def test_blocks_are_listed_best_first():
    alone = search(MODULES, scorer(["enc.wide"]), 3).alone
    assert alone[0][0] == "enc.wide"
    assert alone[0][1].passes
    assert [score.rank for _, score in alone] == sorted((score.rank for _, score in alone), reverse=True)


def test_no_set_is_scored_twice():
    calls = []
    search(MODULES, scorer(["enc.fine.0", "head.compare.1"], calls))
    assert len(calls) == len(set(calls))


def test_where_no_set_passes_none_is_found():
    found = search(MODULES, lambda names: Score(False, 0.5, 1.0))
    assert found.smallest == ()
    assert len(found.alone) == len(MODULES)


def test_where_decisions_are_alike_the_logits_rank():
    assert Score(False, 0.9, 0.1).rank > Score(False, 0.9, 0.2).rank
    assert Score(False, 0.9, 9.0).rank > Score(False, 0.8, 0.1).rank
