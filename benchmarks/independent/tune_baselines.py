"""Choose the numbers of both baselines on videos of `cb synth`, which have other backgrounds, fonts and texts.

    cb synth DEV --videos 8 --seconds 12 --seed 77
    python benchmarks/independent/tune_baselines.py DEV

Prints the best of a grid by mean F1 over the tolerances 0 and 1; the defaults of `OcrRules` and `EdgeRules` are what
it printed. OCR runs once and is kept in DEV/ocr_reads.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from contests import Captions, Excerpt, changes, excerpts, ocr_reads, pooled_scores, signals_of
from edges import EdgeRules, captions_from_edges
from ocr_loop import OcrRules, Read, TextReader, captions_from_reads

from cb_core.synth.truth import TRUTH_SUFFIX

Rules = TypeVar("Rules")


def main() -> None:
    """Parse arguments, try all grids, print the best rules of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="videos of cb synth")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each video")
    arguments = parser.parse_args()
    names = sorted(path.name.removesuffix(TRUTH_SUFFIX) for path in arguments.folder.glob(f"*{TRUTH_SUFFIX}"))
    course = [each for each in excerpts(arguments.folder, names, arguments.seconds) if each.layout is not None]
    print("edges", *best(course, _edge_grid(), _edge_trial(course)))
    reads = _kept_reads(course, arguments.folder / "ocr_reads.json")
    print(
        "ocr",
        *best(course, _ocr_grid(), lambda rules, each: captions_from_reads(reads[each.video.name], each.rate, rules)),
    )


def best(
    course: Sequence[Excerpt], grid: Iterator[Rules], trial: Callable[[Rules, Excerpt], Captions]
) -> tuple[Rules, float]:
    """Return the rules with the highest mean F1 over the tolerances 0 and 1, and that mean."""

    def merit(rules: Rules) -> float:
        found = [changes(trial(rules, each), each.frames) for each in course]
        return sum(pooled_scores(course, found, tolerance).f1 for tolerance in (0, 1)) / 2

    return max(((rules, merit(rules)) for rules in grid), key=lambda pair: pair[1])


def _edge_grid() -> Iterator[EdgeRules]:
    for strength, high, low, least, split, shortest in itertools.product(
        (180, 260, 360, 500, 700),
        (0.15, 0.2, 0.3, 0.4, 0.5),
        (0.5, 0.75, 0.9),
        (0.005, 0.01, 0.02),
        (0.1, 0.15, 0.2, 0.3, 0.4),
        (0.12, 0.2, 0.3),
    ):
        yield EdgeRules(strength, high, high * low, least, split, shortest)


def _edge_trial(course: Sequence[Excerpt]) -> Callable[[EdgeRules, Excerpt], Captions]:
    known = {}

    def trial(rules: EdgeRules, excerpt: Excerpt) -> Captions:
        key = (rules.strength, excerpt.video)
        if key not in known:
            assert excerpt.layout is not None, "the course has only videos with a layout"
            known[key] = signals_of(excerpt, excerpt.layout, rules.strength)
        return captions_from_edges(known[key], excerpt.rate, rules)

    return trial


def _ocr_grid() -> Iterator[OcrRules]:
    for confidence, similarity, bridged, shortest in itertools.product(
        (0.3, 0.5, 0.6, 0.75, 0.85), (0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (0.0, 0.04, 0.1, 0.2), (0.08, 0.12, 0.2, 0.25)
    ):
        yield OcrRules(confidence, similarity, bridged, shortest)


def _kept_reads(course: Sequence[Excerpt], file: Path) -> dict[str, list[Read]]:
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    reader = TextReader()
    for excerpt in course:
        if excerpt.video.name not in kept:
            assert excerpt.layout is not None, "the course has only videos with a layout"
            kept[excerpt.video.name] = ocr_reads(excerpt, excerpt.layout, reader)
            file.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
            print(f"read {excerpt.video.name}", file=sys.stderr, flush=True)
    return {name: [tuple((text, score) for text, score in read) for read in reads] for name, reads in kept.items()}


if __name__ == "__main__":
    main()
