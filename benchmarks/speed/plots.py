"""Pictures of the figures: bars of throughput, of the way through a film, and of start-up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.speed.throughput import CEILING, OURS

COLOURS = {OURS: "#1f6feb", CEILING: "#d0d7de"}
PEER_COLOUR = "#8c959f"
Bars = list[tuple[str, float, str]]
"""Label, value and colour of each bar."""


def draw(folder: Path) -> list[Path]:
    """Draw what the folder has figures of; return the pictures."""
    return list(_drawn(folder))


def _drawn(folder: Path) -> Iterator[Path]:
    for name, bars_of in _PICTURES.items():
        place = folder / f"{name}.json"
        if not place.is_file():
            continue
        for title, unit, bars in bars_of(json.loads(place.read_text())):
            yield _bars(folder / f"{name}_{title}.png", title, unit, bars)


def _throughput(document: dict[str, Any]) -> Iterator[tuple[str, str, Bars]]:
    rows = document["rows"]
    for architecture in dict.fromkeys(row["architecture"] for row in rows):
        own = [row for row in rows if row["architecture"] == architecture]
        bars = [(row["contender"], row["to_loop"], COLOURS.get(row["kind"], PEER_COLOUR)) for row in own]
        yield architecture, "times as fast as the PyTorch loop", bars


def _film(document: dict[str, Any]) -> Iterator[tuple[str, str, Bars]]:
    rows = document["rows"]
    bars = [
        (row["way"], row["frames_per_second"]["median"], PEER_COLOUR if row["to_loop"] == 1 else COLOURS[OURS])
        for row in rows
    ]
    yield "captions", "frames per second from 720p MP4 to captions", bars


def _startup(document: dict[str, Any]) -> Iterator[tuple[str, str, Bars]]:
    rows = document["rows"]
    bars = [
        (row["contender"], row["seconds"]["median"], PEER_COLOUR if number == 0 else COLOURS[OURS])
        for number, row in enumerate(rows)
    ]
    yield "first_answer", "seconds from the start of Python's imports to the first answer", bars


_PICTURES: dict[str, Callable[[dict[str, Any]], Iterator[tuple[str, str, Bars]]]] = {
    "throughput": _throughput,
    "film": _film,
    "startup": _startup,
}


def _bars(path: Path, title: str, unit: str, bars: Bars) -> Path:
    figure, axes = plt.subplots(figsize=(9, 0.6 + 0.32 * len(bars)), layout="constrained")
    labels, values, colours = zip(*bars, strict=True)
    drawn = axes.barh(range(len(bars)), values, color=colours)
    axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=8)
    axes.set_yticks(range(len(bars)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title.replace("_", " "), loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
