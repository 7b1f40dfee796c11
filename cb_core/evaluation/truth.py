"""The truth about one video: its captions on frames, what is known of each frame, and the slices it belongs to.

It comes from a ground truth (`.truth.json`), which also tells fades, places and how the video was made, or from a
subtitle file as users have it, whose times are laid over the video's frames as datasets do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_core.data.caption_files import find_captions
from cb_core.data.captions import read_captions
from cb_core.data.timeline import EMPTY, UNKNOWN, Timeline, annotate
from cb_core.evaluation.boundaries import Boundary
from cb_core.evaluation.slices import boundary_kinds, video_slices
from cb_core.synth.truth import TRUTH_SUFFIX, read_truth
from cb_runtime.errors import InputError
from cb_runtime.geometry import Box
from cb_runtime.video import open_source

SAME_TIME = Fraction(1, 500)
"""Seconds by which a frame's time may differ between truth and video: containers round to their own time base."""


@dataclass(frozen=True)
class TrueCaption:
    """One caption as it is, on frames `[start_frame, end_frame)`."""

    start_frame: int
    """First frame that shows it (at half opacity or more in a fade)."""
    end_frame: int
    text: str | None
    """None when not transcribed."""
    fade_in: tuple[int, int] | None = None
    """Frames `[first partly visible, first fully visible)`; None for a cut."""
    fade_out: tuple[int, int] | None = None
    """Frames `[first partly visible, first invisible)`; None for a cut."""
    region: Box | None = None
    """What it covers of the frame; None when unknown."""
    start_kinds: tuple[str, ...] | None = None
    """What makes its start hard, as its file says; None to derive it."""
    end_kinds: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class VideoTruth:
    """What is true of one video."""

    path: Path
    """The file that says so."""
    timeline: Timeline
    """When its n frames are shown."""
    captions: tuple[TrueCaption, ...]
    """In time order, without overlaps."""
    states: NDArray[np.int64]
    """int64 `(n,)`: index of the caption a frame shows, `EMPTY` or `UNKNOWN`."""
    slices: dict[str, str]
    """Name of a property of the video to its value, e.g. `script` to `han`."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.timeline.pts)

    @property
    def region(self) -> Box | None:
        """Smallest rectangle that holds all captions; None when their places are unknown or there are none."""
        boxes = [caption.region.as_tuple() for caption in self.captions if caption.region]
        if not boxes or len(boxes) < len(self.captions):
            return None
        left, top, right, bottom = zip(*boxes, strict=True)
        return Box(min(left), min(top), max(right), max(bottom))

    def known(self, frame: int) -> bool:
        """Tell whether the frame and the one before are annotated, so that a boundary between them can be judged."""
        return bool(0 < frame < self.frames and UNKNOWN not in self.states[frame - 1 : frame + 1])

    def seconds_at(self, frame: int) -> float:
        """Return when a frame is shown; the end of the video for the index after the last."""
        return float(self.timeline.pts_at(frame) * self.timeline.time_base)

    def boundaries(self) -> list[Boundary]:
        """Return the frames at which the caption changes; those that nobody annotated are left out."""
        found: dict[int, Boundary] = {}
        for _, boundary in self.edges():
            other = found.get(boundary.frame)
            if other is not None:
                kinds = tuple(dict.fromkeys((*other.kinds, *boundary.kinds)))
                kinds = tuple(kind for kind in kinds if kind != "normal") if len(kinds) > 2 else kinds
                first, last = min(other.first, boundary.first), max(other.last, boundary.last)
                boundary = Boundary(boundary.frame, first, last, kinds)
            found[boundary.frame] = boundary
        return sorted(boundary for boundary in found.values() if self.known(boundary.frame))

    def edges(self) -> list[tuple[bool, Boundary]]:
        """Return whether it is a start, and the boundary, of both ends of each caption; two for each, in order."""
        found = []
        for index, caption in enumerate(self.captions):
            for start in (True, False):
                frame = caption.start_frame if start else caption.end_frame
                fade = caption.fade_in if start else caption.fade_out
                first, last = fade or (frame, frame)
                kinds = (*boundary_kinds(self, index, start=start), "fade" if fade else "cut")
                found.append((start, Boundary(frame, first, last, kinds)))
        return found


def find_truth(video: Path) -> Path | None:
    """Return the file beside a video that tells its captions; None when there is none.

    Raises InputError when there are results of an inference only.
    """
    return find_captions(video)


def read_video_truth(path: Path, video: Path) -> VideoTruth:
    """Read the truth about a video.

    Raises InputError when it is damaged, belongs to another video, or has captions that cannot be true.
    """
    if path.name.endswith(TRUTH_SUFFIX):
        return _from_ground_truth(path)
    return _from_captions(path, video)


def check_timeline(truth: VideoTruth, pts: Sequence[int], time_base: Fraction) -> None:
    """Raise InputError when a video's frames are not those of its truth."""
    if len(pts) != truth.frames:
        raise InputError(
            f"{truth.path} is about {truth.frames} frames, {len(pts)} could be read of the video. Is it another file, "
            "or damaged?"
        )
    for frame, (found, wanted) in enumerate(zip(pts, truth.timeline.pts.tolist(), strict=True)):
        if abs(found * time_base - wanted * truth.timeline.time_base) > SAME_TIME:
            raise InputError(
                f"{truth.path} says that frame {frame} is shown at {truth.seconds_at(frame):.4f} s, the video shows it "
                f"at {float(found * time_base):.4f} s. It belongs to another video, or the video was encoded again."
            )


