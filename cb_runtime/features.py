"""The inputs of a model, one function per input, used by training, export and inference alike.

Pictures are uint8 RGB `(48, 480, 3)`; sizes and strategy come from the contract's `Preprocessing`. The same bytes in
give the same bytes out, so that what a model was trained on is what it is given in service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime import opencv as cv2
from cb_runtime.contract import ANCHORS, FONT_EMBEDDING, Preprocessing
from cb_runtime.errors import ContractError
from cb_runtime.layout import CaptionLayout
from cb_runtime.ocr_picture import ocr_picture
from cb_runtime.video.types import Image

ADAPTIVE_SQUEEZE = 0.8
"""`adaptive` narrows a region's picture to no less than this share of its width; what is still too wide is cut off."""


@dataclass(frozen=True, eq=False)
class VideoInputs:
    """The inputs that are the same for all pairs of one video."""

    ocr_viz: Image
    """uint8 RGB `(48, 480, 3)`."""
    spatial_features: NDArray[np.float32]
    """float32 `(6,)`."""
    font_embedding: NDArray[np.float32]
    """float32 `(512,)`."""


def video_inputs(
    layout: CaptionLayout,
    preprocessing: Preprocessing,
    variant: str,
    font_embedding: NDArray[np.float32] | None = None,
) -> VideoInputs:
    """Return a video's inputs; without `font_embedding` it is zeros. Raises ContractError when it is misshapen."""
    font = no_font_embedding() if font_embedding is None else font_embedding
    if font.dtype != np.float32 or font.shape != (FONT_EMBEDDING,):
        raise ContractError(f"A font embedding must be float32 ({FONT_EMBEDDING},), got {font.dtype} {font.shape}.")
    return VideoInputs(ocr_viz(layout, preprocessing, variant), spatial_features(layout), font)


def strip(region_image: Image, preprocessing: Preprocessing, anchor: str) -> Image:
    """Bring the caption region of a frame, uint8 RGB `(h, w, 3)`, to a strip, uint8 RGB `(48, 480, 3)`.

    The region is scaled to strip height, keeping its aspect. Narrower than the strip: mirrored tiles fill the rest to
    the right. Wider: `mirror_tile` squeezes it to the strip, `crop` keeps what is around `anchor`, `adaptive` squeezes
    by up to a fifth and crops beyond. Raises ContractError for another type, shape or anchor.
    """
    _check_region(region_image, anchor)
    height, width = preprocessing.height, preprocessing.width
    scaled_width = max(1, round(region_image.shape[1] * height / region_image.shape[0]))
    if scaled_width < width:
        tile = _resized(region_image, scaled_width, height, preprocessing.resampling)
        return _image(cv2.copyMakeBorder(tile, 0, 0, 0, width - scaled_width, cv2.BORDER_REFLECT))
    narrowest = {"mirror_tile": width, "crop": scaled_width, "adaptive": round(scaled_width * ADAPTIVE_SQUEEZE)}
    squeezed_width = max(width, narrowest[preprocessing.resize_strategy])
    squeezed = _resized(region_image, squeezed_width, height, preprocessing.resampling)
    start = (squeezed_width - width) * ANCHORS.index(anchor) // (len(ANCHORS) - 1)
    return np.ascontiguousarray(squeezed[:, start : start + width])


def _check_region(image: Image, anchor: str) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ContractError(f"A region's picture must be uint8 (height, width, 3), got {image.dtype} {image.shape}.")
    if anchor not in ANCHORS:
        raise ContractError(f"anchor must be one of {', '.join(ANCHORS)}, got {anchor!r}.")


def _resized(image: Image, width: int, height: int, resampling: str) -> Image:
    if resampling == "area":
        # OpenCV averages areas only where both axes shrink, so the shrinking axes go first.
        smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
        image = _image(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA))
    if image.shape[:2] == (height, width):
        return image
    return _image(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


def _image(array: Any) -> Image:  # noqa: ANN401  (OpenCV's own array type)
    return np.asarray(array, np.uint8)


def spatial_features(layout: CaptionLayout) -> NDArray[np.float32]:
    """Return anchor one-hot (left, centre, right), region's x centre, y centre and width relative to the frame."""
    region, width, height = layout.region, layout.frame_width, layout.frame_height
    one_hot = [float(layout.anchor == anchor) for anchor in ANCHORS]
    x_centre = (region.left + region.right) / 2 / width
    y_centre = (region.top + region.bottom) / 2 / height
    return np.array([*one_hot, x_centre, y_centre, region.width / width], np.float32)


def no_font_embedding() -> NDArray[np.float32]:
    """Return the font embedding of models that use none: zeros, float32 `(512,)`."""
    return np.zeros(FONT_EMBEDDING, np.float32)


def ocr_viz(layout: CaptionLayout, preprocessing: Preprocessing, variant: str) -> Image:
    """Draw where text was seen in the region, as a strip: uint8 RGB `(48, 480, 3)`; black without boxes.

    Drawn on the region (see `ocr_picture` for the variants) and then brought through `strip`, so that text and its
    boxes are at the same place in both pictures. Raises ContractError for an unknown variant.
    """
    picture = ocr_picture(layout, variant, preprocessing.height)
    return strip(picture, preprocessing, layout.anchor)
