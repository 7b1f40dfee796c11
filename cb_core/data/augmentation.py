"""Alter training pairs the way the world alters videos.

Both frames of a pair are altered alike, because one camera and one encoder made them.
All random choices come from torch's generator, so that a seeded worker repeats them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import cv2
import torch
from torch import Tensor
from torchvision.transforms import v2

from cb_runtime.errors import UsageError
from cb_runtime.video.types import Image

JPEG_QUALITY = (30, 90)
"""Lowest and highest quality of the compression, of 100."""

Transform = Callable[[Tensor], Tensor]


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
    blank_picture: float = 0.1
    """`ocr_viz` is black, as it is for a region given by hand."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if not 0 <= getattr(self, item.name) <= 1:
                raise UsageError(f"{item.name} is a probability in [0, 1], got {getattr(self, item.name)}.")


class PairAugmentation:
    """Alter a sample of `PairDataset`: takes one, returns a new one with the same shapes and dtypes."""

    def __init__(self, options: AugmentOptions | None = None) -> None:
        self.options = options or AugmentOptions()
        self._colour: Transform = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)
        self._blur: Transform = v2.GaussianBlur(kernel_size=5, sigma=(0.4, 1.2))

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return the sample, altered."""
        options = self.options
        pictures = torch.stack([sample[name] for name in ("ocr_viz", "frame1", "frame2")]).permute(0, 3, 1, 2)
        if _happens(options.shift):
            pictures = _shifted(pictures)
        viz, frames = pictures[:1], pictures[1:]
        for probability, transform in (
            (options.colour, self._colour),
            (options.blur, self._blur),
            (options.compression, _compressed),
        ):
            if _happens(probability):
                frames = transform(frames)
        if _happens(options.blank_picture):
            viz = torch.zeros_like(viz)
        viz, frames = (images.permute(0, 2, 3, 1).contiguous() for images in (viz, frames))
        return {**sample, "ocr_viz": viz[0], "frame1": frames[0], "frame2": frames[1]}


def _happens(probability: float) -> bool:
    return bool(torch.rand(()) < probability)


def _shifted(pictures: Tensor) -> Tensor:
    height, width = pictures.shape[-2:]
    # A sixteenth of the height: about what padding around the text leaves free.
    crop = v2.RandomCrop((height, width), padding=(height // 8, height // 16), padding_mode="edge")
    shifted: Tensor = crop(pictures)
    return shifted


def _compressed(frames: Tensor) -> Tensor:
    # By OpenCV: torchvision's own JPEG is deprecated from 0.29 on.
    quality = int(torch.randint(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1, ()))
    return torch.stack([_jpeg(frame.permute(1, 2, 0).numpy(), quality) for frame in frames])


def _jpeg(image: Image, quality: int) -> Tensor:
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok, "JPEG takes every uint8 picture"
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "what was just encoded can be decoded"
    return torch.from_numpy(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)
