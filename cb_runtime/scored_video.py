"""A video whose pairs are scored, before its captions are decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cb_runtime.contract import MAX_DISTANCE, ModelMetadata
from cb_runtime.decoding import contradictions
from cb_runtime.fades import StripProducts
from cb_runtime.layout import CaptionLayout
from cb_runtime.scoring import PairScores, no_scores
from cb_runtime.video.types import FrameSource, VideoInfo

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
    staying: Mapping[int, float] = field(default_factory=dict)
    """How alike the strokes before and after each cut of the picture are, by frame; see `SceneCuts`."""
    closer: Mapping[int, float] = field(default_factory=dict)
    """How much surer a closer look at changes in doubt is of a change than of none, by the first frame after it."""
    timed_out: bool = False
    """True when a time limit ended the work; then the result is partial too."""

    def statistics(self) -> dict[str, Any]:
        """Return counts and rates as plain JSON types."""
        decoder = {"decoder": self.video.decoder.name, "decoder_reason": self.video.decoder.reason}
        if self.layout is None:
            return {"frames": 0, "timed_out": self.timed_out, **decoder}
        frames = len(self.pts)
        return {
            "frames": frames,
            "frames_encoded": self.scores.frames_encoded,
            "pairs": self.scores.count,
            "pairs_scored": self.scores.pairs_scored,
            "distances": list(self.scores.distances),
            "closer_looks": len(self.closer),
            "contradictions": int(contradictions(self.scores).sum()),
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(frames / max(self.seconds, 1e-9), 1),
            "timed_out": self.timed_out,
            **decoder,
        }


def near_distances(distances: tuple[int, ...]) -> tuple[int, ...]:
    """Return those distances of pairs by which captions can be found; further ones only confirm them."""
    return tuple(distance for distance in distances if distance <= MAX_DISTANCE)


def unscored(source: FrameSource, distances: tuple[int, ...], message: str, *, timed_out: bool = False) -> ScoredVideo:
    """Return a video of which no frame was scored, with the reason."""
    partial = source.report.partial or timed_out
    messages = (*source.report.messages, message)
    return ScoredVideo(source.info, None, (), (), no_scores(distances), partial, messages, 0.0, timed_out=timed_out)


def shortness(frames: int) -> Iterator[str]:
    """Say that a video is too short to have a boundary, where it is."""
    if frames < 2:
        yield f"Frames in the video: {frames}. A boundary stands between two frames, so it has none."


def ocr_shift(metadata: ModelMetadata, layout: CaptionLayout) -> Iterator[str]:
    """Say that the layout's text was found otherwise than the model's in training, where it was."""
    trained = (metadata.ocr_engine, metadata.ocr_engine_version)
    found = (layout.ocr_engine, layout.ocr_engine_version)
    # Without an engine in training its pictures were no engine's in particular.
    if trained != found and metadata.ocr_engine is not None:
        yield (
            f"The model was trained with boxes from {_engine(*trained)}, this layout has boxes from "
            f"{_engine(*found)}: results may be worse."
        )


def _engine(name: str | None, version: str | None) -> str:
    return "no OCR engine" if name is None else f"{name} {version or 'of unknown version'}"
