"""The drawings of a parity report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import LABELS
from cb_runtime.parity_report.evidence import JudgedGraph, Stand
from cb_runtime.svg import BLUE, RED, border, dot, line, rect, svg, text

COLOURS = ("#3572b0", "#c2402e", "#7a8794", "#2f8f5b", "#b57a17")
"""One for each label."""

MOST_SAMPLES = 1000
"""Samples in a plot at most, those furthest off first: pages stay of a size that a browser opens."""

_SIZE, _LEFT, _TOP = 380, 56, 8
_GRID_WIDTH, _CELL, _ROW = 900, 26, 22
_FAINT = 1e-3
"""Logit differences of this share of the largest, and less, are drawn as the faintest."""


class _Axes:
    """A square plot of two axes with given ends."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._x, self._y = x, y

    def x(self, value: float) -> float:
        return _LEFT + _SIZE * (value - self._x[0]) / (self._x[1] - self._x[0])

    def y(self, value: float) -> float:
        return _TOP + _SIZE * (1 - (value - self._y[0]) / (self._y[1] - self._y[0]))

    def drawing(self, lines: Sequence[str], across: str, up: str) -> str:
        ends = [
            text(_LEFT, _TOP + _SIZE + 16, f"{self._x[0]:.3g}", anchor="middle"),
            text(_LEFT + _SIZE, _TOP + _SIZE + 16, f"{self._x[1]:.3g}", anchor="middle"),
            text(_LEFT - 6, _TOP + _SIZE, f"{self._y[0]:.3g}", anchor="end"),
            text(_LEFT - 6, _TOP + 10, f"{self._y[1]:.3g}", anchor="end"),
            text(_LEFT + _SIZE / 2, _TOP + _SIZE + 16, across, anchor="middle"),
            f'<g transform="translate(14 {_TOP + _SIZE / 2:g}) rotate(-90)">{text(0, 0, up, anchor="middle")}</g>',
        ]
        frame = border(_LEFT, _TOP, _SIZE, _SIZE)
        return svg(_LEFT + _SIZE + 40, _TOP + _SIZE + 28, [frame, *lines, *ends])


def _shown(graph: JudgedGraph) -> list[int]:
    """Return the samples that are drawn: at most `MOST_SAMPLES`, and none whose logits are not finite."""
    both = np.concatenate([graph.logits, graph.golden.logits], axis=1)
    finite = [bool(np.isfinite(row).all()) for row in both]
    return [sample for sample in graph.worst(len(graph.golden)) if finite[sample]][:MOST_SAMPLES]


def _range(*values: NDArray[np.float64] | float) -> tuple[float, float]:
    """Return ends that hold all values, and are apart."""
    joined = np.concatenate([np.ravel(value) for value in values])
    low, high = float(joined.min()), float(joined.max())
    air = (high - low) / 20 or 1.0
    return low - air, high + air


def logit_scatter(graph: JudgedGraph) -> str:
    """Return the artifact's logits over the reference's, one colour for each label; on the dashed line they agree."""
    shown = _shown(graph)
    if not shown:
        return "<p>No sample has finite logits.</p>"
    wanted, got = graph.golden.logits[shown].astype(np.float64), graph.logits[shown].astype(np.float64)
    ends = _range(wanted, got)
    axes = _Axes(ends, ends)
    lines = [line(axes.x(ends[0]), axes.y(ends[0]), axes.x(ends[1]), axes.y(ends[1]), dashed=True)]
    for label, colour in enumerate(COLOURS):
        lines += [dot(axes.x(x), axes.y(y), colour) for x, y in zip(wanted[:, label], got[:, label], strict=True)]
    key = [
        item
        for row, (label, colour) in enumerate(zip(LABELS, COLOURS, strict=True))
        for item in (dot(_LEFT + 14, _TOP + 16 + 16 * row, colour, 4), text(_LEFT + 24, _TOP + 20 + 16 * row, label))
    ]
    return axes.drawing([*lines, *key], "logit of PyTorch", "logit of the artifact")


def margin_scatter(graph: JudgedGraph, allowed: float | None) -> str:
    """Return what the artifact makes of PyTorch's margins; below the line decisions flip, red where that is too much.

    `allowed` is the largest margin at which a flip is forgiven; None where flips are only reported.
    """
    shown = _shown(graph)
    if not shown:
        return "<p>No sample has finite logits.</p>"
    margins, kept = graph.margins[shown], graph.kept_margins[shown]
    axes = _Axes(_range(margins, 0.0), _range(kept, 0.0))
    across = _range(margins, 0.0)
    lines = [line(axes.x(across[0]), axes.y(0), axes.x(across[1]), axes.y(0))]
    limit = math.inf if allowed is None else allowed
    for sample, x, y in zip(shown, margins.tolist(), kept.tolist(), strict=True):
        flipped = y < 0
        colour = RED if flipped and x > limit else COLOURS[4] if flipped else BLUE
        words = f"sample {sample}: margin {x:.4g}, kept {y:.4g}"
        lines.append(dot(axes.x(x), axes.y(y), colour, 3.5 if flipped else 2.5, words))
    return axes.drawing(lines, "margin of PyTorch's decision", "what the artifact makes of it")


def place_grid(stands: Sequence[Stand]) -> str:
    """Return one cell for each place of each batch size: darker where logits differ more, red where a decision did."""
    largest = max([one.max_abs_difference for one in stands if math.isfinite(one.max_abs_difference)] + [1e-12])
    batches = sorted({one.batch for one in stands})
    cell = min(_CELL, _GRID_WIDTH / max(batches))
    lines = [text(_LEFT - 8, _ROW * row + 15, str(batch), anchor="end") for row, batch in enumerate(batches)]
    for one in stands:
        x, y = _LEFT + cell * (one.place or 0), _ROW * batches.index(one.batch)
        colour = RED if one.agreement < 1 else BLUE
        words = (
            f"batch {one.batch}, place {one.place}: {one.agreement:.2%} decided alike, "
            f"largest difference {one.max_abs_difference:.3g}"
        )
        box = rect(x + 0.5, y + 1, cell - 1, _ROW - 2, colour, _darkness(one, largest))
        lines.append(f"<g><title>{escape(words)}</title>{box}</g>")
    return svg(_LEFT + cell * max(batches) + 4, _ROW * len(batches) + 4, lines)


def _darkness(stand: Stand, largest: float) -> float:
    """Return an opacity in [0.1, 1], by the logarithm of the difference."""
    share = stand.max_abs_difference / largest
    if not math.isfinite(share):
        return 1.0
    return 1.0 if share >= 1 else max(0.1, 1 - math.log(max(share, _FAINT)) / math.log(_FAINT))
