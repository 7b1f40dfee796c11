"""Ways to score all consecutive pairs of a video in both directions; all start from the same uint8 strips in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cb_core.registry import create_model_for_weights
from cb_runtime.contract import Preprocessing
from cb_runtime.features import VideoInputs
from cb_runtime.scoring import score_strips
from cb_runtime.session import open_session

Strips = Sequence[NDArray[np.uint8]]
Contender = Callable[[Strips], NDArray[np.float32]]
"""Strips of n frames to label probabilities `(n - 1, 2, 5)`: forward and backward."""


def pytorch_loop(architecture: torch.nn.Module, inputs: VideoInputs, preprocessing: Preprocessing) -> Contender:
    """Return the loop a user would write: one pair at a time, each direction, every picture prepared each time."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (preprocessing.mean, preprocessing.std))

    def picture(image: NDArray[np.uint8]) -> torch.Tensor:
        return ((torch.from_numpy(image).permute(2, 0, 1).float() / 255 - mean) / std).unsqueeze(0)

    def one(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> torch.Tensor:
        vectors = (torch.from_numpy(v).unsqueeze(0) for v in (inputs.spatial_features, inputs.font_embedding))
        logits = architecture(picture(inputs.ocr_viz), picture(first), picture(second), *vectors)
        return torch.softmax(logits, dim=1)[0]

    def run(strips: Strips) -> NDArray[np.float32]:
        pairs = itertools.pairwise(strips)
        with torch.inference_mode():
            return torch.stack([torch.stack((one(a, b), one(b, a))) for a, b in pairs]).numpy()

    return run


def runtime_on(artifact: Path, inputs: VideoInputs, batch_size: int) -> Contender:
    """Return our runtime on an exported artifact."""
    session = open_session(artifact, device="cpu")

    def run(strips: Strips) -> NDArray[np.float32]:
        scores = score_strips(session, iter(strips), inputs, batch_size=batch_size)
        return np.stack((scores.forward, scores.backward), axis=1)

    return run


def random_architecture(name: str, seed: int = 0) -> torch.nn.Module:
    """Return an architecture with random weights, in eval mode: speed does not depend on what it learnt."""
    torch.manual_seed(seed)
    return create_model_for_weights(name, {}).eval()
