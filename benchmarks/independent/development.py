"""Render a development set like the independent one, over footage and fonts that training may have seen.

    python benchmarks/independent/development.py OUT --footage DIR --photos DIR --logos DIR --fonts DIR --seed 77

What is chosen on it (decoding, rules of the layout) can then be judged on the independent set, which stays untouched.
The folder of fonts needs the families of `FAMILIES`: Debian's `fonts-noto-core`, `fonts-noto-cjk`, `fonts-dejavu-core`,
`fonts-liberation2` and `fonts-freefont-ttf`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
from plan import VideoPlan, plan_videos
from render import is_done, render_video
from sources import Clip, Library
from texts import SCRIPTS

from cb_core.data import find_videos
from cb_core.synth.media import PICTURE_SUFFIXES
from cb_runtime.errors import InputError

FAMILIES = {
    "latin": ("FreeSans", "Noto Sans", "DejaVu Sans", "Liberation Serif"),
    "cyrillic": ("Noto Serif", "FreeSerif"),
    "greek": ("Noto Sans", "FreeSans"),
    "chinese": ("Noto Sans CJK SC",),
    "japanese": ("Noto Sans CJK JP", "Noto Serif CJK JP"),
    "korean": ("Noto Sans CJK KR",),
    "arabic": ("Noto Naskh Arabic", "Noto Kufi Arabic"),
    "devanagari": ("Noto Sans Devanagari",),
    "thai": ("Noto Sans Thai", "Noto Serif Thai"),
}
_WIDTHS = {"arabic": 0.5, "devanagari": 0.55, "thai": 0.6}
"""Mean advance of a letter in font sizes where these families are wider than those of the independent set."""

SHORTEST = 60
"""Clips of fewer frames are left out."""


def use_training_fonts() -> None:
    """Write captions in `FAMILIES` from here on."""
    for name, families in FAMILIES.items():
        SCRIPTS[name] = replace(SCRIPTS[name], fonts=families, width=_WIDTHS.get(name, SCRIPTS[name].width))


def library_of(footage: Path, photos: Path, logos: Path, fonts: Path) -> Library:
    """Return what folders hold. Raises InputError when one holds nothing of its kind."""
    clips = tuple(clip for path in find_videos(footage) if (clip := _clip(path)).frames >= SHORTEST)
    library = Library(clips, _pictures(photos), _pictures(logos), fonts)
    for folder, found in ((footage, library.clips), (photos, library.photos), (logos, library.logos)):
        if not found:
            raise InputError(
                f"There is nothing to use in {folder}. Give clips of {SHORTEST} frames or more, or pictures."
            )
    return library


def _clip(path: Path) -> Clip:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(packet.size > 0 for packet in container.demux(stream))
        if stream.average_rate is None:
            raise InputError(f"{path} does not tell its frame rate. Convert it, e.g. to MP4.")
        return Clip(path.stem, path, stream.average_rate, frames)


def _pictures(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES))


def render_missing(plans: Sequence[VideoPlan], library: Library, folder: Path) -> None:
    """Render the videos that are not there yet, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, plan in enumerate(plans, 1):
        if not is_done(plan, folder):
            render_video(plan, library, folder)
        print(f"{number} of {len(plans)}: {plan.stem}", file=sys.stderr, flush=True)


def main() -> None:
    """Parse arguments and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where videos go")
    for name in ("footage", "photos", "logos", "fonts"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"folder of {name}")
    parser.add_argument("--videos", type=int, default=20, help="how many")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each")
    parser.add_argument("--seed", type=int, default=77, help="the same seed gives the same set")
    given = parser.parse_args()
    use_training_fonts()
    library = library_of(given.footage, given.photos, given.logos, given.fonts.resolve())
    render_missing(plan_videos(given.videos, given.seconds, given.seed), library, given.folder)


if __name__ == "__main__":
    main()
