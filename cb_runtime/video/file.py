"""A video file as a frame source, decoded by FFmpeg through PyAV: on the CPU, or on a GPU by NVDEC.

What is done with the less usual kinds of video:

- Time: PTS relative to the start of the video stream, so edit lists and B-frame delays shift nothing; the container's
  own time base is kept. AVI has no PTS: frames are shown in turn, from time 0. Frames whose time stamp is missing or
  does not advance are left out and counted.
- Rotation: quarter turns and flips of the display matrix are applied; `info` and regions are of the displayed frame.
- Sample aspect ratio: not applied. A region counts stored pixels, whatever shape they are shown in.
- Colour: matrix and range of the stream are honoured (BT.601 limited where it says nothing, as FFmpeg assumes). 10-bit
  video is brought to 8 bits; HDR (PQ, HLG) is not tone-mapped, so it looks flat, in training and inference alike.
- Interlaced: not deinterlaced. One decoded frame is one frame, both fields woven.
- A frame of another size than the first is scaled to the first's.
- Damage: packets that cannot be decoded are skipped and counted; after 32 in a row the rest is given up. A video that
  ends well before the length its container states is reported as truncated. What could be decoded is always given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from cb_runtime.cores import default_decode_threads
from cb_runtime.errors import CbError, InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.video.decoding import StreamEnd, read_frames, stated_end, tells_times
from cb_runtime.video.nvdec import cannot_decode, require_nvdec
from cb_runtime.video.opening import check_stream, opened_stream
from cb_runtime.video.pixels import RegionReader, orientation_of
from cb_runtime.video.seeking import nearest_frames
from cb_runtime.video.types import Decoder, DecodeReport, Frame, VideoInfo

_LOST_SECONDS = 0.2
"""Less is a matter of B-frames."""


class VideoFile:
    """Frames of one video file.

    Args:
        path: The file.
        decode_threads: Threads of the CPU's decoder; None chooses by the number of cores. Frames are the same.
        gpu: The GPU whose NVDEC decodes, as in `cuda:N`; None: the CPU does.
        reason: Why the one or the other, for `info`.

    Raises InputError when the file is not a video that can be decoded, UsageError for less than one thread or threads
    with a GPU, and NvdecError when its NVDEC cannot be had, or does not decode this video.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        decode_threads: int | None = None,
        gpu: int | None = None,
        reason: str = Decoder.reason,
    ) -> None:
        if decode_threads is not None and decode_threads < 1:
            raise UsageError(f"--decode-threads must be 1 or more, got {decode_threads}.")
        if decode_threads is not None and gpu is not None:
            raise UsageError("--decode-threads is for decoding on the CPU. Leave it out, or use --decoder cpu.")
        self._path, self._gpu = Path(path), gpu
        self._threads = decode_threads or default_decode_threads()
        self._decoder = Decoder(
            "cpu" if gpu is None else "nvdec", reason if gpu is None else f"{reason}, on cuda:{gpu}"
        )
        if gpu is not None:
            require_nvdec(gpu)
            check_stream(self._path)
        self._closed = False
        self._report = DecodeReport()
        with self._opened() as (container, stream):
            first = next(read_frames(container, stream, self._report), None)
            if first is None:
                raise self._nothing_decoded()
            assert first.pts is not None
            assert stream.time_base is not None
            begins = first.pts if stream.start_time is None else stream.start_time
            self._start = begins if tells_times(container) else first.pts
            self._end = stated_end(container, stream)
            self._orientation = orientation_of(first)
            width, height = self._orientation.size(first.width, first.height)
            self._info = self._info_of(stream, stream.time_base, width, height)
            lost = float((first.pts - self._start) * stream.time_base)
            self._remarks = [*_lateness(container, stream, begins), *_lost_beginning(lost)]

    @property
    def info(self) -> VideoInfo:
        """What the container and the first frame say of the video."""
        return self._info

    @property
    def report(self) -> DecodeReport:
        """Problems met by the latest `frames()` or `sample()` iteration."""
        return self._report

    def frames(self, region: Box | None = None) -> Iterator[Frame]:
        """Give all frames in presentation order, cropped to `region` before colour conversion when given.

        Raises:
            InputError: `region` does not lie inside the frame.
            ValueError: The source is closed.
        """
        self._check_open()
        self._check_region(region)
        self._report = DecodeReport()
        return self._all_frames(region, self._report)

    def again(self, times: Sequence[int], region: Box | None = None) -> Iterator[Frame]:
        """Give those frames once more whose PTS are in `times`, ascending, reached by seeking; cropped as in `frames`.

        Their `index` is -1. What cannot be read again is left out; `report` stays as it is. Raises what `frames` does.
        """
        self._check_open()
        self._check_region(region)
        wanted = {self._start + time for time in times}
        found = self._sought_frames(sorted(wanted), region, DecodeReport())
        return (frame for frame in found if self._start + frame.pts in wanted)

    def sample(self, count: int) -> Iterator[Frame]:
        """Give about `count` whole frames spread evenly over the video, in presentation order.

        Their `index` is -1: frames that were jumped over are not counted. Raises ValueError when the source is closed.
        """
        self._check_open()
        self._report = DecodeReport()
        return self._sampled_frames(count, self._report)

    def close(self) -> None:
        """Stop iterations that still run; a closed source gives no more frames."""
        self._closed = True

    def _all_frames(self, region: Box | None, report: DecodeReport) -> Iterator[Frame]:
        reader = RegionReader(self._info.width, self._info.height, self._orientation, region)
        end = self._stream_end()
        report.messages += self._remarks
        try:
            with self._opened() as (container, stream):
                for decoded in read_frames(container, stream, report):
                    if self._closed:
                        return
                    end.reached((decoded.pts or 0) + (decoded.duration or 0))
                    yield self._frame(decoded, report, reader, report.frames)
            end.check(report)
        finally:
            report.messages += self._problems(report)

    def _stream_end(self) -> StreamEnd:
        return StreamEnd(self._end, self._info.time_base, self._info.average_rate)

    def _sampled_frames(self, count: int, report: DecodeReport) -> Iterator[Frame]:
        targets, last = self._targets(count), None
        for last in self._sought_frames(targets, None, report):
            yield last
        if last is not None and self._start + last.pts < targets[-1]:
            end = self._stream_end()
            end.reached(self._start + last.pts + last.duration)
            end.check(report)
        report.messages += self._problems(report)

    def _sought_frames(self, targets: list[int], region: Box | None, report: DecodeReport) -> Iterator[Frame]:
        reader = RegionReader(self._info.width, self._info.height, self._orientation, region)
        with self._opened() as (container, stream):
            for decoded in nearest_frames(container, stream, targets, self._start, report):
                if self._closed:
                    return
                yield self._frame(decoded, report, reader, -1)

    def _targets(self, count: int) -> list[int]:
        end = self._end if self._end is not None else self._last_packet_pts()
        length = max(end - self._start, 0)
        return [self._start + length * (2 * number + 1) // (2 * count) for number in range(count)]

    def _last_packet_pts(self) -> int:
        # Some containers state no length: their packets are read, without being decoded.
        last = 0
        # What cannot be read is not sampled; reading the frames reports it. (`suppress`: FFmpeg's error ends the loop.)
        with self._opened() as (container, stream), suppress(FFmpegError):
            for packet in container.demux(stream):
                last = max(last, packet.pts or 0)
        return last

    def _frame(self, decoded: av.VideoFrame, report: DecodeReport, reader: RegionReader, index: int) -> Frame:
        assert decoded.pts is not None
        report.frames += 1
        return Frame(index, decoded.pts - self._start, decoded.duration or 0, reader.image(decoded))

    def _info_of(self, stream: VideoStream, time_base: Fraction, width: int, height: int) -> VideoInfo:
        rate = stream.average_rate
        seconds = None if self._end is None else (self._end - self._start) * time_base
        estimate = round(seconds * rate) if seconds is not None and rate else None
        return VideoInfo(
            path=self._path,
            width=width,
            height=height,
            time_base=time_base,
            average_rate=rate,
            frame_count=stream.frames or estimate,
            duration_seconds=None if seconds is None else float(seconds),
            decoder=self._decoder,
        )

    def _problems(self, report: DecodeReport) -> list[str]:
        problems = []
        if report.errors:
            doubt = "" if self._gpu is None else " NVDEC could not decode them: --decoder cpu tells whether they are."
            problems.append(f"{report.errors} damaged packets: their frames are missing or were repaired.{doubt}")
        if report.skipped_without_pts:
            problems.append(f"{report.skipped_without_pts} frames left out: time stamp missing or not advancing.")
        return problems

    def _check_region(self, region: Box | None) -> None:
        info = self._info
        if region is not None and not region.inside(info.width, info.height):
            raise InputError(
                f"Region {region.as_tuple()} does not lie inside {info.path} ({info.width}x{info.height}). "
                "Give left, top, right, bottom in pixels of the displayed frame."
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"The source of {self._path} is closed.")

    def _opened(self) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
        return opened_stream(self._path, self._threads, self._gpu)

    def _nothing_decoded(self) -> CbError:
        if self._report.skipped_without_pts:
            return InputError(
                f"The frames of {self._path} have no time stamps (a raw stream?). Put it into a container: "
                f"ffmpeg -framerate RATE -i {self._path.name} -crf 16 {self._path.stem}.mp4"
            )
        if self._gpu is not None:
            return cannot_decode(self._gpu, self._path)
        return InputError(
            f"No frame of {self._path} could be decoded ({self._report.errors} damaged packets). The file is cut off "
            "or damaged: get it anew from where it came from."
        )


def _lateness(container: InputContainer, stream: VideoStream, start: int) -> list[str]:
    """Say so when players show the first frame later than the time 0 that we give it."""
    assert stream.time_base is not None
    if container.start_time is None or len(container.streams) == 1:
        return []
    late = float(start * stream.time_base) - container.start_time / av.time_base
    if late < 1 / float(stream.average_rate or 25):
        return []
    return [f"The video starts {late:.3f} s after the file's other streams; times count from its own start."]


def _lost_beginning(seconds: float) -> list[str]:
    """Say so when nothing can be decoded for a while, as where a recording begins between two key frames."""
    if seconds < _LOST_SECONDS:
        return []
    return [f"The first {seconds:.2f} s cannot be decoded, for want of a key frame; times count from where they begin."]
