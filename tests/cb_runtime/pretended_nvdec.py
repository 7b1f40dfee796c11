"""NVDEC pretended on the CPU: what PyAV gives of a GPU, by its own decoder and in the GPU's pixel formats.

`av.open(hwaccel=HWAccel("cuda", ...))` of PyAV 18 gives a container whose packets decode to frames in main memory: NV12
for 8 bits and P010 for 10, 4:4:4 as it is, with all properties of the frame on the GPU (`VideoCodecContext` in
`av/video/codeccontext.py`). Only that is replaced: HWAccel, the containers, streams and packets are PyAV's own.
"""

import av

from cb_runtime.backends import Availability
from cb_runtime.gpus import Gpu
from cb_runtime.video import nvdec

GPU_FORMATS = {
    "yuv420p": "nv12",
    "yuvj420p": "nv12",
    "yuv422p": "nv16",
    "yuv420p10le": "p010le",
    "yuv422p10le": "p210le",
    "yuv444p10le": "yuv444p10msble",
}
"""Format in which the CPU decodes, and the one in which a frame comes from the GPU."""


class Pretended:
    """Is as the real one, but for what a subclass defines."""

    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):
        return getattr(self._real, name)


class PretendedPacket(Pretended):
    def decode(self):
        return [as_from_gpu(frame) for frame in self._real.decode()]


class PretendedContainer(Pretended):
    def __enter__(self):
        self._real.__enter__()
        return self

    def __exit__(self, *error):
        return self._real.__exit__(*error)

    def demux(self, stream):
        return map(PretendedPacket, self._real.demux(stream))


def as_from_gpu(frame):
    """Repack a frame's planes, exactly, as a filter: that keeps its side data, matrix and range."""
    wanted = GPU_FORMATS.get(frame.format.name)
    if wanted is None:
        return frame
    graph = av.filter.Graph()
    buffer = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base="1/1000",
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
    graph.link_nodes(buffer, graph.add("format", wanted), graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    other = graph.vpull()
    other.pts, other.duration = frame.pts, frame.duration
    return other


def pretend_nvdec(monkeypatch, gpus=1):
    """Let this machine have GPUs with NVDEC; return the GPUs that videos were opened on."""
    opened, really = [], av.open

    def pretended(path, *mode, hwaccel=None, **options):
        container = really(path, *mode, **options)
        if hwaccel is None:
            return container
        assert not hwaccel.allow_software_fallback
        assert not hwaccel.is_hw_owned
        opened.append(hwaccel.device_id)
        return PretendedContainer(container)

    monkeypatch.setattr(av, "open", pretended)
    monkeypatch.setattr(nvdec, "available", lambda: Availability(True, "pretended"))
    monkeypatch.setattr(nvdec, "list_gpus", lambda: tuple(Gpu(n, "pretended", "8.9") for n in range(gpus)))
    return opened
