"""From a decoded frame to RGB pixels of a region, converting no more than that region.

The crop is cut from the decoded planes before the colours are converted. It is widened to whole chroma samples and by a
margin before, and trimmed after, so that its pixels are those of the whole frame converted and then cropped. A plain
crop at odd offsets would shift the chroma by a pixel, as FFmpeg rounds the chroma offset down. (In videos of odd height
FFmpeg interpolates the whole frame's chroma in another way, and colours may differ slightly.)

Frames that were decoded by NVDEC have the planes of both chroma channels interleaved. With 8 bits FFmpeg would convert
those by other arithmetic, so they are taken apart first: pixels are the same whatever decoded them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from cb_runtime.geometry import Box
from cb_runtime.video.types import Image

_GRID = 8
"""The cut starts and ends on multiples of this: a multiple of every chroma subsampling and of the dither pattern."""

_MARGIN = 8
"""Pixels around the region that are converted with it, so that chroma interpolation sees its true neighbours."""


_PLANAR = {"nv12": "yuv420p", "nv16": "yuv422p"}
"""Formats of interleaved chroma that are converted otherwise than the planar ones which the CPU decodes to."""


@dataclass(frozen=True)
class Orientation:
    """How the stored picture is turned for display: transposed first, then flipped."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after turning; as turning back needs the same exchange, it works both ways."""
        return (height, width) if self.transposed else (width, height)

    def stored_box(self, box: Box, width: int, height: int) -> Box:
        """Return where `box` of the displayed frame (`width` x `height`) lies in the stored picture."""
        left, top, right, bottom = box.as_tuple()
        if self.flipped_x:
            left, right = width - right, width - left
        if self.flipped_y:
            top, bottom = height - bottom, height - top
        return Box(top, left, bottom, right) if self.transposed else Box(left, top, right, bottom)

    def turned(self, image: Image) -> Image:
        """Return the stored picture as it is displayed."""
        image = image.swapaxes(0, 1) if self.transposed else image
        return np.ascontiguousarray(image[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1])


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Read the frame's display matrix; only quarter turns and flips are applied, other angles are left as stored.

    The matrix is `((a, b, u), (c, d, v), (x, y, w))` with `x' = a x + c y` and `y' = b x + d y` (ISO 14496-12, 6.2.2).
    """
    side_data: Any = frame.side_data  # its stub says TypedDict, at runtime it is a sequence of buffers
    data = [item for item in side_data if item.type == SideDataType.DISPLAYMATRIX]
    if not data:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(data[0]), np.int32)[:5]
    if a == d == 0:
        return Orientation(transposed=True, flipped_x=bool(c < 0), flipped_y=bool(b < 0))
    if b == c == 0:
        return Orientation(flipped_x=bool(a < 0), flipped_y=bool(d < 0))
    return Orientation()


class RegionReader:
    """Gives one region of each decoded frame as it is displayed, uint8 `(height, width, 3)` RGB."""

    def __init__(self, width: int, height: int, orientation: Orientation, region: Box | None) -> None:
        self._orientation = orientation
        self._stored_size = orientation.size(width, height)
        self._box = orientation.stored_box(region or Box(0, 0, width, height), width, height)
        self._cut = _widened(self._box, *self._stored_size)
        self._graph: av.filter.Graph | None = None
        self._key: tuple[object, ...] = ()

    def image(self, frame: av.VideoFrame) -> Image:
        """Cut, convert and turn the region. A frame of another size than the first is scaled to the first's."""
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or key != self._key:
            self._graph, self._key = self._graph_for(frame), key
        self._graph.vpush(frame)
        cut: Image = self._graph.vpull().to_ndarray().astype(np.uint8, copy=False)
        left, top = self._box.left - self._cut.left, self._box.top - self._cut.top
        return self._orientation.turned(cut[top : top + self._box.height, left : left + self._box.width])

    def _graph_for(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        nodes = [
            graph.add(
                "buffer",
                video_size=f"{frame.width}x{frame.height}",
                pix_fmt=frame.format.name,
                time_base="1/1000",  # the filter wants one; times are read from the decoded frame, not from here
                # The conversion goes by the frame; told otherwise, the filter warns of a change on the first frame.
                colorspace=str(int(frame.colorspace)),
                range=str(int(frame.color_range)),
            )
        ]
        if (frame.width, frame.height) != self._stored_size:
            nodes.append(graph.add("scale", "{}:{}".format(*self._stored_size)))
        cut = self._cut
        nodes.append(graph.add("crop", f"{cut.width}:{cut.height}:{cut.left}:{cut.top}:exact=1"))
        if planar := _PLANAR.get(frame.format.name):
            nodes.append(graph.add("format", planar))
        nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
        graph.link_nodes(*nodes)
        graph.configure()
        return graph


def _widened(box: Box, width: int, height: int) -> Box:
    return Box(
        max(0, (box.left - _MARGIN) // _GRID * _GRID),
        max(0, (box.top - _MARGIN) // _GRID * _GRID),
        min(width, -(-(box.right + _MARGIN) // _GRID) * _GRID),
        min(height, -(-(box.bottom + _MARGIN) // _GRID) * _GRID),
    )