def check_frames(truth: VideoTruth, video: Path) -> None:
    """Raise InputError when a video, decoded for this, does not have the frames that its ground truth tells.

    A truth from a subtitle file has the video's own frames: nothing is decoded for it.
    """
    if truth.path.name.endswith(TRUTH_SUFFIX):
        timeline = _timeline_of(video)
        check_timeline(truth, timeline.pts.tolist(), timeline.time_base)


def _from_ground_truth(path: Path) -> VideoTruth:
    document = read_truth(path)
    try:
        timeline = Timeline(np.array(document["pts"], np.int64), document["end_pts"], Fraction(*document["time_base"]))
        captions = tuple(_caption(values) for values in document["captions"])
        slices = video_slices(document)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path} is not a ground truth written by cb synth: {error!r}.") from error
    states = np.full(len(timeline.pts), EMPTY, np.int64)
    for index, caption in enumerate(captions):
        states[caption.start_frame : caption.end_frame] = index
    return VideoTruth(path, timeline, captions, states, slices)


def _caption(values: dict[str, Any]) -> TrueCaption:
    fade_in, fade_out = (tuple(values[key]) if values[key] else None for key in ("fade_in", "fade_out"))
    kinds = [values.get(key, values.get("kind")) for key in ("start_kind", "end_kind")]
    start_kinds, end_kinds = (tuple(names) if names is not None else None for names in kinds)
    region = Box(*values["region"])
    span = (values["start_frame"], values["end_frame"])
    return TrueCaption(*span, values["text"], fade_in, fade_out, region, start_kinds, end_kinds)


def _from_captions(path: Path, video: Path) -> VideoTruth:
    timeline = _timeline_of(video)
    annotation = annotate(timeline, read_captions(path))
    places = [place for place, caption in enumerate(annotation.captions) if caption.text != ""]
    kept = [annotation.captions[place] for place in places]
    captions = tuple(TrueCaption(caption.start_frame, caption.end_frame, caption.text) for caption in kept)
    states = annotation.states.copy()
    for index, place in enumerate(places):
        states[annotation.states == place] = index
    return VideoTruth(path, timeline, captions, states, {})


def _timeline_of(video: Path) -> Timeline:
    with closing(open_source(video)) as source:
        corner = Box(0, 0, min(16, source.info.width), min(16, source.info.height))  # only times are wanted
        frames = [(frame.pts, frame.duration) for frame in source.frames(corner)]
        if not frames:
            raise InputError(f"No frame of {video} could be decoded. Replace the file, or take it away.")
        pts = np.array([pts for pts, _ in frames], np.int64)
        last = frames[-1][1] or (int(pts[-1] - pts[-2]) if len(pts) > 1 else 1)
        return Timeline(pts, int(pts[-1]) + last, source.info.time_base, source.report.truncated)
