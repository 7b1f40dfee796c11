"""Small plots as SVG text, to stand in a page by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from cb_core.evaluation.metrics import Calibration
from cb_runtime.svg import BLUE, GREY, RED, border, dot, line, rect, svg, text

_ROW, _LABEL, _BAR = 18, 250, 320


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Return horizontal bars: name, length in [0, 1], and what is written behind it."""
    lines = []
    for number, (name, value, note) in enumerate(rows):
        y = number * _ROW
        lines.append(text(_LABEL - 6, y + 13, name, anchor="end"))
        lines.append(rect(_LABEL, y + 3, _BAR, _ROW - 6, GREY))
        lines.append(rect(_LABEL, y + 3, _BAR * value, _ROW - 6, BLUE))
        lines.append(text(_LABEL + _BAR + 6, y + 13, note))
    return svg(_LABEL + _BAR + 190, len(rows) * _ROW, lines)


def columns(rows: Sequence[tuple[str, int, bool]]) -> str:
    """Return vertical bars: name, count, and whether it is a fault; the count stands above each."""
    wide, high = 60, 150
    most = max([count for _, count, _ in rows] + [1])
    lines = []
    for number, (name, count, fault) in enumerate(rows):
        x, length = number * wide, high * count / most
        lines.append(rect(x + 6, high + 16 - length, wide - 12, length, RED if fault else BLUE))
        lines.append(text(x + wide / 2, high + 12 - length, str(count), anchor="middle"))
        lines.append(text(x + wide / 2, high + 30, name, anchor="middle"))
    return svg(len(rows) * wide, high + 38, lines)


def reliability(calibration: Calibration) -> str:
    """Return the share of boundaries that are right over their score; on the dashed line scores mean what they say."""
    size, left = 220, 40
    lines = [line(left, size, left + size, 0, dashed=True)]
    for one in calibration.bins:
        x, width = left + one.low * size, (one.high - one.low) * size
        if one.score is not None:
            lines.append(rect(x + 1, size * (1 - one.right), width - 2, size * one.right, BLUE, opacity=0.7))
            lines.append(text(x + width / 2, size + 12, str(one.count), anchor="middle", size=9))
            lines.append(dot(left + one.score * size, size * (1 - one.right), "#000", radius=3))
    frame = border(left, 0, size, size)
    labels = [text(left - 6, 12, "1", anchor="end"), text(left - 6, size, "0", anchor="end")]
    names = [text(left + size / 2, size + 28, "score (boundaries in each bin above)", anchor="middle")]
    return svg(left + size + 40, size + 36, [frame, *lines, *labels, *names])
