"""What contenders run on: exported models, one rendered video and its strips. Made once in a folder, then kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.precision_models import Subject, subject_of
from cb_core.checkpoint import load_checkpoint, model_from_checkpoint
from cb_core.synth.collection import render_videos
from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_export.trt.options import EngineOptions
from cb_runtime.contract import ModelMetadata
from cb_runtime.features import VideoInputs, strip, video_inputs
from cb_runtime.layout import CaptionLayout, caption_layout
from cb_runtime.layout.layout import layout_from_dict
from cb_runtime.video import open_source

Strips = NDArray[np.uint8]
"""uint8 RGB `(frames, 48, 480, 3)`."""

SIZE, RATE, SEED = (1280, 720), Fraction(25), 5
"""Of the video: 720p."""


@dataclass(frozen=True)
class Material:
    """The material of one architecture in a folder; each part is made when it is first asked for."""

    folder: Path
    architecture: str
    seconds: float
    """Length of the video."""
    seed: int = SEED
    """Of the video."""
    trained: Mapping[str, Path] = field(default_factory=dict)
    """Checkpoints of architectures that were trained; others are as `precision_models` has them."""

    @cached_property
    def subject(self) -> Subject:
        """The checkpoint that is exported, with its golden samples."""
        return subject_of(self.architecture, self.trained, self.folder)

    def artifact(self, precision: str, engine: EngineOptions | None = None) -> Path:
        """Return the ONNX file in a precision, with its staged graph beside it, or an engine as it is asked for.

        The gate's verdict stands in it.
        """
        path = self.folder / f"{self.architecture}_{precision}.{'onnx' if engine is None else 'engine'}"
        if not path.is_file():
            # Networks that learnt nothing are measured too, so that a failed gate is a figure here and no obstacle.
            options = ExportOptions(
                format="onnx" if engine is None else "trt",
                precision=precision,
                golden=self.subject.golden,
                allow_parity_failure=True,
                batches=(1, 16),
                engine=engine or EngineOptions(),
            )
            export_checkpoint(self.subject.checkpoint, path, options)
        return path

    @cached_property
    def model(self) -> torch.nn.Module:
        """The PyTorch architecture, in eval mode."""
        return model_from_checkpoint(load_checkpoint(self.subject.checkpoint)).eval()

    @cached_property
    def video(self) -> Path:
        """The rendered video, its truth beside it."""
        folder = self.folder / f"video_{self.seconds:g}_{self.seed}"
        (video,) = render_videos(folder, videos=1, seconds=self.seconds, seed=self.seed, size=SIZE, frame_rate=RATE)
        return video

    @cached_property
    def layout(self) -> CaptionLayout:
        """The video's layout, as text detection finds it."""
        kept = self.video.with_suffix(".layout.json")
        if kept.is_file():
            return layout_from_dict(json.loads(kept.read_text()))
        with closing(open_source(self.video)) as source:
            layout = caption_layout(source)
        if layout is None:
            raise SystemExit(f"No caption region was found in {self.video}: choose another seed.")
        kept.write_text(json.dumps(layout.to_dict()))
        return layout

    @cached_property
    def inputs(self) -> VideoInputs:
        """The inputs that all pairs of the video share."""
        metadata = ModelMetadata(self.architecture)
        return video_inputs(self.layout, metadata.preprocessing, metadata.ocr_viz_variant)

    def strips(self, frames: int) -> Strips:
        """Return the strips of the first frames, which show captions that come and go."""
        preprocessing = ModelMetadata(self.architecture).preprocessing
        with closing(open_source(self.video)) as source:
            given = zip(range(frames), source.frames(self.layout.region), strict=False)
            strips = [strip(frame.image, preprocessing, self.layout.anchor) for _, frame in given]
        if len(strips) < frames:
            raise SystemExit(f"The video has {len(strips)} frames, {frames} are wanted: give more --seconds.")
        return np.stack(strips)


@contextmanager
def kept_folder(work: Path | None) -> Iterator[Path]:
    """Give the folder asked for, which stays, or a temporary one."""
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
