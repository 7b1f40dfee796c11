"""Opening a video file for FFmpeg to decode, and choosing the stream in it that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from cb_runtime.errors import InputError
from cb_runtime.files import status_of
from cb_runtime.video.nvdec import acceleration, cannot_open, check_codec

_TEXT_DEMUXERS = {"tty"}
"""FFmpeg renders text files as video with these; nobody means that."""


@contextmanager
def opened_stream(path: Path, threads: int, gpu: int | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its video stream, ready to decode.

    Args:
        path: The file.
        threads: Threads that decode, on the CPU.
        gpu: The GPU whose NVDEC decodes; None: the CPU does.

    Raises:
        InputError: No video that can be read.
        NvdecError: The GPU cannot be opened.
    """
    with _opened_container(path) if gpu is None else _opened_on_gpu(path, gpu) as container:
        stream = _video_stream(container, path)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all  # else what is damaged there ends the reading, and all of it is read
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads if gpu is None else 1  # the GPU decodes one frame after the other
        yield container, stream


def check_stream(path: Path) -> None:
    """Raise InputError for a file without video, and NvdecError for video that PyAV decodes without NVDEC."""
    with _opened_container(path) as container:
        check_codec(_video_stream(container, path).codec_context.codec, path)


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    pictures = Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams or container.format.name in _TEXT_DEMUXERS:
        raise InputError(f"{path} has no video stream. Expected a video file, e.g. .mp4, .mkv, .webm or .ts.")
    best = container.streams.best("video")
    return best if isinstance(best, VideoStream) and best in streams else streams[0]


def _opened_container(path: Path) -> InputContainer:
    status = status_of(path)
    if status is None:
        raise InputError(f"{path} does not exist. Check the name of the video.")
    if S_ISDIR(status.st_mode):
        raise InputError(f"{path} is a folder, expected a video file. Name the videos in it, e.g. {path}/*.mp4")
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes), expected a video file. Get it anew from where it came from.")
    try:
        return av.open(_name(path), mode="r", metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a video ({error.strerror or error}). It is no video, or it is cut off before "
            "its index: check that it plays."
        ) from error


def _opened_on_gpu(path: Path, gpu: int) -> InputContainer:
    try:
        return av.open(_name(path), mode="r", metadata_errors="replace", hwaccel=acceleration(gpu))
    except (FFmpegError, OSError, RuntimeError) as error:  # of CUDA: `check_stream` has opened the file before
        raise cannot_open(gpu, path, error) from error


def _name(path: Path) -> str:
    return str(path.absolute())  # so that no name is taken for a protocol
