"""What the rule of strokes that stay (`cb_runtime.scene_cuts`) gets right and wrong, on a set with its truth beside it.

    python benchmarks/independent/strokes.py SET --output benchmarks/results/strokes.json

Two kinds of pairs of frames whose pictures differ as at a cut: neighbours that show one caption, and frames of one
video, any time apart, that show two. The share of each whose strokes correlate by `STAY` or more is printed: of the
first, splits that the rule takes back if the model makes them; of the second, changes that it would take back in the
same way if one came at a cut.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cb_core.data import find_videos
from cb_core.evaluation.run import true_layout, videos_with_truth
from cb_core.evaluation.truth import VideoTruth, read_video_truth
from cb_runtime.contract import Preprocessing
from cb_runtime.features import strip
from cb_runtime.scene_cuts import STAY, is_cut, strokes_alike
from cb_runtime.video import open_source
from cb_runtime.video.types import Image

EVERY = 7
"""Every so many frames of a caption are compared with those of others."""

PAIRS = 60
"""Pairs of frames of each video that are drawn."""


@dataclass(frozen=True)
class Correlations:
    """Of strokes, by what the two frames show."""

    one_caption: list[float] = field(default_factory=list)
    two_captions: list[float] = field(default_factory=list)


def captioned_strips(video: Path, truth: VideoTruth) -> Iterator[tuple[int, int, Image]]:
    """Give the captioned frames of a video: number, number of the caption, strip."""
    owner = {
        frame: number
        for number, caption in enumerate(truth.captions)
        for frame in range(caption.start_frame, caption.end_frame)
    }
    with closing(open_source(video)) as source:
        layout = true_layout(truth, source.info)
        if layout is None:
            return
        for number, frame in enumerate(source.frames(layout.region)):
            if number in owner:
                yield number, owner[number], strip(frame.image, Preprocessing(), layout.anchor).copy()


def measure(video: Path, truth: VideoTruth, rng: np.random.Generator, into: Correlations) -> None:
    """Add the correlations of one video."""
    kept: list[tuple[int, Image]] = []
    last = (-2, -1, np.zeros(0, np.uint8))
    for number, caption, picture in captioned_strips(video, truth):
        if last[:2] == (number - 1, caption) and is_cut(last[2], picture):
            into.one_caption.append(strokes_alike(last[2], picture))
        if number % EVERY == 0:
            kept.append((caption, picture))
        last = number, caption, picture
    for _ in range(PAIRS if len(kept) > 1 else 0):
        (one, before), (other, after) = (kept[place] for place in rng.choice(len(kept), 2, replace=False))
        if truth.captions[one].text != truth.captions[other].text and is_cut(before, after):
            into.two_captions.append(strokes_alike(before, after))


def main() -> None:
    """Measure all videos of a set, print, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, help="folder of videos with their truth beside them")
    parser.add_argument("--seed", type=int, default=0, help="decides which frames are drawn")
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    found, rng = Correlations(), np.random.default_rng(arguments.seed)
    for video, truth in videos_with_truth(find_videos(arguments.set))[0]:
        measure(video, read_video_truth(truth, video), rng, found)
    document = {
        "command": f"python benchmarks/independent/strokes.py {arguments.set.name} --seed {arguments.seed}",
        "stay": STAY,
        **{name: _summary(values) for name, values in vars(found).items()},
    }
    json.dump(document, sys.stdout, indent=2)
    if arguments.output:
        arguments.output.write_text(json.dumps(document, indent=2) + "\n")


def _summary(values: list[float]) -> dict[str, object]:
    quantiles = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    return {
        "pairs": len(values),
        "share_that_stays": float(np.mean(np.array(values) >= STAY)) if values else None,
        "quantiles": dict(zip(map(str, quantiles), np.quantile(values, quantiles).tolist(), strict=True))
        if values
        else None,
    }


if __name__ == "__main__":
    main()
