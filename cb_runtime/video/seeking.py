"""Reaching frames at given times without decoding what they do not need.

Decoding begins at the key frame before a wanted frame. From there on, what no other frame is predicted from, as most
B-frames are, is left out by the decoder, where its format says so (H.264, MPEG-2 and MPEG-4 do): the frames given are
the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from cb_runtime.video.decoding import packets_of, read_frames
from cb_runtime.video.types import DecodeReport

_SEEK_SECONDS = 5
"""Where no index tells where key frames are, frames further apart than this are reached by seeking, nearer ones by
decoding on: they often share a key frame."""

_EARLY_SECONDS = Fraction(1, 2)
"""Seeking goes by the order of decoding: frames shown just before a key frame may come after it there, and some
containers give packets the times of that order. So it aims at a moment before what is wanted."""

_LONGER = 4
"""How many times as far back the next try goes where seeking arrived too late."""

_INDEXED = 2
"""Key frames from which on a container has an index; Matroska's is read at the first seek."""


def nearest_frames(
    container: InputContainer, stream: VideoStream, targets: Sequence[int], start: int, report: DecodeReport
) -> Iterator[av.VideoFrame]:
    """Give for each target the first frame that is not before it, or the last one there is; none twice.

    Args:
        container: Just opened.
        stream: Its video.
        targets: PTS, ascending.
        start: PTS of the first frame.
        report: Told of problems.
    """
    return _Seeker(container, stream, start, report).nearest(targets)


class _Seeker:
    def __init__(self, container: InputContainer, stream: VideoStream, start: int, report: DecodeReport) -> None:
        assert stream.time_base is not None
        self._container, self._stream, self._report = container, stream, report
        self._early, self._far = (round(seconds / stream.time_base) for seconds in (_EARLY_SECONDS, _SEEK_SECONDS))
        self._start, self._aim = start, start
        # What may be left out is told packet by packet, which the decoder of AV1 reads only when it is opened: it must
        # be open before, or what it may leave out of the way to the first frame is left out to the end.
        stream.codec_context.open(strict=False)

    def nearest(self, targets: Sequence[int]) -> Iterator[av.VideoFrame]:
        position, given = self._start, self._start - 1
        decoded = self._decoded()
        for target in targets:
            if given >= target:
                continue
            self._aim = target - self._early
            if self._pays(position):
                decoded = self._sought(target, decoded)
            chosen = None
            for chosen in decoded:
                position = chosen.pts or 0
                if position >= target:
                    break
            if chosen is not None and position > given:
                given = position
                yield chosen

    def _sought(self, target: int, going_on: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Return what is decoded from a key frame at or before a target on; what goes on where seeking cannot be had.

        Containers without an index, as MPEG-TS, go to any packet of the time asked for, and decoding begins at the next
        key frame. Where that is too late, the way back becomes longer, until it leads well before the first packet.
        """
        back = self._early
        while seek(self._container, self._stream, target - back):
            going_on = self._decoded()
            first = next(going_on, None)
            if first is not None:
                going_on = chain((first,), going_on)
            if (first is not None and (first.pts or 0) <= target) or target - back < self._start - self._far:
                break
            back *= _LONGER
        return going_on

    def _decoded(self) -> Iterator[av.VideoFrame]:
        return read_frames(self._container, self._stream, self._report, self._packets())

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """Give packets, having told the decoder whether frames that no other needs may be left out."""
        for packet in packets_of(self._container, self._stream):
            passed = packet is not None and packet.pts is not None and packet.pts < self._aim
            self._stream.codec_context.skip_frame = "NONREF" if passed else "DEFAULT"
            yield packet

    def _pays(self, position: int) -> bool:
        """Tell whether seeking jumps over frames: the key frame to go to is behind the position."""
        entries = self._stream.index_entries
        if len(entries) < _INDEXED:
            return self._aim + self._early - position > self._far
        key = entries.search_timestamp(self._aim)
        return key >= 0 and entries[key].timestamp > position


def seek(container: InputContainer, stream: VideoStream, pts: int) -> bool:
    """Go to the key frame at or before `pts`; False when this container cannot, then decoding just goes on."""
    try:
        container.seek(pts, stream=stream)
    except FFmpegError:
        return False
    return True
