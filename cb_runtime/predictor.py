"""`BoundaryPredictor`: from a video to its captions' times, the one class a service needs."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.contract import Decoding, ModelMetadata
from cb_runtime.decoding import DecodeOptions, contradictions, decode_spans
from cb_runtime.errors import ContractError, UsageError
from cb_runtime.fades import StripProducts
from cb_runtime.features import VideoInputs, strip, video_inputs
from cb_runtime.files import sha256_of_file
from cb_runtime.fonts import FontEncoder
from cb_runtime.layout import CaptionLayout, caption_layout
from cb_runtime.layout.ocr import TextDetector
from cb_runtime.models import default_model_path
from cb_runtime.progress import Progress, no_progress
from cb_runtime.results import CaptionTrack
from cb_runtime.scoring import PairScores, no_scores, score_strips
from cb_runtime.session import open_session
from cb_runtime.skipping import Skipping
from cb_runtime.video import open_source
from cb_runtime.video.types import FrameSource, Image, VideoInfo

CPU_BATCH, GPU_BATCH = 16, 128
"""Pairs per run of the model by default: on a CPU larger batches gain nothing, a GPU needs more to be busy."""

NO_TEXT = (
    "No text like a caption's was seen in the sampled frames, so no frame was scored. If there are captions, give "
    "their region with --region LEFT,TOP,RIGHT,BOTTOM."
)


@dataclass(frozen=True, eq=False)
class ScoredVideo:
    """One video whose pairs are scored: everything that decoding needs, so that it can be decoded again."""

    video: VideoInfo
    layout: CaptionLayout | None
    """None when no sampled frame showed text; then nothing was scored."""
    pts: Sequence[int]
    """Presentation time stamp of each of n frames, in units of `video.time_base`."""
    durations: Sequence[int]
    """How long each frame is shown, in the same units; 0 when unknown."""
    scores: PairScores
    """Label probabilities of the pairs of frames."""
    partial: bool
    """True when parts of the video could not be read."""
    messages: tuple[str, ...]
    """What the user should know; one line each."""
    seconds: float
    """Time that decoding the video, preparing strips and scoring took."""
    products: StripProducts | None = None
    """What fades are found by; None where no strip was made."""


@dataclass(frozen=True, eq=False)
class FontEmbedding:
    """The caption style of one video as a picture encoder sees it."""

    values: NDArray[np.float32]
    """float32 `(512,)`."""
    font_model: str
    """Identifier of the encoder; must be the one of training (`metadata.fontclip_model_version`)."""


class BoundaryPredictor:
    """A model that finds captions in videos.

    Args:
        path: An artifact (`.onnx`), a package (`.cbx`), or a checkpoint (`.pt`) where PyTorch is
            installed; None: the model in the box.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; only `auto` chooses.
        threads: CPU threads for arithmetic; None lets the engine choose.
        batch_size: Pairs per run of the model; None takes `CPU_BATCH` or `GPU_BATCH`. Results do not depend on it.
        plugins: Python files that register architectures, for checkpoints.
        font_encoder: Embeds caption styles, for models trained with font embeddings; see `load_font_encoder`.
        reuse: Encode each frame once where the artifact has a staged graph beside it; False encodes it for each pair.
        public_key: PEM file of the ed25519 key that must have signed a package.
        skip: Frames that share the work of a frame before: `none`; `equal`, where strips are equal to the bit, which
            changes no result; or `noise`, where they differ by no more than noise.
        coarse: First distance of a coarse-to-fine search, in frames: 2, 4, 8 or 16; 1 scores all pairs.

    Raises what `open_session` raises, and UsageError for a batch size below 1 or for `skip` and `coarse`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        device: str = "auto",
        *,
        threads: int | None = None,
        batch_size: int | None = None,
        plugins: Sequence[str | Path] = (),
        font_encoder: FontEncoder | None = None,
        reuse: bool = True,
        public_key: str | Path | None = None,
        skip: str = Skipping.skip,
        coarse: int = Skipping.coarse,
    ) -> None:
        self.skipping = Skipping(skip, coarse)
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"--batch must be 1 or more, got {batch_size}.")
        self.path = default_model_path() if path is None else Path(path)
        self.session = open_session(
            self.path, device=device, threads=threads, plugins=plugins, reuse=reuse, public_key=public_key
        )
        self.batch_size = batch_size or (CPU_BATCH if self.session.device == "cpu" else GPU_BATCH)
        self._font_encoder = font_encoder
        if font_encoder is not None:
            self._check_font_model(font_encoder.version)

    @property
    def metadata(self) -> ModelMetadata:
        """The contract of the model."""
        return self.session.metadata

    @cached_property
    def model(self) -> dict[str, Any]:
        """What results say of the model: file name, SHA-256, architecture, backend, device and why this device."""
        own = {"name": self.path.name, "sha256": sha256_of_file(self.path)}
        return {**own, "architecture": self.metadata.architecture_name, **self.session.describe()}

    def predict_pairs(self, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return label probabilities, float32 `(n, 5)`, of n prepared pairs.

        `Session.run` says what inputs are: NumPy arrays, or arrays of other libraries that offer DLPack. Any n is run
        in batches of `batch_size`. Raises ContractError for inputs the model does not take.
        """
        feeds = self.session.feeds(inputs)
        count = self.session.checked_batch(feeds)
        starts = range(0, max(count, 1), self.batch_size)
        batches = [{name: value[at : at + self.batch_size] for name, value in feeds.items()} for at in starts]
        return np.concatenate([self.session.probabilities(batch) for batch in batches])

    def predict_video(
        self,
        path: str | Path,
        *,
        region: str | None = None,
        layout_file: str | Path | None = None,
        min_frames: int | None = None,
        change_penalty: float | None = None,
        distances: tuple[int, ...] | None = None,
        font_embedding: FontEmbedding | None = None,
        detector: TextDetector | None = None,
        progress: Progress = no_progress,
    ) -> CaptionTrack:
        """Find the captions of one video file or video database.

        Args:
            path: A video, or a video database (`.db`) with its stored layout.
            region: Caption region `left,top,right,bottom` in pixels or fractions of the frame; None detects it.
            layout_file: A JSON layout; not together with `region`.
            min_frames: Least length of a caption; this and the next two take the model's own `Decoding` when None.
            change_penalty: How sure a change from caption to caption must be; see `Decoding`.
            distances: Distances of the pairs that are scored and decoded; see `Decoding`.
            font_embedding: The video's caption style, for models trained with one, in place of the `font_encoder`'s.
            detector: Finds text for the layout; rapidocr when left out.
            progress: Told about every batch of frames.

        Returns:
            Captions in time order, `partial` when some of the video could not be decoded.

        Raises:
            UsageError: Options out of range; and what `score_video` raises.
        """
        options = DecodeOptions(min_frames, change_penalty, distances)
        scored = self.score_video(
            path,
            region=region,
            layout_file=layout_file,
            distances=distances,
            font_embedding=font_embedding,
            detector=detector,
            progress=progress,
        )
        return self.decode(scored, options)

    def score_video(
        self,
        path: str | Path,
        *,
        region: str | None = None,
        layout_file: str | Path | None = None,
        distances: tuple[int, ...] | None = None,
        font_embedding: FontEmbedding | None = None,
        detector: TextDetector | None = None,
        progress: Progress = no_progress,
    ) -> ScoredVideo:
        """Score the pairs of one video file or video database; arguments as in `predict_video`.

        Raises:
            InputError: The video or layout cannot be read.
            UsageError: A region that does not fit.
            ContractError: The model needs a font embedding that was not given, or was given one it does not use.
            MissingPackageError: The layout had to be detected and rapidocr is not installed.
        """
        if font_embedding is not None:
            self._check_font_model(font_embedding.font_model)
        elif self._font_encoder is None:
            self._check_font_model(None)
        file = None if layout_file is None else Path(layout_file)
        distances = distances or self.metadata.decoding.distances
        with closing(open_source(path)) as source:
            layout = caption_layout(source, region=region, layout_file=file, detector=detector, progress=progress)
            if layout is None:
                nothing = no_scores(distances)
                return ScoredVideo(source.info, None, (), (), nothing, source.report.partial, (NO_TEXT,), 0.0)
            font = self._font(font_embedding, source, layout)
            inputs = video_inputs(layout, self.metadata.preprocessing, self.metadata.ocr_viz_variant, font)
            return self._scored(source, layout, inputs, distances, progress)

    def decode(self, scored: ScoredVideo, options: DecodeOptions | Decoding | None = None) -> CaptionTrack:
        """Return the captions that a scored video's probabilities give.

        Options replace parts of the model's own `Decoding`, at the distances that were scored unless they say others; a
        `Decoding` replaces all of it. Raises UsageError for a distance that was not scored.
        """
        decoding = options if isinstance(options, Decoding) else self._decoding(scored, options or DecodeOptions())
        scores, time_base = scored.scores, scored.video.time_base
        spans = decode_spans(scored.pts, scored.durations, time_base, scores, decoding, scored.products)
        statistics = {"frames": 0} if scored.layout is None else self._statistics(scored)
        return CaptionTrack(
            scored.video, tuple(spans), scored.layout, scored.partial, scored.messages, self.model, statistics
        )

    def _decoding(self, scored: ScoredVideo, options: DecodeOptions) -> Decoding:
        if options.distances is None:
            options = replace(options, distances=scored.scores.distances)
        return options.applied_to(self.metadata.decoding)

    def _scored(
        self,
        source: FrameSource,
        layout: CaptionLayout,
        inputs: VideoInputs,
        distances: tuple[int, ...],
        progress: Progress,
    ) -> ScoredVideo:
        pts, durations, products = array("q"), array("q"), StripProducts()
        began = time.perf_counter()
        scores = score_strips(
            self.session,
            self._strips(source, layout, pts, durations, products),
            inputs,
            distances=distances,
            batch_size=self.batch_size,
            skipping=self.skipping,
            total=source.info.frame_count,
            progress=progress,
        )
        seconds = time.perf_counter() - began
        messages = (*source.report.messages, *_shortness(len(pts)), *layout.doubts(), *self._ocr_shift(layout))
        partial = source.report.partial
        return ScoredVideo(source.info, layout, pts, durations, scores, partial, messages, seconds, products)

    def _strips(
        self,
        source: FrameSource,
        layout: CaptionLayout,
        pts: array[int],
        durations: array[int],
        products: StripProducts,
    ) -> Iterator[Image]:
        """Give a strip per frame as they are decoded, noting the frames' times and what fades are found by."""
        for frame in source.frames(layout.region):
            pts.append(frame.pts)
            durations.append(frame.duration)
            picture = strip(frame.image, self.metadata.preprocessing, layout.anchor)
            products.add(picture)
            yield picture

    def _statistics(self, scored: ScoredVideo) -> dict[str, Any]:
        frames, scores = len(scored.pts), scored.scores
        return {
            "frames": frames,
            "frames_encoded": scores.frames_encoded,
            "pairs": scores.count,
            "pairs_scored": scores.pairs_scored,
            "distances": list(scores.distances),
            "contradictions": int(contradictions(scores).sum()),
            "batch_size": self.batch_size,
            "skipping": self.skipping.to_dict(),
            "seconds": round(scored.seconds, 3),
            "frames_per_second": round(frames / max(scored.seconds, 1e-9), 1),
        }

    def _check_font_model(self, found: str | None) -> None:
        wanted = self.metadata.fontclip_model_version if self.metadata.use_font_embedding else None
        if wanted is None and found is not None:
            raise ContractError(f"{self.path.name} uses no font embedding. Leave the font model or embedding out.")
        if wanted != found:
            raise ContractError(
                f"{self.path.name} was trained with font embeddings of '{wanted}' and was given "
                f"{'none' if found is None else repr(found)}. Give the same encoder's weights (--font-model), or "
                "predict_video(font_embedding=...) the video's embedding by it, or train without."
            )

    def _font(
        self, given: FontEmbedding | None, source: FrameSource, layout: CaptionLayout
    ) -> NDArray[np.float32] | None:
        if given is not None:
            return given.values
        return None if self._font_encoder is None else self._font_encoder.embedding_of(source, layout)

    def _ocr_shift(self, layout: CaptionLayout) -> Iterator[str]:
        trained = (self.metadata.ocr_engine, self.metadata.ocr_engine_version)
        found = (layout.ocr_engine, layout.ocr_engine_version)
        # Without an engine in training its pictures were no engine's in particular.
        if trained != found and self.metadata.ocr_engine is not None:
            yield (
                f"The model was trained with boxes from {_engine(*trained)}, this layout has boxes from "
                f"{_engine(*found)}: results may be worse."
            )


def _engine(name: str | None, version: str | None) -> str:
    return "no OCR engine" if name is None else f"{name} {version or 'of unknown version'}"


def _shortness(frames: int) -> Iterator[str]:
    if frames < 2:
        yield f"Frames in the video: {frames}. A boundary stands between two frames, so it has none."
