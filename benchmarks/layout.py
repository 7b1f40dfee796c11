"""Layout found without help: is every caption inside the region, how tight is it, and what does the search cost.

    cb synth VIDEOS --videos 30 --seconds 12 --seed 101
    python benchmarks/layout.py VIDEOS --output benchmarks/results/layout.json

Each video needs its `.truth.json` beside it, as `cb synth` or the libass set write it, with a `region` per caption. A
video whose main region holds less than half of the captions' area is misplaced: something else was taken for them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cb_runtime.contract import ANCHORS
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout, detect_layout
from cb_runtime.layout.ocr import RapidOcrDetector, TextDetector
from cb_runtime.video import open_source
from cb_runtime.video.types import Image

WHOLE = 0.98
"""A caption counts as inside from this share of its area: boxes of the truth hold faint shadows too."""

PACKAGES = ("cb-toolkit", "rapidocr", "onnxruntime", "opencv-python-headless", "av")


@dataclass(frozen=True)
class Row:
    """What was found in one video."""

    video: str
    size: str
    captions: int
    traits: str
    """What makes it hard: distractors, place, lines."""
    found: bool
    worst_share: float
    """Smallest share, over captions, of a caption's area that is inside the region."""
    captions_whole: int
    """Captions of which at least `WHOLE` is inside."""
    misplaced: bool
    """A region was found that holds less than half of all captions' area; in a video without captions, any."""
    height_ratio: float
    """Height of the region over that of the union of all captions."""
    width_ratio: float
    anchor_right: bool
    other_regions: int
    frames_read: int
    """Frames that OCR looked at."""
    ocr_seconds: float
    seconds: float
    """All of it, decoding and choosing of frames included."""


class Timed:
    """A detector that counts its frames and seconds."""

    def __init__(self, detector: TextDetector) -> None:
        self._detector = detector
        self.engine, self.version = detector.engine, detector.version
        self.frames, self.seconds = 0, 0.0

    def __call__(self, image: Image) -> list[tuple[Box, float]]:
        """Find text in one frame."""
        began = time.perf_counter()
        found = self._detector(image)
        self.frames, self.seconds = self.frames + 1, self.seconds + time.perf_counter() - began
        return found


def measure(truth_file: Path, detector: TextDetector) -> Row:
    """Find the layout of the video that belongs to a ground truth, and compare."""
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    timed, began = Timed(detector), time.perf_counter()
    with closing(open_source(truth_file.parent / truth["video"])) as source:
        layout = detect_layout(source, detector=timed)
    seconds = time.perf_counter() - began
    return Row(
        video=f"{truth_file.parent.name}/{truth['video']}",
        size=f"{truth['width']}x{truth['height']}",
        captions=len(truth["captions"]),
        traits=_traits(truth),
        frames_read=timed.frames,
        ocr_seconds=timed.seconds,
        seconds=seconds,
        **_compared(layout, truth),
    )


def _compared(layout: CaptionLayout | None, truth: dict[str, Any]) -> dict[str, Any]:
    captions = [Box(*caption["region"]) for caption in truth["captions"]]
    if not captions:
        return _captionless(layout)
    shares, height_ratio, width_ratio = _fit(layout.region if layout else None, captions)
    areas = [caption.width * caption.height for caption in captions]
    covered = sum(share * area for share, area in zip(shares, areas, strict=True)) / sum(areas)
    return {
        "found": layout is not None,
        "worst_share": min(shares),
        "captions_whole": sum(share >= WHOLE for share in shares),
        "misplaced": layout is not None and covered < 0.5,
        "height_ratio": height_ratio,
        "width_ratio": width_ratio,
        "anchor_right": layout is not None and layout.anchor == _anchor(truth),
        "other_regions": len(layout.other_regions) if layout else 0,
    }


def _captionless(layout: CaptionLayout | None) -> dict[str, Any]:
    return dict.fromkeys(("worst_share", "height_ratio", "width_ratio"), 0.0) | {
        "found": layout is not None,
        "captions_whole": 0,
        "misplaced": layout is not None,
        "anchor_right": layout is None,
        "other_regions": len(layout.other_regions) if layout else 0,
    }


