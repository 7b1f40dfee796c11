"""What every frame source gives: frames with their presentation time, and what is known of the video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cb_runtime.geometry import Box

Image = NDArray[np.uint8]
"""Picture, uint8 `(height, width, 3)`, RGB."""


@dataclass(frozen=True)
class Decoder:
    """What decodes a video's frames."""

    name: str = "cpu"
    """`cpu`, or `nvdec` for the video engine of an NVIDIA GPU."""
    reason: str = "as asked"
    """Why this one."""


@dataclass(frozen=True)
class VideoInfo:
    """What a source knows before its frames are read."""

    path: Path
    width: int
    """Width of the displayed frame in pixels, after rotation."""
    height: int
    """Height of the displayed frame in pixels, after rotation."""
    time_base: Fraction
    """Unit of `pts` in seconds."""
    average_rate: Fraction | None
    """Frames per second as the container states it; for display and estimates, never for time."""
    frame_count: int | None
    """Frames in the video; None when the container does not say. An estimate when `frame_count_exact` is false."""
    duration_seconds: float | None
    """Length in seconds; None when the container does not say."""
    frame_count_exact: bool = False
    decoder: Decoder = Decoder()


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    index: int
    """Place in presentation order among the frames that could be decoded, from 0."""
    pts: int
    """Presentation time stamp in units of the source's time base, relative to the stream's start time."""
    duration: int
    """How long the frame is shown, in units of the time base; 0 when unknown."""
    image: Image
    """The frame, or the requested region of it."""


@dataclass
class DecodeReport:
    """What went wrong while frames were read; filled as they are."""

    frames: int = 0
    """Frames given out."""
    errors: int = 0
    """Packets that could not be decoded."""
    skipped_without_pts: int = 0
    """Frames without a presentation time stamp, left out."""
    truncated: bool = False
    """True when decoding was given up before the end of the file."""
    messages: list[str] = field(default_factory=list)
    """One line per kind of problem, for the user."""

    @property
    def partial(self) -> bool:
        """True when the frames given out are not the whole video."""
        return self.errors > 0 or self.truncated or self.skipped_without_pts > 0


class FrameSource(Protocol):
    """A video that can be read frame by frame, as often as wanted."""

    @property
    def info(self) -> VideoInfo:
        """What is known of the video."""
        ...

    @property
    def report(self) -> DecodeReport:
        """Problems met by the latest `frames()` or `sample()` iteration."""
        ...

    def frames(self, region: Box | None = None) -> Iterator[Frame]:
        """Give all frames in presentation order, cropped to `region` before colour conversion when given."""
        ...

    def again(self, times: Sequence[int], region: Box | None = None) -> Iterator[Frame]:
        """Give those frames once more whose PTS are in `times`, ascending; cropped as in `frames`.

        Their `index` is -1. What cannot be read again is left out; `report` stays as it is.
        """
        ...

    def sample(self, count: int) -> Iterator[Frame]:
        """Give about `count` whole frames spread evenly over the video, in presentation order."""
        ...

    def close(self) -> None:
        """Release the file. A closed source gives no more frames."""
        ...
