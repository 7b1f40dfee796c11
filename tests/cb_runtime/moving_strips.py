"""Strips that move, and scores of them: what tests of features that stay on a GPU compare."""

import numpy as np

from cb_runtime.features import VideoInputs
from cb_runtime.scoring import score_strips

SHAPE = (48, 480, 3)
DISTANCES = (1, 2, 3, 8)
INPUTS = VideoInputs(np.full(SHAPE, 7, np.uint8), np.linspace(0, 1, 6, dtype=np.float32), np.zeros(512, np.float32))
VECTORS = {"spatial_features": np.zeros((3, 6), np.float32), "font_embedding": np.zeros((3, 512), np.float32)}


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)


def moving(frames, still=()):
    """Strips of which each is its own, but for those that are equal to the one before."""
    strips = list(pictures(frames))
    for index in still:
        strips[index] = strips[index - 1]
    return strips


def score(session, strips, **options):
    return score_strips(session, strips, INPUTS, **({"distances": DISTANCES, "batch_size": 4} | options))
