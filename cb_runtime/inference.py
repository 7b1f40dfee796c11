"""Many videos through one predictor, each to its output files; what `cb infer` does.

One bad video does not stop the others. A video's outputs are made whole before the first of them appears; a small
record beside them (`.<stem>.cb-infer.json`) says what was written by which settings, so that an interrupted run can be
resumed and no file of the user's is replaced unasked.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from cb_runtime.decoding import DecodeOptions
from cb_runtime.errors import (
    CbError,
    InputError,
    NoCaptionsError,
    PartialResultError,
    StorageError,
    UsageError,
    error_to_dict,
)
from cb_runtime.files import LONGEST_NAME, atomic_path, check_writable, sha256_of_file
from cb_runtime.inference_record import OutputRecord, read_record, record_path
from cb_runtime.layout import CaptionLayout
from cb_runtime.many_videos import VideoProgress, check_jobs, on_videos, told_apart
from cb_runtime.outputs import replaces, suffix_of, video_db, write_track
from cb_runtime.pipeline import Profile
from cb_runtime.progress import Progress, no_progress
from cb_runtime.results import CaptionTrack
from cb_runtime.skipping import Skipping
from cb_runtime.video import check_decoder


class Predicts(Protocol):
    """What is needed of a `BoundaryPredictor`."""

    @property
    def model(self) -> dict[str, Any]:
        """What results say of the model; `sha256` is part of the settings."""
        ...

    @property
    def skipping(self) -> Skipping:
        """What need not be looked at; part of the settings."""
        ...

    def predict_video(
        self,
        path: str | Path,
        *,
        region: str | None,
        layout_file: str | Path | None,
        min_frames: int | None,
        change_penalty: float | None,
        distances: tuple[int, ...] | None,
        timeout: float | None,
        decode_threads: int | None,
        decoder: str,
        profile: Profile | None,
        progress: Progress,
    ) -> CaptionTrack:
        """Find the captions of one video."""
        ...

    def told(self, progress: Progress) -> Progress:
        """Return `progress`, ending what tells it when all is to end."""
        ...

    def shared(self, halt: threading.Event, profile: Profile | None = None) -> AbstractContextManager[Predicts]:
        """Give a predictor for several threads at once."""
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
    """What to decode otherwise than the model says; the model's own settings are part of its digest."""
    timeout: float | None = None
    """Seconds for each video; what was done until then is written, and done again by `resume`."""
    decode_threads: int | None = None
    """Threads that decode a video file on the CPU; None chooses by the number of cores."""
    decoder: str = "cpu"
    """What decodes a video file: `auto`, `cpu` or `nvdec`."""
    resume: bool = False
    """Leave out videos whose outputs exist and were made by the same settings, model and video."""
    overwrite: bool = False
    """Replace also files that we did not write, or that were changed since."""

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
    layout: CaptionLayout | None = None
    """Where captions were looked for; None when no frame showed text like a caption's, or when nothing was done."""
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
            "layout": _without_boxes(self.layout),
        }
        return document | (error_to_dict(self.error) if self.error else {})


def _without_boxes(layout: CaptionLayout | None) -> dict[str, Any] | None:
    # The boxes are many, and stand in the JSON output of the video.
    return None if layout is None else {key: value for key, value in layout.to_dict().items() if key != "boxes"}


def infer_videos(
    predictor: Predicts,
    videos: Sequence[Path],
    settings: InferSettings,
    progress: Progress = no_progress,
    *,
    jobs: int = 1,
    profile: Profile | None = None,
) -> Generator[VideoOutcome, None, None]:
    """Find and write the captions of each video; give the outcomes in the videos' order, as soon as they are there.

    A video that cannot be read, does not fit the region, or has a file of the user's where its output would go, is
    reported in its outcome. What is wrong with the model, an option, the output folder or a missing package concerns
    all videos and is raised; what was finished before is kept. Close the iterator to end early.

    Args:
        predictor: Finds captions.
        videos: Video files and databases.
        settings: How they are read and where results go.
        progress: Told how far each video is, with `jobs` from several threads.
        jobs: Videos at once, each written as soon as it is done; see `BoundaryPredictor.predict_videos`.
        profile: Told what the stages of all videos do.

    Raises:
        UsageError: Two videos would write one file, less than one job, an unknown decoder, or NVDEC on a machine
            without it.
        StorageError: The output folder cannot be written, which is found out before any work, or the disk is full.
    """
    check_jobs(jobs)
    check_decoder(settings.decoder)
    _check_names(videos, settings)
    check_writable(settings.output)

    def work(own: Predicts, item: tuple[Path, VideoProgress]) -> VideoOutcome:
        return _outcome(own, *item, settings, profile)

    items = list(zip(videos, told_apart(progress, videos), strict=True))
    return on_videos(predictor, work, items, jobs, profile)


