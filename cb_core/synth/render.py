"""Drawing a planned video's frames, and publishing video, subtitles and ground truth together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_core.synth.backgrounds import Background, plan_stretches
from cb_core.synth.encode import check_times, encode_video
from cb_core.synth.media import find_backgrounds
from cb_core.synth.plan import VideoPlan, generator_for, settings_digest
from cb_core.synth.script import PACES, CaptionEvent
from cb_core.synth.shots import shot_maker
from cb_core.synth.truth import TRUTH_SUFFIX, RenderedCaption, srt_text, truth_document
from cb_core.synth.typeset import Sprite, Typesetter, blend
from cb_runtime.files import atomic_path
from cb_runtime.geometry import Box

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class VideoFiles:
    """The three files of one rendered video."""

    video: Path
    subtitles: Path
    truth: Path


def files_of(folder: Path, stem: str, video_suffix: str) -> VideoFiles:
    """Return where the files of a video belong."""
    return VideoFiles(folder / f"{stem}{video_suffix}", folder / f"{stem}.srt", folder / f"{stem}{TRUTH_SUFFIX}")


class CaptionPainter:
    """Draws captions into frames; remembers where each was drawn."""

    def __init__(self, plan: VideoPlan) -> None:
        self._style = plan.style
        self._events = plan.events
        self._setter = Typesetter(plan.style, *plan.size)
        self._sprites: dict[int, tuple[Sprite, Sprite | None]] = {}
        self._next = 0
        self.regions: list[Box] = []
        """Where each caption drawn so far stands, in the order of the events."""

    def draw(self, frame: Pixels, index: int) -> None:
        """Draw the captions of frame `index` (RGB uint8, changed in place); call with 0, 1, 2 and so on."""
        while self._next < len(self._events) and self._events[self._next].first_frame <= index:
            self._begin(self._next)
            self._next += 1
        for number in list(self._sprites):
            event = self._events[number]
            if event.last_frame < index:
                del self._sprites[number]
                continue
            blend(frame, self._sprite(number, event, index), event.opacity(index))

    def _begin(self, number: int) -> None:
        event = self._events[number]
        plain = self._setter.sprite(event.lines, self._style.colours[event.colour])
        sung = self._setter.sprite(event.lines, self._style.karaoke) if self._style.karaoke else None
        self._sprites[number] = (plain, sung)
        self.regions.append(plain.box)

    def _sprite(self, number: int, event: CaptionEvent, index: int) -> Sprite:
        plain, sung = self._sprites[number]
        if sung is None:
            return plain
        share = (index - event.first_frame) / max(1, event.last_frame - event.first_frame)
        return self._partly_sung(plain, sung, event.lines, share)

    def _partly_sung(self, plain: Sprite, sung: Sprite, lines: tuple[str, ...], share: float) -> Sprite:
        colour = plain.colour.copy()
        boxes = self._setter.karaoke_boxes(lines)
        left_over = share * sum(box.width for box in boxes)
        for box in boxes:
            done = round(min(max(left_over, 0), box.width))
            left_over -= box.width
            start = box.right - done if self._style.language.right_to_left else box.left
            rows = slice(max(0, box.top - plain.box.top), max(0, box.bottom - plain.box.top))
            columns = slice(max(0, start - plain.box.left), max(0, start + done - plain.box.left))
            colour[rows, columns] = sung.colour[rows, columns]
        return Sprite(plain.box, colour, plain.clear)


def draw_frames(plan: VideoPlan, painter: CaptionPainter) -> Iterator[Pixels]:
    """Give the frames of a planned video in order, RGB uint8 `(height, width, 3)`."""
    rng = generator_for(plan.options, plan.index, "background")
    pace = PACES[plan.options.pace]
    maker = shot_maker(plan.rendered_size, find_backgrounds(plan.options.backgrounds), pace.moving)
    stretches = plan_stretches(rng, plan.timing, [event.start_frame for event in plan.events], pace.cuts)
    background = Background(rng, plan.timing, plan.rendered_size, maker, stretches)
    canvas = np.zeros((plan.size[1], plan.size[0], 3), np.uint8)
    rendered = canvas[slice(*plan.rows)]
    for index in range(plan.timing.frames):
        rendered[:] = background.frame(index)
        for distractor in plan.distractors:
            distractor.draw(canvas, index)
        painter.draw(canvas, index)
        yield rendered.copy()


def render_video(plan: VideoPlan, folder: Path, frame_done: Callable[[int], None] = lambda done: None) -> VideoFiles:
    """Render one video with its subtitles and ground truth; all three appear when all are whole.

    `frame_done` is called with the number of frames drawn. The video is published last: a ground truth without its
    video is the trace of an interrupted run, to be rendered again.
    """
    files = files_of(folder, plan.stem, plan.encoding.suffix)
    _remove_traces(folder, plan.stem)
    painter = CaptionPainter(plan)
    with ExitStack() as stack:
        video, subtitles, truth = (
            stack.enter_context(atomic_path(path)) for path in (files.video, files.subtitles, files.truth)
        )
        frames = _counted(draw_frames(plan, painter), frame_done)
        encode_video(video, frames, plan.timing, plan.rendered_size, plan.encoding)
        document = _document(plan, painter, video, files.video.name)
        truth.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
        time_base = Fraction(*document["time_base"])
        subtitles.write_text(srt_text(document["captions"], time_base), encoding="utf-8")
    return files


def _counted(frames: Iterator[Pixels], frame_done: Callable[[int], None]) -> Iterator[Pixels]:
    for number, frame in enumerate(frames):
        yield frame
        frame_done(number + 1)


def _document(plan: VideoPlan, painter: CaptionPainter, encoded: Path, name: str) -> dict[str, Any]:
    settings = plan.options.settings(plan.index)
    return truth_document(
        video=name,
        size=plan.rendered_size,
        time_base=check_times(encoded, plan.timing),
        timing=plan.timing,
        captions=[
            RenderedCaption(event, raised(box, plan.rows[0]))
            for event, box in zip(plan.events, painter.regions, strict=True)
        ],
        settings=settings,
        settings_digest=settings_digest(settings),
        details=plan.details(),
    )


def raised(box: Box, rows: int) -> Box:
    """Return a box of the frame in coordinates of a picture that begins this many rows further down."""
    return Box(box.left, box.top - rows, box.right, box.bottom - rows)


def _remove_traces(folder: Path, stem: str) -> None:
    # Temporary files of a run that was killed while it wrote this video.
    for trace in folder.glob(f".{stem}.*"):
        trace.unlink(missing_ok=True)
