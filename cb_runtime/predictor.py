"""`BoundaryPredictor`: from a video to its captions' times, the one class a service needs."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import device_from_text
from cb_runtime.contract import Decoding, ModelMetadata
from cb_runtime.cores import usable_cores
from cb_runtime.engine_choice.workload import CPU_BATCH, GPU_BATCH
from cb_runtime.errors import ContractError, UsageError
from cb_runtime.files import sha256_of_file
from cb_runtime.models import default_model_path
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import PACKAGE, open_session
from cb_runtime.skipping import USUAL, Skipping

if TYPE_CHECKING:
    from cb_runtime.decoding import DecodeOptions
    from cb_runtime.fonts import FontEmbedding, FontEncoder
    from cb_runtime.layout import CaptionLayout
    from cb_runtime.layout.ocr import TextDetector
    from cb_runtime.many_videos import VideoOptions, VideoProgress, VideoResult
    from cb_runtime.pipeline import Profile
    from cb_runtime.results import CaptionTrack
    from cb_runtime.scored_video import ScoredVideo
    from cb_runtime.video.types import FrameSource

# What only videos need is imported where it is used: a service that scores pairs starts without it.


class BoundaryPredictor:
    """A model that finds captions in videos.

    Args:
        path: An artifact (`.onnx`), a package (`.cbx`), or a checkpoint (`.pt`) where PyTorch is
            installed; None: the model in the box.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; only `auto` chooses.
        backend: `auto`, `onnxruntime` or `openvino`; this and the next four as `open_session` takes them.
        precision: `auto`, or the arithmetic.
        threads: CPU threads for arithmetic; None lets the engine choose.
        streams: How many batches, or pieces of one, OpenVINO computes at once.
        measure: Take the fastest of the ways that these leave open.
        batch_size: Pairs per run of the model; None takes `CPU_BATCH`, or on a GPU what `measure` finds, else
            `GPU_BATCH`. Results do not depend on it.
        plugins: Python files that register architectures, for checkpoints.
        font_encoder: Embeds caption styles, for models trained with font embeddings; see `load_font_encoder`.
        reuse: Encode each frame once where the artifact has a staged graph beside it; False encodes it for each pair.
        public_key: PEM file of the ed25519 key that must have signed a package.
        skip: Frames that share the work of a frame before: `none`; `equal`, where strips are equal to the bit, which
            changes no result; or `noise`, where they differ by no more than noise.
        coarse: First distance of a coarse-to-fine search, in frames: 2, 4, 8 or 16; 1 scores all pairs.
        closer: Look once more, at pieces of the region, at changes from caption to caption that are in doubt.

    Raises what `open_session` raises, and UsageError for a batch size below 1 or for `skip` and `coarse`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        device: str = "auto",
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        streams: int | None = None,
        measure: bool = True,
        batch_size: int | None = None,
        plugins: Sequence[str | Path] = (),
        font_encoder: FontEncoder | None = None,
        reuse: bool = True,
        public_key: str | Path | None = None,
        skip: str = USUAL.skip,
        coarse: int = USUAL.coarse,
        closer: bool = USUAL.closer,
    ) -> None:
        self.skipping = Skipping(skip, coarse, closer)
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"--batch must be 1 or more, got {batch_size}.")
        self.path = default_model_path() if path is None else Path(path)
        self.session = open_session(
            self.path,
            device=device,
            backend=backend,
            precision=precision,
            threads=threads,
            streams=streams,
            measure=measure,
            plugins=plugins,
            reuse=reuse,
            public_key=public_key,
        )
        self.batch_size, self._batch_why = batch_size or CPU_BATCH, ""
        if batch_size is None and self.session.device != "cpu":
            self.batch_size, self._batch_why = self._gpu_batch(measure)
        self._font_encoder = font_encoder
        self._halt: threading.Event | None = None
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
        told = {"batch_size_reason": self._batch_why} if self._batch_why else {}
        return {**own, "architecture": self.metadata.architecture_name, **self.session.describe(), **told}

    def _gpu_batch(self, measure: bool) -> tuple[int, str]:
        if not measure or self.path.suffix.lower() == PACKAGE:
            return GPU_BATCH, ""
        from cb_runtime.engine_choice.batch_size import measured_batch_size

        found = measured_batch_size(self.path, self.session)
        return found.size, found.why

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
        timeout: float | None = None,
        decode_threads: int | None = None,
        decoder: str = "cpu",
        overlap: bool | None = None,
        profile: Profile | None = None,
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
            timeout: Seconds after which no further frame is taken: what was taken until then (some batches are under
                way) is scored and decoded, and the result is partial.
            decode_threads: Threads that decode a video file on the CPU; None chooses by the number of cores.
            decoder: What decodes a video file: `auto`, `cpu`, or `nvdec` for the model's GPU, the first without one.
            overlap: Decode, prepare strips, encode and classify at the same time, each in a thread of its own; None:
                where there is more than one core, or a GPU. Results are the same.
            profile: Told what each stage does with its time.
            progress: Told about every batch of frames.

        Returns:
            Captions in time order, `partial` when some of the video could not be decoded, or not in time.

        Raises:
            UsageError: Options out of range; and what `score_video` raises.
        """
        from cb_runtime.decoding import DecodeOptions
        from cb_runtime.pipeline import counted, working

        options = DecodeOptions(min_frames, change_penalty, distances)
        scored = self.score_video(
            path,
            region=region,
            layout_file=layout_file,
            distances=distances,
            font_embedding=font_embedding,
            detector=detector,
            timeout=timeout,
            decode_threads=decode_threads,
            decoder=decoder,
            overlap=overlap,
            profile=profile,
            progress=progress,
        )
        with working(profile, "spans", streaming=False):
            counted(len(scored.pts))
            return self.decode(scored, options)

    def predict_videos(
        self,
        paths: Sequence[str | Path],
        *,
        jobs: int = 1,
        progress: Progress = no_progress,
        **options: Unpack[VideoOptions],
    ) -> Generator[VideoResult, None, None]:
        """Find the captions of many videos; give each one's result in the order given, as soon as it is there.

        Several at once share the model, and what they ask of it at the same time is run together. Captions are those of
        one video after another; as batches are joined otherwise each time, probabilities may differ in the last bits.
        Close the iterator to end early.

        Args:
            paths: Videos and video databases.
            jobs: Videos at once. The stages of one video run beside each other already: on two cores a frame costs the
                same CPU time with one job or two, so that more help where cores would be idle.
            progress: Told about every batch of frames of every video, with the video's place and name in the phase;
                from several threads.
            options: As in `predict_video`, for each video. A `detector` must bear being called from several threads.

        Returns:
            Results in order. A video that cannot be read or used has its error in its own result.

        Raises:
            UsageError: Less than one job, an unknown decoder, or NVDEC on a machine without it.
            ModelError and others: What is wrong with the model or a missing package ends all.
        """
        from cb_runtime.many_videos import check_jobs, on_videos, result_of, told_apart
        from cb_runtime.video import check_decoder

        check_jobs(jobs)
        check_decoder(options.get("decoder", "cpu"))
        videos = [Path(path) for path in paths]
        items = list(zip(videos, told_apart(progress, videos), strict=True))

        def work(predictor: BoundaryPredictor, item: tuple[Path, VideoProgress]) -> VideoResult:
            return result_of(predictor, item, options)

        return on_videos(self, work, items, jobs, options.get("profile"))

    @contextmanager
    def shared(self, halt: threading.Event, profile: Profile | None = None) -> Iterator[BoundaryPredictor]:
        """Give a predictor like this one for several threads at once: what they ask of the model is run together.

        When `halt` is set, whatever works on a video raises `Halted` soon. A `profile` is told what the model does.
        """
        from cb_runtime.pipeline.batcher import Batcher

        _ = self.model  # read the file once, not in every thread
        with Batcher(self.batch_size, profile) as batcher:
            other = copy(self)
            other.session, other._halt = batcher.session(self.session), halt
            yield other

    def told(self, progress: Progress) -> Progress:
        """Return `progress` for work beside the scoring of a video: as that does, it ends when all is to end."""
        from cb_runtime.pipeline import Pipeline

        return Pipeline(overlapped=False, halt=self._halt).counting(progress)

    def score_video(
        self,
        path: str | Path,
        *,
        region: str | None = None,
        layout_file: str | Path | None = None,
        distances: tuple[int, ...] | None = None,
        font_embedding: FontEmbedding | None = None,
        detector: TextDetector | None = None,
        timeout: float | None = None,
        decode_threads: int | None = None,
        decoder: str = "cpu",
        overlap: bool | None = None,
        profile: Profile | None = None,
        progress: Progress = no_progress,
    ) -> ScoredVideo:
        """Score the pairs of one video file or video database; arguments as in `predict_video`.

        Raises:
            InputError: The video or layout cannot be read.
            UsageError: A region that does not fit, a timeout of 0 seconds or less, or what `open_source` refuses.
            ContractError: The model needs a font embedding that was not given, or was given one it does not use.
            MissingPackageError: The layout had to be detected and rapidocr is not installed.
        """
        from cb_runtime.decoding import DecodeOptions
        from cb_runtime.features import video_inputs
        from cb_runtime.layout import caption_layout
        from cb_runtime.limits import OutOfTime, TimeLimit
        from cb_runtime.pipeline import Pipeline
        from cb_runtime.scored_video import NO_TEXT, unscored
        from cb_runtime.source_scoring import score_source
        from cb_runtime.video import open_source

        if font_embedding is not None:
            self._check_font_model(font_embedding.font_model)
        elif self._font_encoder is None:
            self._check_font_model(None)
        file = None if layout_file is None else Path(layout_file)
        own = self.metadata.decoding
        distances = tuple(sorted({*(distances or own.distances), *own.far_distances}))
        limit = TimeLimit(timeout)
        pipeline = Pipeline(overlapped=self._overlaps(overlap), profile=profile, halt=self._halt)
        gpu = device_from_text(self.session.device).index
        with closing(open_source(path, decode_threads=decode_threads, decoder=decoder, gpu=gpu)) as source:
            try:
                with pipeline.working("layout", unit="samples", streaming=False):
                    told = limit.through(pipeline.counting(progress))
                    layout = caption_layout(
                        source, region=region, layout_file=file, detector=detector, pipeline=pipeline, progress=told
                    )
            except OutOfTime:
                return unscored(source, distances, limit.message(0), timed_out=True)
            if layout is None:
                return unscored(source, distances, NO_TEXT)
            font = self._font(font_embedding, source, layout)
            inputs = video_inputs(layout, self.metadata.preprocessing, self.metadata.ocr_viz_variant, font)
            return score_source(
                self.session,
                source,
                layout,
                inputs,
                distances=distances,
                batch_size=self.batch_size,
                skipping=self.skipping,
                decoding=self._decoding(distances, DecodeOptions()),
                limit=limit,
                pipeline=pipeline,
                progress=progress,
            )

    def _overlaps(self, wanted: bool | None) -> bool:
        # On a single core threads only take turns, and changing between them costs.
        return wanted if wanted is not None else usable_cores() > 1 or self.session.device != "cpu"

    def decode(self, scored: ScoredVideo, options: DecodeOptions | Decoding | None = None) -> CaptionTrack:
        """Return the captions that a scored video's probabilities give.

        Options replace parts of the model's own `Decoding`, at the distances that were scored unless they say others; a
        `Decoding` replaces all of it. Raises UsageError for a distance that was not scored.
        """
        from cb_runtime.decoding import DecodeOptions, decode_spans
        from cb_runtime.results import CaptionTrack

        if not isinstance(options, Decoding):
            options = self._decoding(scored.scores.distances, options or DecodeOptions())
        spans = decode_spans(
            scored.pts,
            scored.durations,
            scored.video.time_base,
            scored.scores,
            options,
            scored.products,
            scored.staying,
            scored.closer,
        )
        settings = {"batch_size": self.batch_size, **self.skipping.to_dict()}
        statistics = scored.statistics() | ({} if scored.layout is None else settings)
        return CaptionTrack(
            scored.video, tuple(spans), scored.layout, scored.partial, scored.messages, self.model, statistics
        )

    def _decoding(self, scored: tuple[int, ...], options: DecodeOptions) -> Decoding:
        from cb_runtime.scored_video import near_distances

        if options.distances is None:
            options = replace(options, distances=near_distances(scored))
        return options.applied_to(self.metadata.decoding)

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
