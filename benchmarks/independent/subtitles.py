"""Real subtitle files: the one that is burned in, and two that only show when each caption can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pysubs2
from captions import Event
from plan import VideoPlan

from cb_runtime.errors import InputError

TICKER_SHARE = 0.09
"""Height of a ticker's band at the bottom, of the frame's."""
SURROUND = 12
"""Brightness of outline, shadow and box where visibility is measured: seen, but hardly adding to the letters."""


def burned_in(plan: VideoPlan, events: Sequence[Event]) -> pysubs2.SSAFile:
    """Return the subtitle file of a video."""
    return _file(plan, events, _style(plan))


def visibility_layers(plan: VideoPlan, events: Sequence[Event]) -> tuple[pysubs2.SSAFile, pysubs2.SSAFile]:
    """Return the even and the odd captions in white letters, so that neighbours never share a picture."""
    style = _style(plan)
    style.primarycolor = style.secondarycolor = pysubs2.Color(255, 255, 255)
    style.outlinecolor = style.backcolor = pysubs2.Color(SURROUND, SURROUND, SURROUND)
    return _file(plan, events[::2], style), _file(plan, events[1::2], style)


def _file(plan: VideoPlan, events: Sequence[Event], style: pysubs2.SSAStyle) -> pysubs2.SSAFile:
    subtitles = pysubs2.SSAFile()
    width, height = plan.size
    subtitles.info.update({"PlayResX": str(width), "PlayResY": str(height), "WrapStyle": "2"})
    subtitles.info["ScaledBorderAndShadow"] = "yes"
    subtitles.styles["Default"] = style
    for event in events:
        subtitles.append(pysubs2.SSAEvent(start=10 * event.start, end=10 * event.end, text=_marked_up(plan, event)))
    return subtitles


def _marked_up(plan: VideoPlan, event: Event) -> str:
    text = event.text.replace("\n", "\\N")
    if plan.cards["karaoke"] == "yes":
        text = _sung(text, event.end - event.start)
    fade = f"{{\\fad({event.fade_in},{event.fade_out})}}" if event.fade_in or event.fade_out else ""
    return fade + text


def _sung(text: str, centiseconds: int) -> str:
    """Mark words (lines, where words are not separated) as sung one after another over nine tenths of the time."""
    words = text.replace("\\N", "\\N ").split(" ")
    each = max(1, round(0.9 * centiseconds / len(words)))
    return " ".join(f"{{\\k{each}}}{word}" for word in words).replace("\\N ", "\\N")


def _style(plan: VideoPlan) -> pysubs2.SSAStyle:
    style = pysubs2.SSAStyle(fontname=plan.font, fontsize=plan.font_size)
    rng = plan.rng("style")
    unit = max(1.0, plan.size[1] / 360)
    style.primarycolor = pysubs2.Color(*plan.colour)
    style.secondarycolor = pysubs2.Color(90, 120, 255)
    style.outlinecolor, style.backcolor = pysubs2.Color(0, 0, 0), pysubs2.Color(0, 0, 0, 90)
    style.bold = bool(rng.random() < 0.2) and plan.font in ("Lato", "Roboto", "Carlito", "PT Sans", "Amiri")
    style.outline, style.shadow = round(float(rng.uniform(1, 2)) * unit, 1), 0
    if plan.cards["style"] == "shadow":
        style.outline, style.shadow = 0.6 * unit, round(float(rng.uniform(1.5, 2.5)) * unit, 1)
    if plan.cards["style"] == "box":
        style.borderstyle, style.outline = 3, 2 * unit
        style.outlinecolor = pysubs2.Color(0, 0, 0, round(255 * (1 - plan.box_opacity)))
    _place(plan, style, float(rng.uniform(0.04, 0.09)))
    return style


def _place(plan: VideoPlan, style: pysubs2.SSAStyle, margin: float) -> None:
    width, height = plan.size
    position = plan.cards["position"]
    alignment = {"bottom": 2, "top": 8, "left": 1}[position]
    style.alignment = pysubs2.Alignment(alignment)
    style.marginl = round(0.06 * width)
    style.marginr = round(0.06 * width) if position == "left" else style.marginl
    raised = TICKER_SHARE if plan.cards["distractor"] == "ticker" and position != "top" else 0.0
    style.marginv = round((margin + raised) * height)


def write_subtitles(subtitles: pysubs2.SSAFile, path: Path) -> None:
    """Write a subtitle file as ASS."""
    path.write_text(subtitles.to_string("ass"), encoding="utf-8")


def check_fonts(log: str, font: str) -> None:
    """Raise InputError when libass says in ffmpeg's log that it took another font than the one asked for.

    libass substitutes in silence otherwise, for a family it lacks as for a letter the family lacks.
    """
    chosen = [line.split("fontselect: (", 1)[1] for line in log.splitlines() if "fontselect: (" in line]
    if not chosen:
        raise InputError(f"libass did not say which font it took for '{font}'; is ffmpeg's log level verbose?")
    wanted = _plain(font)
    for line in chosen:
        asked, taken = line.split(",", 1)[0], line.split("-> ", 1)[1]
        name = taken.rsplit(", ", 1)[-1]  # before it stands the file, where the system has the font too
        if asked != font or not _plain(name).startswith(_POSTSCRIPT.get(font, wanted)):
            raise InputError(f"libass took {taken} for '{font}'. Is the font in the cache's fonts folder?")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


_POSTSCRIPT = {
    "Linux Libertine O": "linlibertine",
    "Baekmuk Dotum": "baekmukdotum",
    "AR PL UKai CN": "ukai",
}
"""Families whose fonts are called otherwise inside."""
