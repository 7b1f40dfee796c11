"""HTML pages of one file that need nothing else: style, pictures and drawings stand inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; max-width: 1340px; margin: 24px auto; padding: 0 16px; color: #1d2430 }
h2 { margin: 32px 0 8px; font-size: 18px } td, th { padding: 2px 10px 2px 0; text-align: left; vertical-align: top }
.side { display: flex; gap: 48px; flex-wrap: wrap } small { color: #5b6573 } svg { max-width: 100% }
.case { border-top: 1px solid #ddd; padding: 8px 0 } .case img { margin: 4px 6px 0 0 }
"""


def html_page(title: str, body: str, style: str = "") -> str:
    """Return a page: `body` is HTML, `title` plain text, and `style` more CSS than all pages share."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    return f"{head}<style>{_STYLE}{style}</style><body>{body}</body></html>"


def html_table(rows: Sequence[Sequence[str]], heading: Sequence[str] = ()) -> str:
    """Return a table of plain text; the first column names its row, `heading` the columns."""
    head = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in heading)}</tr>" if heading else ""
    return f"<table>{head}{''.join(map(_row, rows))}</table>"


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    return f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in others)}</tr>"


def html_picture(jpeg: str, alt: str) -> str:
    """Return a picture from a JPEG in base64."""
    return f'<img src="data:image/jpeg;base64,{jpeg}" alt="{escape(alt)}">'
