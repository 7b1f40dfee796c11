"""Encoding with PyAV: containers, codecs and qualities, exact presentation times.

Codecs run on one thread, so that the same frames give the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.random import Generator
from numpy.typing import NDArray

from cb_core.synth.timing import Timing

Pixels = NDArray[np.uint8]

_HD_HEIGHT = 720
"""From this height on video is BT.709 by custom, below BT.601."""


@dataclass(frozen=True)
class Encoding:
    """How a video is compressed."""

    codec: str
    """FFmpeg's name of the encoder."""
    suffix: str
    """`.mp4` or `.mkv`."""
    options: Mapping[str, str] = field(default_factory=dict)
    bits_per_pixel: float | None = None
    """Bit rate for encoders without a constant quality; None where `options` says the quality."""

    @property
    def matroska(self) -> bool:
        """True for containers that count milliseconds."""
        return self.suffix == ".mkv"

    def to_dict(self) -> dict[str, Any]:
        """Return what the ground truth tells of the encoding."""
        return {"codec": self.codec, "options": dict(self.options), "bits_per_pixel": self.bits_per_pixel}


@lru_cache(maxsize=1)
def available_codecs() -> tuple[str, ...]:
    """Return those of our encoders that this PyAV has; MPEG-4 Part 2 is in every FFmpeg."""
    return tuple(name for name in ("libx264", "libvpx-vp9", "mpeg4") if _has(name))


def _has(name: str) -> bool:
    try:
        return bool(av.codec.Codec(name, "w").is_encoder)
    except UnknownCodecError:
        return False


def pick_encoding(rng: Generator) -> Encoding:
    """Draw container, codec and quality: mostly H.264, from clean to heavily compressed."""
    odds = {"libx264": 0.74, "libvpx-vp9": 0.13, "mpeg4": 0.13}
    codecs = available_codecs()
    shares = np.array([odds[codec] for codec in codecs])
    codec = str(rng.choice(codecs, p=shares / shares.sum()))
    suffix = str(rng.choice([".mp4", ".mkv"], p=[0.7, 0.3]))
    if codec == "libx264":
        preset = str(rng.choice(["superfast", "veryfast", "faster"], p=[0.3, 0.5, 0.2]))
        return Encoding(codec, suffix, {"crf": str(rng.integers(17, 35)), "preset": preset})
    if codec == "libvpx-vp9":
        return Encoding(
            codec, suffix, {"crf": str(rng.integers(25, 48)), "b": "0", "deadline": "realtime", "cpu-used": "8"}
        )
    return Encoding(codec, suffix, bits_per_pixel=float(rng.uniform(0.06, 0.25)))


def encode_video(
    path: Path, frames: Iterable[Pixels], timing: Timing, size: tuple[int, int], encoding: Encoding
) -> None:
    """Write frames (RGB uint8) as a video; each is shown at its time in `timing`."""
    with av.open(str(path), "w", format="matroska" if encoding.matroska else "mp4") as container:
        stream = container.add_stream(encoding.codec, rate=timing.rate, options=dict(encoding.options))
        assert isinstance(stream, av.VideoStream)
        _configure(stream, timing, size, encoding)
        reformatter = VideoReformatter()  # one for all frames: a converter of its own costs each frame 2 ms
        for index, pixels in enumerate(frames):
            container.mux(stream.encode(_frame(pixels, index, timing, reformatter)))
        container.mux(stream.encode(None))


def _configure(stream: av.VideoStream, timing: Timing, size: tuple[int, int], encoding: Encoding) -> None:
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.time_base = timing.time_base
    context = stream.codec_context
    context.time_base = timing.time_base
    context.thread_count = 1
    context.colorspace = _colorspace(size[1])
    if encoding.bits_per_pixel is not None:
        stream.bit_rate = max(50_000, round(encoding.bits_per_pixel * size[0] * size[1] * float(timing.rate)))


def _colorspace(height: int) -> int:
    return int(Colorspace.ITU709 if height >= _HD_HEIGHT else Colorspace.ITU601)


def _frame(pixels: Pixels, index: int, timing: Timing, reformatter: VideoReformatter) -> av.VideoFrame:
    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    picture = reformatter.reformat(picture, format="yuv420p", dst_colorspace=_colorspace(pixels.shape[0]))
    picture.pts = timing.pts_at(index)
    picture.time_base = timing.time_base
    picture.duration = timing.pts_at(index + 1) - timing.pts_at(index)
    return picture


def check_times(path: Path, timing: Timing) -> Fraction:
    """Read a file's time stamps back, compare them with `timing`, and return the file's time base.

    Raises RuntimeError when the file shows other frames or other times: a bug of ours or of the muxer.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        base = stream.time_base
    wanted = [timing.pts_at(frame) * timing.time_base for frame in range(timing.frames)]
    if base is None or [(pts - found[0]) * base for pts in found] != wanted:
        raise RuntimeError(
            f"{path} was written with other frame times than planned ({len(found)} of {len(wanted)} frames)."
        )
    return base
