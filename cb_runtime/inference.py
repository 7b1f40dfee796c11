"""Many videos through one predictor, each to its output files; what `cb infer` does.

One bad video does not stop the others. A video's outputs appear whole; a small record beside them
(`.<stem>.cb-infer.json`) says by which settings they were made, so that an interrupted run can be resumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from cb_runtime.decoding import DecodeOptions
from cb_runtime.errors import CbError, InputError, NoCaptionsError, PartialResultError, UsageError, error_to_dict
from cb_runtime.files import atomic_path, sha256_of_file
from cb_runtime.outputs import suffix_of, write_track
from cb_runtime.progress import Progress, no_progress
from cb_runtime.results import CaptionTrack


class Predicts(Protocol):
    """What is needed of a `BoundaryPredictor`."""

    @property
    def model(self) -> dict[str, Any]:
        """What results say of the model; `sha256` is part of the settings."""
        ...

    def predict_video(
        self,
        path: str | Path,
        *,
        region: str | None,
        layout_file: str | Path | None,
        min_frames: int,
        change_penalty: float,
        progress: Progress,
    ) -> CaptionTrack:
        """Find the captions of one video."""
        ...


@dataclass(frozen=True)
class InferSettings:
    """How videos are read and where results go."""

    output: Path
    """Folder of the outputs; made when missing."""
    formats: tuple[str, ...] = ("srt", "json")
    region: str | None = None
    layout_file: Path | None = None
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    resume: bool = False
    """Leave out videos whose outputs exist and were made by the same settings, model and video."""

    def outputs_of(self, video: Path) -> dict[str, Path]:
        """Return the file of each format: `output/<video's stem>.<format>`."""
        return {name: self.output / f"{video.stem}{suffix_of(name)}" for name in self.formats}


@dataclass(frozen=True)
class VideoOutcome:
    """What became of one video."""

    video: Path
    outputs: dict[str, Path]
    """Format to file; empty when the video failed."""
    captions: int = 0
    partial: bool = False
    messages: tuple[str, ...] = ()
    statistics: dict[str, Any] = field(default_factory=dict)
    resumed: bool = False
    """True when the outputs were there already."""
    error: CbError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        document = {
            "video": str(self.video),
            "outputs": {name: str(path) for name, path in self.outputs.items()},
            "captions": self.captions,
            "partial": self.partial,
            "resumed": self.resumed,
            "messages": list(self.messages),
            "statistics": self.statistics,
        }
        return document | (error_to_dict(self.error) if self.error else {})


def infer_videos(
    predictor: Predicts, videos: Sequence[Path], settings: InferSettings, progress: Progress = no_progress
) -> Iterator[VideoOutcome]:
    """Find and write the captions of each video; give its outcome as soon as it is done.

    A video that cannot be read, or does not fit the region, is reported in its outcome. What is wrong with the model,
    an option or a missing package concerns all videos and is raised. Raises UsageError when two videos would write one
    file.
    """
    _check_names(videos, settings)
    for number, video in enumerate(videos, 1):
        prefix = f"{number}/{len(videos)} {video.name}: " if len(videos) > 1 else ""

        def told(phase: str, done: int, total: int | None = None, prefix: str = prefix) -> None:
            progress(prefix + phase, done, total)

        try:
            yield _finished(predictor, video, settings) or _inferred(predictor, video, settings, told)
        except (InputError, UsageError) as error:
            yield VideoOutcome(video, {}, error=error)


def _check_names(videos: Sequence[Path], settings: InferSettings) -> None:
    owners: dict[Path, Path] = {}
    for video in videos:
        for path in settings.outputs_of(video).values():
            other = owners.setdefault(path, video)
            if other is not video:
                raise UsageError(f"{other} and {video} would both write {path}. Give them separate --output folders.")


def _inferred(predictor: Predicts, video: Path, settings: InferSettings, progress: Progress) -> VideoOutcome:
    digest = _settings_digest(predictor, video, settings)
    track = predictor.predict_video(
        video,
        region=settings.region,
        layout_file=settings.layout_file,
        min_frames=settings.decode.min_frames,
        change_penalty=settings.decode.change_penalty,
        progress=progress,
    )
    outputs = settings.outputs_of(video)
    _record(video, settings).unlink(missing_ok=True)  # it must never vouch for a mixture of old and new files
    for name, path in outputs.items():
        write_track(track, path, name)
    if any(path.exists() and path.samefile(video) for path in outputs.values()):
        digest = _settings_digest(predictor, video, settings)  # results went into the video database itself
    outcome = VideoOutcome(video, outputs, len(track.spans), track.partial, track.messages, dict(track.statistics))
    _write_record(outcome, settings, digest)
    return outcome


def _settings_digest(predictor: Predicts, video: Path, settings: InferSettings) -> str:
    """Return a digest of all that decides the outputs. Raises InputError when the video is not there."""
    try:
        status = video.stat()
        layout = sha256_of_file(settings.layout_file) if settings.layout_file else None
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error
    decided_by = {
        "cb": version("cb-toolkit"),
        "model": predictor.model["sha256"],
        "video": [str(video.resolve()), status.st_size, status.st_mtime_ns],
        "region": settings.region,
        "layout": layout,
        "min_frames": settings.decode.min_frames,
        "change_penalty": settings.decode.change_penalty,
        "formats": sorted(settings.formats),
    }
    return hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()


def _record(video: Path, settings: InferSettings) -> Path:
    return settings.output / f".{video.stem}.cb-infer.json"


def _write_record(outcome: VideoOutcome, settings: InferSettings, digest: str) -> None:
    values = {"settings": digest, "captions": outcome.captions, "partial": outcome.partial}
    with atomic_path(_record(outcome.video, settings)) as temporary:
        temporary.write_text(json.dumps({**values, "messages": outcome.messages}), encoding="utf-8")


def _finished(predictor: Predicts, video: Path, settings: InferSettings) -> VideoOutcome | None:
    """Return the outcome of an earlier run with the same settings, or None when there is work to do."""
    outputs = settings.outputs_of(video)
    record = _record(video, settings)
    if not (settings.resume and record.is_file() and all(path.is_file() for path in outputs.values())):
        return None
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        if values["settings"] != _settings_digest(predictor, video, settings):
            return None
        messages = tuple(map(str, values["messages"]))
        return VideoOutcome(video, outputs, int(values["captions"]), bool(values["partial"]), messages, resumed=True)
    except (ValueError, KeyError, TypeError):
        return None  # not a record of ours: the video is done again


def outcome_error(outcomes: Sequence[VideoOutcome], *, fail_on_empty: bool = False) -> CbError | None:
    """Return the error a run ends with, whose `exit_code` is the command's; None when all went well.

    Nothing could be done: the first video's own error. Something could: `PartialResultError`. All was read but, with
    `fail_on_empty`, a video has no captions: `NoCaptionsError`.
    """
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and len(failed) == len(outcomes):
        return failed[0].error
    incomplete = [outcome.video.name for outcome in outcomes if outcome.error or outcome.partial]
    if incomplete:
        return PartialResultError(f"Not all could be read: {', '.join(incomplete)}. What was read is kept.")
    empty = [outcome.video.name for outcome in outcomes if not outcome.captions]
    if fail_on_empty and empty:
        return NoCaptionsError(f"No captions were found in {', '.join(empty)}.")
    return None
