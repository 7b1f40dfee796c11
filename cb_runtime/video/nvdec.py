"""Decoding by the video engine of an NVIDIA GPU (NVDEC): what it takes, and what is wrong where it cannot be had.

The FFmpeg inside PyAV does it, so no further package is needed and all but the decoder is the CPU's: the demuxer with
its time stamps and durations, what is done about damage, turning, cropping, and the conversion of colours. H.264, HEVC
and VP9 define every bit of a decoded frame, so pictures are the same; a GPU's MPEG-2 or MPEG-4 may round otherwise.
Frames are copied to main memory, where the caption region is cut out of them.

FFmpeg, asked for NVDEC where it cannot have it, decodes on the CPU and says nothing. Here that is forbidden to it, and
codecs for which it would be ignored are refused. Among them is AV1: PyAV decodes it by dav1d, which has no NVDEC.
Docs: https://pyav.basswood-io.com/docs/stable/api/codec.html
"""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from cb_runtime.backends import Availability
from cb_runtime.errors import UsageError
from cb_runtime.gpus import list_gpus

if TYPE_CHECKING:
    from av.codec.codec import Codec
    from av.codec.hwaccel import HWAccel

OLDEST_PYAV = 18
"""Before, PyAV kept only the time stamp of a frame it brought from the GPU: no duration, colour matrix or rotation."""

_DEVICE = "cuda"
"""FFmpeg's name for it."""

_USE_CPU = "Use --decoder cpu otherwise."


class NvdecError(UsageError):
    """NVDEC was asked for and cannot be had, here or for this video."""


def available() -> Availability:
    """Tell whether PyAV, driver and a GPU are there for NVDEC; which codecs the GPU knows, only decoding shows."""
    import av
    from av.codec.hwaccel import hwdevices_available

    if int(av.__version__.partition(".")[0]) < OLDEST_PYAV:
        fix = "pip install 'cb-toolkit[nvdec]'"
        return Availability(False, f"PyAV {av.__version__} is too old for it, {OLDEST_PYAV} or later is needed", fix)
    if _DEVICE not in hwdevices_available():
        fix = "pip install --force-reinstall --only-binary av av, on Linux or Windows"
        return Availability(False, f"the FFmpeg inside PyAV {av.__version__} was built without it", fix)
    gpus = list_gpus()
    if not gpus:
        return Availability(False, "no driver shows an NVIDIA GPU here")
    try:
        ctypes.CDLL("nvcuvid.dll" if platform.system() == "Windows" else "libnvcuvid.so.1")
    except OSError:
        fix = (
            "in a container, start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility,video; else reinstall the driver"
        )
        return Availability(False, "the driver's library for video (libnvcuvid) is missing", fix)
    return Availability(True, f"{len(gpus)} GPU(s), PyAV {av.__version__}; prove it with cb infer --decoder nvdec")


def require_nvdec(gpu: int = 0) -> None:
    """Raise NvdecError, with what to do, unless a GPU's NVDEC can be asked for.

    Args:
        gpu: Which GPU, as in `cuda:N`.
    """
    found = available()
    if not found.ok:
        fix = "" if found.fix is None else f"To mend it: {found.fix}. "
        raise NvdecError(f"NVDEC cannot be had: {found.detail}. {fix}{_USE_CPU}")
    count = len(list_gpus())
    if not 0 <= gpu < count:
        raise NvdecError(f"NVDEC of cuda:{gpu} was asked for; this machine has {count} GPU(s), from cuda:0.")


def check_codec(codec: Codec, path: Path) -> None:
    """Raise NvdecError when the decoder that PyAV takes for a video is one that leaves NVDEC aside."""
    from av.codec.hwaccel import HWDeviceType

    configurations = codec.hardware_configs or ()
    if not any(found.is_supported and found.device_type == HWDeviceType.cuda for found in configurations):
        raise NvdecError(
            f"{path} is {codec.canonical_name} video, decoded here by {codec.name}, which has no NVDEC. "
            "Use --decoder cpu, or auto."
        )


def acceleration(gpu: int) -> HWAccel:
    """Return what `av.open` takes so that all video is decoded on a GPU, and none on the CPU instead."""
    from av.codec.hwaccel import HWAccel

    return HWAccel(_DEVICE, device=str(gpu), allow_software_fallback=False)


def cannot_open(gpu: int, path: Path, error: Exception) -> NvdecError:
    """Return the error for a video that PyAV opens for the CPU, and not for a GPU."""
    return NvdecError(f"NVDEC of cuda:{gpu} cannot be opened for {path}: {error}. See `cb doctor`. {_USE_CPU}")


def cannot_decode(gpu: int, path: Path) -> NvdecError:
    """Return the error for a video of which NVDEC gave no frame."""
    return NvdecError(
        f"NVDEC of cuda:{gpu} decoded no frame of {path}: this GPU lacks the video's profile, depth or size, or the "
        "file is damaged. Use --decoder cpu, which tells which, or auto."
    )
