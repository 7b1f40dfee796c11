"""When each caption can be seen, measured from rendered pictures and never taken from nominal times.

Even and odd captions are rendered apart, in white letters on black, with the frames of the video. In each of the two
pictures' sequences captions never touch in time, so its n-th run of frames that show anything is its n-th caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from captions import Event
from ffmpeg import Gray, gray_frames
from numpy.typing import NDArray
from plan import VideoPlan
from subtitles import check_fonts, visibility_layers, write_subtitles

from cb_runtime.geometry import Box

_BLACK, _WHITE = 16, 235
_SEEN = 4
"""Levels above black from which a pixel shows something."""
_FULL = 0.98
"""Opacity from which a caption counts as fully visible."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One caption as it was rendered, in frames of the encoded video."""

    event: Event
    first_frame: int
    """First frame that shows anything of it."""
    opacity: NDArray[np.float64]
    """Of each frame from `first_frame` on; above 0, at most 1."""
    letters: NDArray[np.bool_]
    """`(height, width)`: where its letters are."""
    region: Box
    """Smallest rectangle that holds letters, outline, shadow and box."""

    @property
    def last_frame(self) -> int:
        """Last frame that shows anything of it (inclusive)."""
        return self.first_frame + len(self.opacity) - 1

    @property
    def start_frame(self) -> int:
        """First frame at half opacity or more."""
        return self.first_frame + int(np.flatnonzero(self.opacity >= 0.5)[0])

    @property
    def end_frame(self) -> int:
        """First frame after it below half opacity."""
        return self.first_frame + int(np.flatnonzero(self.opacity >= 0.5)[-1]) + 1

    @property
    def fade_in(self) -> tuple[int, int] | None:
        """`[first partly visible frame, first fully visible frame)`; None for a cut."""
        full = self.first_frame + int(np.flatnonzero(self.opacity >= _FULL)[0])
        return (self.first_frame, full) if full > self.first_frame else None

    @property
    def fade_out(self) -> tuple[int, int] | None:
        """`[first partly visible frame, first invisible frame)`; None for a cut."""
        fading = self.first_frame + int(np.flatnonzero(self.opacity >= _FULL)[-1]) + 1
        return (fading, self.last_frame + 1) if fading <= self.last_frame else None


def measure_captions(
    plan: VideoPlan, events: Sequence[Event], fonts: Path, timing: str, folder: Path
) -> tuple[list[Shown], int]:
    """Render a video's captions alone; return how each came out, in order, and how many frames there are.

    Args:
        plan: The video.
        events: Its captions.
        fonts: Folder of fonts.
        timing: Filter chain that drops or moves frames, as in the video itself.
        folder: Where temporary files go.

    Raises:
        InputError: libass took another font.
        RuntimeError: Another number of captions than planned can be seen.
    """
    shown: dict[int, Shown] = {}
    frames = 0
    for parity, layer in enumerate(visibility_layers(plan, events)):
        path, log = folder / f"layer{parity}.ass", folder / f"layer{parity}.log"
        write_subtitles(layer, path)
        source = f"color=black:s={plan.size[0]}x{plan.size[1]}:r={plan.rate},format=gray,trim=end_frame={plan.frames}"
        drawn = f"ass={path}:fontsdir={fonts},{timing},format=gray"
        pictures = gray_frames(["-f", "lavfi", "-i", source, "-vf", drawn, "-fps_mode", "passthrough"], plan.size, log)
        mine = events[parity::2]
        found, frames = _runs_shown(pictures, mine)
        if len(found) != len(mine):
            raise RuntimeError(f"{plan.stem}: {len(found)} of {len(mine)} captions can be seen in layer {parity}.")
        if mine:
            check_fonts(log.read_text(errors="replace"), plan.font)
        shown.update({2 * place + parity: caption for place, caption in enumerate(found)})
    return [shown[number] for number in sorted(shown)], frames


def _runs_shown(pictures: Iterable[Gray], events: Sequence[Event]) -> tuple[list[Shown], int]:
    """Return what each run of frames with something to see shows, and how many frames there are."""
    found: list[Shown] = []
    run: list[Gray] = []
    frame = 0
    for picture in chain(pictures, [None]):
        if picture is not None and picture.max() > _BLACK + _SEEN:
            run.append(picture)
        elif run:
            found.append(_shown(events[min(len(found), len(events) - 1)], frame - len(run), run))
            run = []
        frame += 1
    return found, frame - 1


def _shown(event: Event, first_frame: int, run: Sequence[Gray]) -> Shown:
    peak = np.max(run, axis=0)
    letters = peak > (_BLACK + _WHITE) / 2
    if not letters.any():
        raise RuntimeError(f"'{event.text}' is never fully visible from frame {first_frame} on.")
    full = float(peak[letters].astype(np.float64).mean()) - _BLACK
    opacity = [(float(picture[letters].astype(np.float64).mean()) - _BLACK) / full for picture in run]
    rows, columns = (np.flatnonzero((peak > _BLACK + _SEEN).any(axis=axis)) for axis in (1, 0))
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return Shown(event, first_frame, np.clip(opacity, 0, 1), letters, box)
