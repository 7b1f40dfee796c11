"""What is known of a video's captions before any pair of frames is scored: where they are, and where text was seen."""

from cb_runtime.layout.detection import DEFAULT_SAMPLES, caption_layout, detect_layout
from cb_runtime.layout.given import layout_from_boxes, layout_from_file, layout_from_region, region_from_text
from cb_runtime.layout.layout import (
    ORIGINS,
    CaptionLayout,
    OtherRegion,
    StoresLayout,
    boxes_from_lists,
    layout_from_dict,
)

__all__ = [
    "DEFAULT_SAMPLES",
    "ORIGINS",
    "CaptionLayout",
    "OtherRegion",
    "StoresLayout",
    "boxes_from_lists",
    "caption_layout",
    "detect_layout",
    "layout_from_boxes",
    "layout_from_dict",
    "layout_from_file",
    "layout_from_region",
    "region_from_text",
]
