"""Decoding that goes on after damage: packets to frames, counting what was lost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from cb_runtime.video.types import DecodeReport

GIVE_UP_AFTER = 32
"""Failures in a row after which the rest of a video is given up."""

PATIENCE_AT_FIRST = 1500
"""The same before anything could be decoded: a recording that begins between two key frames may have a minute of
packets that nothing can be made of."""

_WITHOUT_PTS = ("avi",)
"""Containers that tell in which order packets are decoded, but not when frames are shown."""

_UNTIMED_LIMIT = 100
"""Frames without any time stamp after which a video counts as untimed, rather than being decoded to its end."""

_JUMP_SECONDS = 1
"""Time stamps that fall back by less are out of order; by more, the clock was set anew."""

_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
"""Matroska's tag for the end of one stream, counted from 0: HH:MM:SS.nnnnnnnnn."""

_INEXACT_FRAMES = 5
"""Frames by which a stated length may be wrong in a sound file: B-frame delay and edit lists leave it inexact."""


def read_frames(
    container: InputContainer,
    stream: VideoStream,
    report: DecodeReport,
    packets: Iterable[Packet[VideoStream] | None] | None = None,
) -> Iterator[av.VideoFrame]:
    """Decode a video, or some of its packets, to the end: give the frames whose time advances.

    Others, and what cannot be decoded, are skipped and counted.
    """
    decoded = decoded_frames(packets_of(container, stream) if packets is None else packets, stream, report)
    return timed_frames(decoded if tells_times(container) else in_turn(decoded), report)


def tells_times(container: InputContainer) -> bool:
    """Tell whether a container says when each frame is shown; else only their order is known."""
    return container.format.name not in _WITHOUT_PTS


def decoded_frames(
    packets: Iterable[Packet[VideoStream] | None], stream: VideoStream, report: DecodeReport
) -> Iterator[av.VideoFrame]:
    """Decode to the end, skipping and counting what fails; sets `report.truncated` after too many failures in a row."""
    in_a_row, patience = 0, PATIENCE_AT_FIRST
    for packet in packets:
        frames = _frames_of(packet, report)
        yield from frames or ()
        in_a_row = 0 if frames else in_a_row + (frames is None)
        patience = GIVE_UP_AFTER if frames else patience
        if in_a_row >= patience:
            report.truncated = True
            report.messages.append(f"Gave up after {in_a_row} damaged packets in a row; the frames before are kept.")
            yield from _pending(stream)
            return


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream] | None]:
    """Give packets to the end; None for one that could not be read."""
    while True:
        try:
            yield from container.demux(stream)
            return
        except FFmpegError:
            yield None


def _frames_of(packet: Packet[VideoStream] | None, report: DecodeReport) -> list[av.VideoFrame] | None:
    """Decode one packet; None when it is damaged. Damaged frames that the decoder repaired are given, and counted."""
    # A packet that the demuxer found cut short is not decoded: with frame threads its error would swallow, at the end
    # of the file, the good frames still waiting in the decoder.
    frames = None
    if packet is not None and not packet.is_corrupt:
        try:
            frames = packet.decode()
        except FFmpegError:
            frames = None
    report.errors += 1 if frames is None else sum(frame.is_corrupt for frame in frames)
    return frames


def _pending(stream: VideoStream) -> list[av.VideoFrame]:
    try:
        return stream.codec_context.decode(None)
    except FFmpegError:
        return []


def in_turn(decoded: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Give each frame the time of the packet at which it came out, as frames come out in the order they are shown.

    Those that come out after the last packet follow at the pace of the ones before.
    """
    last, step = None, 0
    for frame in decoded:
        time = frame.dts
        if time is None and last is not None:
            time = last + step
        elif time is not None:
            step = step if last is None else time - last
        frame.pts = last = time
        yield frame


def timed_frames(decoded: Iterable[av.VideoFrame], report: DecodeReport) -> Iterator[av.VideoFrame]:
    """Give the frames whose time stamp advances; count the others as skipped."""
    last, told = None, False
    for frame in decoded:
        if frame.pts is None or (last is not None and frame.pts <= last):
            report.skipped_without_pts += 1
            if not told and (jump := _jump_back(last, frame)):
                report.messages.append(jump)
                told = True
            if last is None and report.skipped_without_pts >= _UNTIMED_LIMIT:
                return
            continue
        last = frame.pts
        yield frame


def _jump_back(last: int | None, frame: av.VideoFrame) -> str | None:
    """Say so when a file's clock begins anew."""
    if last is None or frame.pts is None or frame.time_base is None:
        return None
    before, now = float(last * frame.time_base), float(frame.pts * frame.time_base)
    if before - now < _JUMP_SECONDS:
        return None
    return (
        f"The file's clock jumps back from {before:.2f} s to {now:.2f} s, as where recordings were joined: frames are "
        "left out until it has caught up. Give the file one clock first: ffmpeg -i FILE -c copy joined.mkv"
    )


def stated_end(container: InputContainer, stream: VideoStream) -> int | None:
    """Return the PTS at which the container says that the video ends; None when it does not say."""
    assert stream.time_base is not None
    if stream.duration is not None:
        return (stream.start_time or 0) + stream.duration
    for key, value in stream.metadata.items():
        if key.upper().startswith("DURATION") and (clock := _CLOCK.fullmatch(value)):
            hours, minutes, seconds = map(Fraction, clock.groups())
            return int((hours * 3600 + minutes * 60 + seconds) / stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return int(Fraction((container.start_time or 0) + container.duration, av.time_base) / stream.time_base)
    return None


class StreamEnd:
    """Compares where the video ended with where its container says it ends."""

    def __init__(self, stated: int | None, time_base: Fraction, rate: Fraction | None) -> None:
        self._stated = stated
        self._time_base = time_base
        self._inexact = _INEXACT_FRAMES / (rate or Fraction(25)) / time_base
        self._reached = 0

    def reached(self, pts: int) -> None:
        """Note how far the video has come."""
        self._reached = pts

    def check(self, report: DecodeReport) -> None:
        """Set `report.truncated` when more is missing than stated lengths are usually wrong by."""
        if report.truncated or self._stated is None or self._stated - self._reached <= self._inexact:
            return
        report.truncated = True
        missing = float((self._stated - self._reached) * self._time_base)
        report.messages.append(f"The last {missing:.2f} s could not be read: the file is cut off or damaged there.")
