"""Alter training pairs the way the world alters videos.

All frames of a video are altered alike, because one camera and one encoder made them.
All random choices come from torch's generator, so that a seeded worker repeats them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cb_runtime.contract import ANCHORS
from cb_runtime.errors import UsageError
from cb_runtime.video.types import Image

Y_CENTRE = len(ANCHORS) + 1
"""Place of the region's y centre in `spatial_features`."""

JPEG_QUALITY = (30, 90)
"""Lowest and highest quality of the compression, of 100."""

COLOUR = (0.7, 1.3)
"""Lowest and highest factor of brightness, of contrast and of saturation."""

BLUR_SIGMA = (0.4, 1.2)
"""Least and greatest blur, standard deviation in pixels."""

Pictures = list[Image]
"""RGB uint8 pictures (48, 480, 3) of one camera."""

Transform = Callable[[Pictures], Pictures]


@dataclass(frozen=True)
class AugmentOptions:
    """How often each alteration happens; probabilities in [0, 1]."""

    shift: float = 0.5
    """The region lies a little beside where it was found; the picture of text moves with it."""
    colour: float = 0.5
    """Brightness, contrast and saturation."""
    blur: float = 0.2
    """Soft focus, or upscaled material."""
    compression: float = 0.5
    """Compression at a lower rate; block noise differs between the frames, as it does in video."""
    height: float = 0.5
    """The region lies at any height in the frame: `spatial_features` say another y centre."""
    blank_picture: float = 0.1
    """`ocr_viz` is black, as it is for a region given by hand."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if not 0 <= getattr(self, item.name) <= 1:
                raise UsageError(f"{item.name} is a probability in [0, 1], got {getattr(self, item.name)}.")


class PairAugmentation:
    """Alter what one camera saw; pictures keep their shape and type. OpenCV does it four times faster than tensors."""

    def __init__(self, options: AugmentOptions | None = None) -> None:
        self.options = options or AugmentOptions()

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return a sample of `PairDataset`, altered."""
        viz, frames = self.alter(sample["ocr_viz"], torch.stack([sample["frame1"], sample["frame2"]]))
        vectors = self.placed(sample["spatial_features"][None])[0]
        return {**sample, "ocr_viz": viz, "frame1": frames[0], "frame2": frames[1], "spatial_features": vectors}

    def placed(self, spatial_features: Tensor) -> Tensor:
        """Return `spatial_features` (batch, 6) of one video in each row, some with another y centre."""
        placed = spatial_features.clone()
        chosen = torch.rand(len(placed)) < self.options.height
        placed[:, Y_CENTRE] = torch.where(chosen, torch.rand(len(placed)), placed[:, Y_CENTRE])
        return placed

    def alter(self, picture: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return `ocr_viz` (48, 480, 3) and any number of frames (frames, 48, 480, 3), uint8, altered alike."""
        options, pictures = self.options, [picture.numpy(), *frames.numpy()]
        if _happens(options.shift):
            pictures = _shifted(pictures)
        viz, altered = pictures[0], pictures[1:]
        for probability, transform in (
            (options.colour, _coloured),
            (options.blur, _blurred),
            (options.compression, _compressed),
        ):
            if _happens(probability):
                altered = transform(altered)
        if _happens(options.blank_picture):
            viz = np.zeros_like(viz)
        return torch.from_numpy(viz.copy()), torch.from_numpy(np.stack(altered))


def _happens(probability: float) -> bool:
    return bool(torch.rand(()) < probability)


def _between(lowest: float, highest: float) -> float:
    return float(torch.empty(()).uniform_(lowest, highest))


def _shifted(pictures: Pictures) -> Pictures:
    height, width = pictures[0].shape[:2]
    # A sixteenth of the height: about what padding around the text leaves free; twice as much sideways.
    down, right = height // 16, height // 8
    top, left = (int(torch.randint(2 * most + 1, ())) for most in (down, right))
    padded = (cv2.copyMakeBorder(one, down, down, right, right, cv2.BORDER_REPLICATE) for one in pictures)
    return [np.asarray(one[top : top + height, left : left + width], np.uint8) for one in padded]


def _coloured(frames: Pictures) -> Pictures:
    brightness, contrast, saturation = (_between(*COLOUR) for _ in range(3))
    # Around the mean of them all: a camera that makes one frame darker makes the other one darker by as much.
    mean = brightness * float(np.mean([cv2.mean(frame)[:3] for frame in frames]))
    values = contrast * (brightness * np.arange(256) - mean) + mean
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return [_saturated(np.asarray(cv2.LUT(frame, table), np.uint8), saturation) for frame in frames]


def _saturated(frame: Image, saturation: float) -> Image:
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(frame, saturation, grey, 1 - saturation, 0), np.uint8)


def _blurred(frames: Pictures) -> Pictures:
    sigma = _between(*BLUR_SIGMA)
    return [np.asarray(cv2.GaussianBlur(frame, (5, 5), sigma), np.uint8) for frame in frames]


def _compressed(frames: Pictures) -> Pictures:
    quality = int(torch.randint(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1, ()))
    return [_jpeg(frame, quality) for frame in frames]


def _jpeg(image: Image, quality: int) -> Image:
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok, "JPEG takes every uint8 picture"
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "what was just encoded can be decoded"
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
