"""Ways to score all consecutive pairs of a video in both directions; all start from the same uint8 strips in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cb_core.deployment import DeploymentModel
from cb_core.registry import create_model_for_weights
from cb_export.graph import trace
from cb_export.merge import merge_lora
from cb_export.targets import TargetOptions, load_target
from cb_runtime.contract import ModelMetadata, Preprocessing
from cb_runtime.features import VideoInputs, video_inputs
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout
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
    session = open_session(artifact, device="cpu", measure=False)

    def run(strips: Strips) -> NDArray[np.float32]:
        scores = score_strips(session, iter(strips), inputs, distances=(1,), batch_size=batch_size)
        return np.stack((scores.forward, scores.backward), axis=1)

    return run


def random_architecture(name: str, seed: int = 0) -> torch.nn.Module:
    """Return an architecture with random weights, in eval mode: speed does not depend on what it learnt."""
    torch.manual_seed(seed)
    return create_model_for_weights(name, {}).eval()


def onnx_file(architecture: torch.nn.Module, name: str, path: Path) -> Path:
    """Export an architecture with the weights it has: LoRA merged, as `cb export` does it."""
    example = {key: torch.zeros(1, *shape, dtype=dtype) for key, (shape, dtype) in _graph_inputs().items()}
    merged, _ = merge_lora(DeploymentModel(architecture).eval(), example)
    load_target("onnx").build(trace(merged), ModelMetadata(name), TargetOptions(), path)
    return path


def _graph_inputs() -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    metadata = ModelMetadata("any")
    return {spec.name: (tuple(map(int, spec.shape[1:])), getattr(torch, spec.dtype)) for spec in metadata.inputs}


def moving_strips(frames: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Return strips of a texture that moves by a pixel a frame."""
    height, width, _ = Preprocessing().strip_shape
    texture = np.random.default_rng(seed).integers(0, 256, (height, width + frames, 3), dtype=np.uint8)
    return [np.ascontiguousarray(texture[:, start : start + width]) for start in range(frames)]


def centred_layout_inputs() -> VideoInputs:
    """Return the inputs of a video with centred captions low in a 1280 x 720 frame."""
    box = Box(340, 610, 940, 660)
    layout = CaptionLayout(1280, 720, Box(192, 600, 1088, 670), "center", (box,), 1, "boxes")
    return video_inputs(layout, Preprocessing(), "boundaries")
