"""Frame sources: video files and video databases behind one protocol."""

from __future__ import annotations

from pathlib import Path

from cb_runtime.errors import UsageError
from cb_runtime.video.types import FrameSource

DATABASE_SUFFIX = ".db"
"""File name ending of a video database; every other file is read as a video."""

DECODERS = ("auto", "cpu", "nvdec")
"""What may decode a video file; `auto` takes NVDEC for what it decodes here, and the CPU for the rest."""


def open_source(
    path: str | Path, *, decode_threads: int | None = None, decoder: str = "cpu", gpu: int = 0
) -> FrameSource:
    """Open a video file or a video database (`.db`); what decodes it, and why, is in its `info`.

    Args:
        path: The file.
        decode_threads: Threads that decode a video file on the CPU; None chooses by the number of cores.
        decoder: `auto`, `cpu` or `nvdec`, the video engine of an NVIDIA GPU.
        gpu: Which GPU's NVDEC, as in `cuda:N`.

    Raises:
        InputError: It cannot be read.
        UsageError: An unknown decoder, less than one thread, threads for NVDEC, or NVDEC where it cannot be had: on
            this machine, or for this video or a database.
    """
    check_decoder(decoder)
    # Imported here: av and cv2 take a while, and `cb --help` must not wait for them.
    if Path(path).suffix.lower() == DATABASE_SUFFIX:
        from cb_runtime.video.database import VideoDatabase

        if decoder == "nvdec":
            raise UsageError(
                f"{path} is a video database: its JPEGs are decoded by the CPU. Use --decoder cpu, or auto."
            )
        return VideoDatabase(path)
    from cb_runtime.video.file import VideoFile

    if decoder == "cpu":
        return VideoFile(path, decode_threads=decode_threads)
    if decoder == "nvdec":
        return VideoFile(path, decode_threads=decode_threads, gpu=gpu)
    return _fitting(path, decode_threads, gpu)


def _fitting(path: str | Path, decode_threads: int | None, gpu: int) -> FrameSource:
    from cb_runtime.video.file import VideoFile
    from cb_runtime.video.nvdec import NvdecError

    unused = "" if decode_threads is None else "; --decode-threads is for the CPU and has no effect there"
    try:
        return VideoFile(path, gpu=gpu, reason=f"NVDEC can decode it{unused}")
    except NvdecError as error:
        return VideoFile(path, decode_threads=decode_threads, reason=f"NVDEC was tried first: {error}")


def check_decoder(decoder: str) -> None:
    """Raise UsageError for an unknown decoder, and for NVDEC on a machine where no video can have it."""
    if decoder not in DECODERS:
        raise UsageError(f"--decoder must be one of {', '.join(DECODERS)}, got {decoder}.")
    if decoder == "nvdec":
        from cb_runtime.video.nvdec import require_nvdec

        require_nvdec()
