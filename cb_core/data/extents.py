"""Where captions stand in strips: what the auxiliary head is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from cb_core.data.schema import Video
from cb_runtime.contract import Preprocessing
from cb_runtime.features import strip
from cb_runtime.layout import CaptionLayout, layout_from_dict

COLUMNS = 60
"""Stretches of a strip's width, of 8 pixels each: about a glyph."""

Extent = NDArray[np.float32]
"""Share of each stretch that a caption covers, in [0, 1]: float32 (COLUMNS,)."""


def caption_extent(region: Sequence[int], layout: CaptionLayout, preprocessing: Preprocessing) -> Extent:
    """Return where in a strip a caption stands, from its region in frame coordinates (left, top, right, bottom).

    A picture of the region is brought to a strip by the function that makes strips, so tiles, squeezing and cropping
    are those of training and inference.
    """
    crop, (left, top, right, bottom) = layout.region, region
    drawn = np.zeros((crop.bottom - crop.top, crop.right - crop.left, 3), np.uint8)
    drawn[max(0, top - crop.top) : max(0, bottom - crop.top), max(0, left - crop.left) : max(0, right - crop.left)] = (
        255
    )
    covered = strip(drawn, preprocessing, layout.anchor)[..., 0].max(axis=0)
    return np.asarray(covered.reshape(COLUMNS, -1).mean(axis=1) / 255, np.float32)


class VideoExtents:
    """The extents of one video's captions.

    Args:
        captions: First frame, frame after the last, and region of each caption; None where it is not known.
        layout: The video's.
        preprocessing: The dataset's.
    """

    def __init__(
        self,
        captions: Iterable[tuple[int, int, Sequence[int] | None]],
        layout: CaptionLayout,
        preprocessing: Preprocessing,
    ) -> None:
        self._captions = [
            (start, stop, None if region is None else caption_extent(region, layout, preprocessing))
            for start, stop, region in captions
        ]
        # Without any, a model would learn that captions extend nowhere.
        self.known = any(extent is not None for _, _, extent in self._captions)

    def of_frame(self, frame: int, *, shows_caption: bool) -> Extent:
        """Return the extent of what a frame shows: zeros without a caption, NaN where it is not known."""
        if not self.known:
            return np.full(COLUMNS, np.nan, np.float32)
        if not shows_caption:
            return np.zeros(COLUMNS, np.float32)
        found = next((extent for start, stop, extent in self._captions if start <= frame < stop), None)
        return np.full(COLUMNS, np.nan, np.float32) if found is None else found


def read_extents(session: Session, split: str, preprocessing: Preprocessing) -> dict[int, VideoExtents]:
    """Return the extents of every video of a split, by the video's key."""
    videos = session.scalars(select(Video).where(Video.split == split))
    return {
        video.id: VideoExtents(
            [(caption.start_frame, caption.end_frame, caption.region) for caption in video.captions],
            layout_from_dict(video.layout.layout),
            preprocessing,
        )
        for video in videos
    }
