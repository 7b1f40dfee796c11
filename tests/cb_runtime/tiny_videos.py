"""Tiny videos for tests, made with PyAV: 64 x 48, 20 frames unless told otherwise."""

import struct
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FRAMES = 64, 48, 20


def picture(index, width=WIDTH, height=HEIGHT):
    """A picture whose pixels tell where they are, and in which frame."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    image[..., 2] = index * 12 % 256
    left = index * 3 % (width - 8)
    image[height // 2 : height // 2 + 6, left : left + 8] = 255
    return image


def make_video(
    path,
    frames=FRAMES,
    size=(WIDTH, HEIGHT),
    codec="libx264",
    pixel_format="yuv420p",
    rate=25,
    b_frames=2,
    key_every=10,
    pts=None,
    time_base=None,
    container_options=None,
    codec_options=None,
    colour=None,
    draw=picture,
):
    """Encode a video; `pts` and `time_base` make a variable frame rate; `colour` is (colour space, range)."""
    width, height = size
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        context = stream.codec_context
        context.gop_size, context.max_b_frames = key_every, b_frames
        if colour:
            context.colorspace, context.color_range = colour
        if time_base:
            context.time_base = stream.time_base = time_base
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(index, width, height), "rgb24")
            if pts:
                frame.pts, frame.time_base = pts[index], time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


def packet_places(path):
    """Return (position, size) of every video packet in the file, in file order."""
    with closing(av.open(str(path))) as container:
        return sorted((packet.pos, packet.size) for packet in container.demux(video=0) if packet.size)


def overwrite(path, places):
    """Fill the given places of a file with noise."""
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for position, size in places:
        data[position : position + size] = noise.integers(0, 256, size, dtype=np.uint8).tobytes()
    path.write_bytes(data)


def cut_off(path, share):
    """Keep only the first `share` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def set_display_matrix(path, a, b, c, d):
    """Write a display matrix of -1, 0 and 1 into the track header (`tkhd`, version 0) of an MP4."""
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd") + 4 + 40
    one = 1 << 16
    struct.pack_into(">9i", data, place, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


VARIABLE_PTS = [index * 40 + (index % 3) * 13 + (200 if index > 12 else 0) for index in range(FRAMES)]
"""Milliseconds of a variable frame rate."""

MILLISECONDS = Fraction(1, 1000)
