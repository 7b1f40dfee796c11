"""Small plots as SVG text, to stand in a page by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cb_core.evaluation.metrics import Calibration

BLUE, GREY, RED = "#3572b0", "#c9ced6", "#c2402e"

_ROW, _LABEL, _BAR = 18, 250, 320


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Return horizontal bars: name, length in [0, 1], and what is written behind it."""
    lines = []
    for number, (name, value, note) in enumerate(rows):
        y = number * _ROW
        lines.append(_text(_LABEL - 6, y + 13, name, anchor="end"))
        lines.append(_rect(_LABEL, y + 3, _BAR, _ROW - 6, GREY))
        lines.append(_rect(_LABEL, y + 3, _BAR * value, _ROW - 6, BLUE))
        lines.append(_text(_LABEL + _BAR + 6, y + 13, note))
    return _svg(_LABEL + _BAR + 190, len(rows) * _ROW, lines)


def columns(rows: Sequence[tuple[str, int, bool]]) -> str:
    """Return vertical bars: name, count, and whether it is a fault; the count stands above each."""
    wide, high = 60, 150
    most = max([count for _, count, _ in rows] + [1])
    lines = []
    for number, (name, count, fault) in enumerate(rows):
        x, length = number * wide, high * count / most
        lines.append(_rect(x + 6, high + 16 - length, wide - 12, length, RED if fault else BLUE))
        lines.append(_text(x + wide / 2, high + 12 - length, str(count), anchor="middle"))
        lines.append(_text(x + wide / 2, high + 30, name, anchor="middle"))
    return _svg(len(rows) * wide, high + 38, lines)


def reliability(calibration: Calibration) -> str:
    """Return the share of boundaries that are right over their score; on the dashed line scores mean what they say."""
    size, left = 220, 40
    lines = [f'<line x1="{left}" y1="{size}" x2="{left + size}" y2="0" stroke="#888" stroke-dasharray="4 3"/>']
    for one in calibration.bins:
        x, width = left + one.low * size, (one.high - one.low) * size
        if one.score is not None:
            lines.append(_rect(x + 1, size * (1 - one.right), width - 2, size * one.right, BLUE, opacity=0.7))
            lines.append(_text(x + width / 2, size + 12, str(one.count), anchor="middle", size=9))
            lines.append(f'<circle cx="{left + one.score * size:.1f}" cy="{size * (1 - one.right):.1f}" r="3"/>')
    frame = f'<rect x="{left}" y="0" width="{size}" height="{size}" fill="none" stroke="#888"/>'
    labels = [_text(left - 6, 12, "1", anchor="end"), _text(left - 6, size, "0", anchor="end")]
    names = [_text(left + size / 2, size + 28, "score (boundaries in each bin above)", anchor="middle")]
    return _svg(left + size + 40, size + 36, [frame, *lines, *labels, *names])


def _svg(width: float, height: float, lines: Sequence[str]) -> str:
    return f'<svg width="{width:g}" height="{height:g}" font-size="12" role="img">{"".join(lines)}</svg>'


def _rect(x: float, y: float, width: float, height: float, colour: str, opacity: float = 1) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect {place} fill="{colour}" opacity="{opacity:g}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