def _outcome(
    predictor: Predicts, video: Path, progress: VideoProgress, settings: InferSettings, profile: Profile | None
) -> VideoOutcome:
    try:
        return _finished(predictor, video, settings) or _inferred(predictor, video, settings, progress, profile)
    except StorageError:
        raise
    except (InputError, UsageError) as error:
        return VideoOutcome(video, {}, error=error)
    finally:
        progress.finished()


def _check_names(videos: Sequence[Path], settings: InferSettings) -> None:
    owners: dict[Path, Path] = {}
    for video in videos:
        for path in settings.outputs_of(video).values():
            other = owners.setdefault(path, video)
            if other is not video:
                raise UsageError(f"{other} and {video} would both write {path}. Give them separate --output folders.")


def _inferred(
    predictor: Predicts, video: Path, settings: InferSettings, progress: Progress, profile: Profile | None
) -> VideoOutcome:
    digest = _settings_digest(predictor, video, settings)
    _check_replaceable(video, settings)
    track = predictor.predict_video(
        video,
        region=settings.region,
        layout_file=settings.layout_file,
        min_frames=settings.decode.min_frames,
        change_penalty=settings.decode.change_penalty,
        distances=settings.decode.distances,
        timeout=settings.timeout,
        decode_threads=settings.decode_threads,
        decoder=settings.decoder,
        profile=profile,
        progress=progress,
    )
    written = _write(track, video, settings, predictor.told(progress))
    outputs = settings.outputs_of(video)
    if any(path.exists() and path.samefile(video) for path in outputs.values()):
        digest = _settings_digest(predictor, video, settings)  # results went into the video database itself
    statistics = dict(track.statistics)
    done = None if statistics.get("timed_out") else digest  # without a digest it is not taken for finished
    record = OutputRecord(done, written, len(track.spans), track.partial, track.messages)
    record.save(record_path(settings.output, video))
    return VideoOutcome(video, outputs, len(track.spans), track.partial, track.messages, statistics, track.layout)


def _check_replaceable(video: Path, settings: InferSettings) -> None:
    record = read_record(record_path(settings.output, video))
    for name, path in settings.outputs_of(video).items():
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            raise InputError(
                f"The name of {video} is too long: {path.name} would have more than {LONGEST_NAME} bytes. Give the "
                "video a shorter name, or a link to it with one."
            )
        if not replaces(name):
            video_db.check_destination(video, path)
        elif path.exists() and not (settings.overwrite or record.vouches_for(path)):
            raise InputError(
                f"{path} exists, and cb infer did not write it or it was changed since. Move it away, choose another "
                "folder with --output, or replace it with --overwrite."
            )


def _write(track: CaptionTrack, video: Path, settings: InferSettings, progress: Progress) -> dict[str, list[str]]:
    """Write all outputs; return the digests of all files in the folder that the video's record vouches for."""
    place = record_path(settings.output, video)
    before = read_record(place).outputs
    with ExitStack() as published_together:
        digests: dict[str, list[str]] = {}
        for name, path in settings.outputs_of(video).items():
            if not replaces(name):
                video_db.write(track, path, progress)
                continue
            temporary = published_together.enter_context(atomic_path(path))
            write_track(track, temporary, name)
            digests[path.name] = [sha256_of_file(temporary)]
        # From here to the record of the whole, a kill leaves old and new files side by side: vouch for both.
        both = {name: [*before.get(name, ()), *digest] for name, digest in digests.items()}
        OutputRecord(None, {**before, **both}).save(place)
    return {**before, **digests}


def _settings_digest(predictor: Predicts, video: Path, settings: InferSettings) -> str:
    """Return a digest of all that decides the outputs. Raises InputError when the video is not there."""
    try:
        status = video.stat()
        layout = sha256_of_file(settings.layout_file) if settings.layout_file else None
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error
    decided_by = {
        "cb": version("cb-toolkit"),
        "model": [predictor.model["sha256"], predictor.model.get("precision")],
        "video": [str(video.resolve()), status.st_size, status.st_mtime_ns],
        "decoder": settings.decoder,
        "region": settings.region,
        "layout": layout,
        "min_frames": settings.decode.min_frames,
        "change_penalty": settings.decode.change_penalty,
        "distances": settings.decode.distances,
        "skipping": predictor.skipping.to_dict(),
        "formats": sorted(settings.formats),
    }
    return hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()


def _finished(predictor: Predicts, video: Path, settings: InferSettings) -> VideoOutcome | None:
    """Return the outcome of an earlier run with the same settings, or None when there is work to do."""
    outputs = settings.outputs_of(video)
    if not (settings.resume and all(path.is_file() for path in outputs.values())):
        return None
    record = read_record(record_path(settings.output, video))
    if record.settings is None or record.settings != _settings_digest(predictor, video, settings):
        return None
    return VideoOutcome(video, outputs, record.captions, record.partial, record.messages, resumed=True)


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
