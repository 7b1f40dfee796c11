"""The style of a video's captions as one vector, by the image tower of a CLIP model (open_clip)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import FONT_EMBEDDING
from cb_runtime.errors import InputError, ModelError, require
from cb_runtime.files import sha256_of_file
from cb_runtime.geometry import Box
from cb_runtime.layout import DEFAULT_SAMPLES, CaptionLayout, StoresLayout
from cb_runtime.video.types import FrameSource, Image

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_TOWER = "ViT-B-32"
"""Its image embedding has 512 numbers, as the contract wants. OpenAI's own weights need `ViT-B-32-quickgelu`."""


class FontEncoder:
    """Embeds caption regions with weights from a local file; nothing is ever fetched.

    Args:
        weights: Checkpoint that open_clip reads.
        tower: open_clip's name of the architecture.
        device: Where to run it.

    Raises:
        ModelError: The file is missing, does not hold weights of this architecture, or gives another length than 512.
    """

    def __init__(self, weights: str | Path, *, tower: str = DEFAULT_TOWER, device: str = "cpu") -> None:
        weights = Path(weights)
        if not weights.is_file():
            raise ModelError(f"There are no font encoder weights at {weights}. Give a local file.")
        self.device = device
        self._model = _model(weights, tower, device)
        self.version = f"{tower}:{sha256_of_file(weights)[:16]}"
        """`fontclip_model_version`: architecture and digest of the weights."""

    def embedding_of(self, source: FrameSource, layout: CaptionLayout) -> NDArray[np.float32]:
        """Return the mean embedding of the caption region over frames spread over the video, float32 (512,), length 1.

        It depends on the video and its layout alone, not on annotations, so that inference can compute the same. A
        source of crops (a video database) gives nearly the same as the video file; its pictures are JPEG.

        Raises:
            InputError: A source of crops does not hold the layout's region.
        """
        rows, columns = _window(source, layout.region)
        crops = [frame.image[rows, columns] for frame in source.sample(DEFAULT_SAMPLES)]
        if not crops:
            return np.zeros(FONT_EMBEDDING, np.float32)
        mean = self.embed(crops).mean(0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)

    def embed(self, images: list[Image]) -> NDArray[np.float32]:
        """Return one embedding of length 1 per RGB picture, float32 (n, 512)."""
        torch = require("torch")
        with torch.inference_mode():
            batch = torch.stack([self._input(image) for image in images]).to(self.device)
            found: NDArray[np.float32] = self._model.encode_image(batch, normalize=True).cpu().numpy()
        return found

    def _input(self, image: Image) -> Tensor:
        from torch.nn import functional
        from torchvision.transforms.v2.functional import normalize

        torch = require("torch")
        size = self._model.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        # Squeezed to the tower's square, not cropped to it: a caption's ends show its style as well as its middle.
        picture = functional.interpolate(picture, (height, width), mode="bilinear", antialias=True)[0]
        result: Tensor = normalize(picture, self._model.visual.image_mean, self._model.visual.image_std)
        return result


def _window(source: FrameSource, region: Box) -> tuple[slice, slice]:
    """Return rows and columns of the region in the pictures that `source.sample` gives."""
    stored = source.layout.region if isinstance(source, StoresLayout) and source.layout else None
    if stored is None:
        return slice(region.top, region.bottom), slice(region.left, region.right)
    left, top = region.left - stored.left, region.top - stored.top
    if left < 0 or top < 0 or region.right > stored.right or region.bottom > stored.bottom:
        raise InputError(
            f"{source.info.path} holds only the region {stored.as_tuple()} of each frame, the caption style was asked "
            f"for in {region.as_tuple()}. Give a region inside it, or the video file itself."
        )
    return slice(top, top + region.height), slice(left, left + region.width)


def _model(weights: Path, tower: str, device: str) -> Any:  # noqa: ANN401  (open_clip publishes no types)
    open_clip = require("open_clip")
    try:
        model = open_clip.create_model(tower, pretrained=str(weights), require_pretrained=True, device=device)
    except Exception as error:
        raise ModelError(
            f"{weights} does not hold weights of open_clip's {tower}: {type(error).__name__}: {error}. Give a "
            "checkpoint of that architecture."
        ) from error
    length = model.visual.output_dim
    if length != FONT_EMBEDDING:
        raise ModelError(
            f"{tower} gives embeddings of {length} numbers, cb needs {FONT_EMBEDDING}: use {DEFAULT_TOWER}."
        )
    return model.eval()
