"""Truths made by hand, for the tests of evaluations."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from cb_core.data.timeline import EMPTY, Timeline
from cb_core.evaluation.truth import TrueCaption, VideoTruth
from cb_runtime.spans import Span

BASE = Fraction(1, 1000)


def truth_of(captions, pts=None, frames=100):
    """Return the truth of a video at 25 frames/s, or with the given times in ms; captions are `TrueCaption`s."""
    times = np.array(pts if pts is not None else range(0, 40 * frames, 40), np.int64)
    states = np.full(len(times), EMPTY, np.int64)
    for index, caption in enumerate(captions):
        states[caption.start_frame : caption.end_frame] = index
    return VideoTruth(Path("x.truth.json"), Timeline(times, int(times[-1]) + 40, BASE), tuple(captions), states, {})


def captions_at(*spans):
    """Return captions with unlike texts on frames `[start, end)`."""
    return [TrueCaption(start, end, "abcdefgh"[: index + 1]) for index, (start, end) in enumerate(spans)]


def spans_at(*spans, scores=(1.0, 1.0)):
    """Return predicted captions on frames `[start, end)`."""
    start_score, end_score = scores
    return [Span(40 * a, 40 * b, BASE, a, b, start_score=start_score, end_score=end_score) for a, b in spans]


def write_truth(video, captions, frames, region, slices=None):
    """Write a ground truth beside a video of 25 frames/s."""
    document = {
        "schema": 1,
        "time_base": [1, 25],
        "pts": list(range(frames)),
        "end_pts": frames,
        "captions": [
            {
                "start_frame": start,
                "end_frame": end,
                "text": f"caption {start}",
                "fade_in": None,
                "fade_out": None,
                "region": list(region),
            }
            for start, end in captions
        ],
        "details": {"slices": slices or {"codec": "h264"}},
    }
    path = video.with_name(f"{video.stem}.truth.json")
    path.write_text(json.dumps(document))
    return path
