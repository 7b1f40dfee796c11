"""Finding text in frames by OCR: detection only, nothing is read.

A detector is any callable like `TextDetector`. The one here is rapidocr, whose detection model is inside its wheel, so
it works without a network. Reading the text too would take several times as long and say no more about where captions
are.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from cb_runtime import opencv as cv2
from cb_runtime.cores import usable_cores
from cb_runtime.errors import MissingPackageError, require
from cb_runtime.geometry import Box
from cb_runtime.installed import installed_version
from cb_runtime.video.types import Image

LONGEST_SIDE = 640
"""Frames are scaled to this longest side. Boxes are as good as at 960 in 0.4 of the time; those of small text in small
frames become closer."""

LARGEST_ENLARGEMENT = 2.0
"""Small frames are enlarged by no more than this."""


MOST_THREADS = 8
"""A frame of this size is not worth more."""


class TextDetector(Protocol):
    """Finds text in a picture."""

    @property
    def engine(self) -> str:
        """Name of the engine, e.g. `rapidocr`; stored with every layout, dataset and model."""
        ...

    @property
    def version(self) -> str | None:
        """Version of the engine; None when it has none."""
        ...

    def __call__(self, image: Image) -> list[tuple[Box, float]]:
        """Return boxes in pixels of `image` (uint8 RGB `(height, width, 3)`), each with a score in [0, 1]."""
        ...


class RapidOcrDetector:
    """Text detection by rapidocr. Not thread-safe (rapidocr is not): make one per thread.

    Args:
        threads: That compute; None: all usable cores but the one that decodes the next frame, `MOST_THREADS` at most.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or min(MOST_THREADS, max(1, usable_cores() - 1))
        self._rapidocr: Any = None

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return "rapidocr"

    @property
    def version(self) -> str | None:
        """Version of the installed rapidocr. Raises MissingPackageError without one."""
        _require_rapidocr()
        return installed_version("rapidocr")

    def __call__(self, image: Image) -> list[tuple[Box, float]]:
        """Return the boxes of text in `image` with their scores. Raises MissingPackageError without rapidocr."""
        if self._rapidocr is None:
            self._rapidocr = _open_rapidocr(self._threads)
        height, width = image.shape[:2]
        scaled = _scaled(image)
        # rapidocr reads arrays as OpenCV does: BGR.
        found = self._rapidocr(cv2.cvtColor(scaled, cv2.COLOR_RGB2BGR), use_det=True, use_cls=False, use_rec=False)
        if found.boxes is None:
            return []
        scale = (width / scaled.shape[1], height / scaled.shape[0])
        boxes = [_bounding_box(np.asarray(corners) * scale, width, height) for corners in found.boxes]
        return [(box, float(score)) for box, score in zip(boxes, found.scores, strict=True) if box is not None]


def _scaled(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = min(LARGEST_ENLARGEMENT, LONGEST_SIDE / max(height, width))
    if scale == 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _bounding_box(corners: np.ndarray[Any, Any], width: int, height: int) -> Box | None:
    # A tilted quadrilateral may reach beyond the frame, or be thinner than a pixel.
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height)).astype(int).tolist()
    return Box(left, top, right, bottom) if left < right and top < bottom else None


def _require_rapidocr() -> Any:  # noqa: ANN401  (a module without types)
    try:
        require("onnxruntime")  # rapidocr brings no inference engine of its own
        return require("rapidocr")
    except MissingPackageError as error:
        error.args = (f"{error} Or say where the captions are: --region LEFT,TOP,RIGHT,BOTTOM",)
        raise


def _open_rapidocr(threads: int) -> Any:  # noqa: ANN401  (a class without types)
    params = {
        "Global.log_level": "critical",  # it reports "no text" as a warning
        "Global.use_cls": False,
        "Global.use_rec": False,
        # Its own default enlarges frames to a shortest side of 736: several times the time, no caption more.
        "Det.limit_type": "max",
        "Det.limit_side_len": LONGEST_SIDE,
        # Left alone, it takes all cores of the machine, a container's others too, and clears its memory every time.
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        "EngineConfig.onnxruntime.enable_cpu_mem_arena": True,
    }
    return _require_rapidocr().RapidOCR(params=params)