def _fit(region: Box | None, captions: Sequence[Box]) -> tuple[list[float], float, float]:
    """Return the share of each caption inside, and height and width over those of the union; zeros without region."""
    if region is None:
        return [0.0] * len(captions), 0.0, 0.0
    height = max(caption.bottom for caption in captions) - min(caption.top for caption in captions)
    width = max(caption.right for caption in captions) - min(caption.left for caption in captions)
    shares = [_common_area(region, caption) / (caption.width * caption.height) for caption in captions]
    return shares, region.height / height, region.width / width


def _common_area(one: Box, other: Box) -> int:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(0, width) * max(0, height)


def _anchor(truth: dict[str, Any]) -> str:
    """Return the anchor, as `cb synth` or the libass set tell it."""
    details = truth["details"]
    told = details["style"]["anchor"] if "style" in details else details["slices"]["position"]
    return told if told in ANCHORS else "center"


def _traits(truth: dict[str, Any]) -> str:
    details = truth["details"]
    if "slices" in details:
        slices = details["slices"]
        return ", ".join(slices[name] for name in ("distractor", "position", "lines", "background", "script"))
    style = details["style"]
    place = [name for name, here in (("top", style["top"]), ("2 lines", style["max_lines"] == 2)) if here]
    return ", ".join([*details["distractors"], *place, style["anchor"]])


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Return the figures of all videos together."""
    captioned = [row for row in rows if row.captions]
    placed = [row for row in captioned if row.found and not row.misplaced]
    captions = sum(row.captions for row in rows)
    return {
        "videos": len(rows),
        "captions": captions,
        "captions_whole": sum(row.captions_whole for row in rows) / captions,
        "videos_whole": sum(row.captions_whole == row.captions for row in captioned) / len(captioned),
        "missed": sum(not row.found for row in captioned),
        "misplaced": sum(row.misplaced for row in captioned),
        "captionless_videos": len(rows) - len(captioned),
        "captionless_with_a_region": sum(row.found for row in rows if not row.captions),
        "anchor_right": sum(row.anchor_right for row in captioned) / len(captioned),
        "median_height_ratio": statistics.median(row.height_ratio for row in placed) if placed else 0.0,
        "largest_height_ratio": max((row.height_ratio for row in placed), default=0.0),
        "median_width_ratio": statistics.median(row.width_ratio for row in placed) if placed else 0.0,
        "frames_read_per_video": statistics.mean(row.frames_read for row in rows),
        "ocr_seconds_per_video": statistics.mean(row.ocr_seconds for row in rows),
        "seconds_per_video": statistics.mean(row.seconds for row in rows),
    }


def _table(rows: Sequence[Row]) -> Table:
    names = (
        "video",
        "size",
        "whole",
        "worst",
        "height",
        "width",
        "anchor",
        "others",
        "frames",
        "OCR s",
        "s",
        "traits",
    )
    table = Table(*names, box=None)
    for row in rows:
        missed = "missed" if row.captions else "empty"
        verdict = missed if not row.found else "misplaced" if row.misplaced else f"{row.worst_share:.2f}"
        table.add_row(
            row.video,
            row.size,
            f"{row.captions_whole}/{row.captions}",
            verdict,
            f"{row.height_ratio:.2f}",
            f"{row.width_ratio:.2f}",
            "right" if row.anchor_right else "wrong",
            str(row.other_regions),
            str(row.frames_read),
            f"{row.ocr_seconds:.1f}",
            f"{row.seconds:.1f}",
            row.traits,
        )
    return table


def main() -> None:
    """Parse arguments, measure, print a table and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of videos with their .truth.json")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    detector = RapidOcrDetector()
    truths = [file for folder in arguments.folders for file in sorted(folder.glob("*.truth.json"))]
    rows = [measure(file, detector) for file in truths]
    console = Console(width=170)
    console.print(_table(rows))
    console.print(summary(rows))
    if arguments.output:
        arguments.output.write_text(json.dumps(_document(rows), indent=2) + "\n")


def _document(rows: Sequence[Row]) -> dict[str, object]:
    return {
        "command": " ".join(["python", *sys.argv]),
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in PACKAGES},
        "summary": summary(rows),
        "rows": [asdict(row) for row in rows],
    }


if __name__ == "__main__":
    main()
