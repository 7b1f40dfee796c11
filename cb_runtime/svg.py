"""Small drawings as SVG text, to stand in a page by themselves: no report needs a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

BLUE, GREY, RED = "#3572b0", "#c9ced6", "#c2402e"

FRAME = "#888"
"""Colour of frames and guides."""


def svg(width: float, height: float, lines: Sequence[str]) -> str:
    """Return a drawing of a size in pixels; `lines` are its elements, later ones on top."""
    return f'<svg width="{width:g}" height="{height:g}" font-size="12" role="img">{"".join(lines)}</svg>'


def rect(x: float, y: float, width: float, height: float, colour: str, opacity: float = 1) -> str:
    """Return a filled rectangle."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect {place} fill="{colour}" opacity="{opacity:g}"/>'


def border(x: float, y: float, width: float, height: float) -> str:
    """Return the frame of a plot."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="none" stroke="{FRAME}"/>'


def line(x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> str:
    """Return a guide."""
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{FRAME}"{dashes}/>'


def dot(x: float, y: float, colour: str, radius: float = 2.5, title: str = "") -> str:
    """Return a dot; `title` is shown where the pointer rests on it."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
    return f'<circle {place} fill="{colour}" fill-opacity="0.6">{inside}</circle>'


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    """Return words; `y` is their base line."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
