"""Strips with drawn captions, and a model that knows which caption each shows: the strip's first pixel says it."""

import cv2
import numpy as np

from cb_runtime.contract import LABELS, ModelMetadata
from cb_runtime.session import softmax

SHAPE = (48, 480, 3)
TEXTS = {0: "", 1: "What is it like here?", 2: "What is it like hers?", 3: "Over there."}
"""Caption number to text; 1 and 2 differ in one letter."""


def strip_with(caption, background=90, opacity=1.0, noise=0.0, seed=0):
    """Return a strip that shows a caption over a background: a grey level, or a strip to draw on."""
    plain = np.empty(SHAPE, np.uint8)
    plain[...] = background
    drawn = plain.copy()
    place = {"org": (60, 34), "fontFace": cv2.FONT_HERSHEY_SIMPLEX, "fontScale": 0.9}
    cv2.putText(drawn, TEXTS[caption], color=(0, 0, 0), thickness=5, **place)
    cv2.putText(drawn, TEXTS[caption], color=(250, 250, 250), thickness=2, **place)
    mixed = plain * (1 - opacity) + drawn * opacity
    if noise:
        mixed += np.random.default_rng(seed).normal(0, noise, SHAPE)
    strip = np.clip(np.round(mixed), 0, 255).astype(np.uint8)
    strip[0, 0] = caption if opacity >= 0.5 else 0
    return strip


def strips_of_runs(*runs, noise=0.0):
    """Return strips from `(caption, frames)` runs; with noise each is different."""
    captions = [caption for caption, frames in runs for _ in range(frames)]
    return [strip_with(caption, noise=noise, seed=frame) for frame, caption in enumerate(captions)]


def moving_background(frame, pixels=3):
    """Return a texture that moves by some pixels a frame."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(40, 160, (16, 400, 3), np.uint8), (4000, 48), interpolation=cv2.INTER_LINEAR)
    return texture[:, frame * pixels : frame * pixels + SHAPE[1]]


def boundaries(scores):
    """Return the frames at which the model says that something changes."""
    return (1 + np.flatnonzero(~np.isin(scores.forward.argmax(axis=1), (0, 2)))).tolist()


class KnowingExecutor:
    """Knows each strip's caption, and keeps how many pairs it was asked and which strips it saw."""

    def __init__(self, sureness=12.0):
        self.metadata, self.sureness = ModelMetadata("fake"), sureness
        self.pairs, self.batches, self.seen = 0, [], set()

    def run(self, feeds):
        one, other = (feeds[name][:, 0, 0, 0].astype(int) for name in ("frame1", "frame2"))
        self.pairs += len(one)
        self.batches.append(len(one))
        self.seen |= {strip.tobytes() for name in ("frame1", "frame2") for strip in feeds[name]}
        return logits_of(one, other, self.sureness)

    def describe(self):
        return {"backend": "fake", "device": "cpu", "reason": "test"}


class KnowingStages:
    """The same in two steps: features are a strip's first pixel and its mean, which make each strip's its own."""

    def __init__(self):
        self.roles = {"ocr_viz": "picture", "frame1": "frame", "frame2": "frame"}
        self.encoded = self.pairs = 0
        self.resident = None

    def encode(self, role, pictures):
        self.encoded += len(pictures) * (role != "ocr_viz")
        return np.stack([pictures[:, 0, 0, 0], pictures.mean(axis=(1, 2, 3))], axis=1).astype(np.float32)

    def classify(self, inputs):
        one, other = inputs["frame1_features"], inputs["frame2_features"]
        self.pairs += len(one)
        rounding = 1e-3 * (one[:, 1] - 2 * other[:, 1])  # so that every pair of strips has an answer of its own
        return logits_of(one[:, 0].astype(int), other[:, 0].astype(int), 12 + rounding)


class StagedExecutor(KnowingExecutor):
    """Has a staged graph too."""

    def __init__(self):
        super().__init__()
        self.stages = KnowingStages()


def logits_of(one, other, sureness):
    """Return logits from caption numbers."""
    labels = np.where(one == 0, np.where(other == 0, 2, 3), np.where(other == 0, 4, np.where(one == other, 0, 1)))
    return (np.eye(len(LABELS), dtype=np.float32)[labels].T * sureness).T.astype(np.float32)


def probabilities_of(one, other, sureness=12.0):
    """Return label probabilities from caption numbers."""
    return softmax(logits_of(np.asarray(one), np.asarray(other), sureness))
