"""Rendering many videos: resumable, on several processes, never over files that are not ours."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import cv2

from cb_core.synth.plan import SynthOptions, plan_timing, plan_video, settings_digest, stem_of
from cb_core.synth.render import VideoFiles, files_of, render_video
from cb_core.synth.truth import TRUTH_SUFFIX, read_truth
from cb_runtime.errors import InputError, UsageError
from cb_runtime.progress import Progress, no_progress

_PHASE = "Rendering"


@dataclass(frozen=True)
class Collection:
    """What a call of `render_collection` left in its folder."""

    files: tuple[VideoFiles, ...]
    """One per video, in order."""
    rendered: int
    """How many were rendered by this call; the others were there already."""


def render_videos(
    out_dir: str | Path,
    videos: int,
    seconds: float,
    seed: int,
    *,
    size: tuple[int, int] | None = None,
    frame_rate: Fraction | None = None,
    backgrounds: Path | None = None,
    fonts: Path | None = None,
    band: bool = False,
    pace: str = "normal",
    jobs: int = 1,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> list[Path]:
    """Render captioned videos, each with an .srt and a .truth.json beside it; return the video files in order.

    Args:
        out_dir: Folder to write to; created when missing. Videos that are there with the same settings are kept.
        videos: How many.
        seconds: Length of each, at least 1.
        seed: The same seed gives the same videos.
        size: Width and height of all videos; chosen for each when None.
        frame_rate: Frames per second of all videos; chosen for each when None, variable for some.
        backgrounds: Folder of pictures and videos without captions to put captions on; generated backgrounds when None.
        fonts: Folder of fonts; those of the system and of Pillow when None.
        band: Render only the rows around the captions.
        pace: `normal` or `fast`, see `cb_core.synth.script.PACES`.
        jobs: How many processes render.
        overwrite: Replace videos that were rendered with other settings, or whose ground truth is damaged.
        progress: Told how many frames are done.

    Raises:
        UsageError: An option that cannot be obeyed, or files in the way.
        InputError: Backgrounds or fonts that cannot be used; a damaged ground truth in the folder; a full disk.
    """
    options = SynthOptions(seconds, seed, size, frame_rate, backgrounds, fonts, band, pace)
    done = render_collection(Path(out_dir), videos, options, jobs=jobs, overwrite=overwrite, progress=progress)
    return [files.video for files in done.files]


def render_collection(
    folder: Path,
    videos: int,
    options: SynthOptions,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Collection:
    """Render what is missing of a collection (see `render_videos`)."""
    for name, value in (("videos", videos), ("jobs", jobs)):
        if value < 1:
            raise UsageError(f"The number of {name} must be at least 1, got {value}.")
    options.check()
    missing = [index for index in range(videos) if not _is_done(folder, options, index, overwrite=overwrite)]
    if jobs == 1 or len(missing) < 2:
        _render_here(folder, options, missing, progress)
    else:
        _render_in_processes(folder, options, missing, min(jobs, len(missing)), progress)
    return Collection(tuple(_files(folder, options, index) for index in range(videos)), len(missing))


def _files(folder: Path, options: SynthOptions, index: int) -> VideoFiles:
    encoding, _ = plan_timing(options, index)
    return files_of(folder, stem_of(index), encoding.suffix)


def _is_done(folder: Path, options: SynthOptions, index: int, *, overwrite: bool) -> bool:
    """Tell whether a video is there, whole and with these settings; with `overwrite`, clear another one away."""
    files = _files(folder, options, index)
    truth = files.truth
    if not truth.exists():
        return _refuse_foreign(files, overwrite=overwrite)
    try:
        document = read_truth(truth)
    except InputError as error:
        if not overwrite:
            raise InputError(f"{error} --overwrite replaces it.") from error
        files.video.unlink(missing_ok=True)  # as below
        return False
    if document.get("settings_digest") == settings_digest(options.settings(index)):
        return files.video.exists() and files.subtitles.exists()
    if not overwrite:
        raise UsageError(
            f"{truth.name.removesuffix(TRUTH_SUFFIX)} in {folder} was rendered with other settings. Choose another "
            f"folder, or replace it with --overwrite."
        )
    # The old video goes first: a ground truth without its video means "to be rendered".
    (folder / Path(document["video"]).name).unlink(missing_ok=True)
    return False


def _refuse_foreign(files: VideoFiles, *, overwrite: bool) -> bool:
    for path in (files.video, files.subtitles):
        if path.exists() and not overwrite:
            raise UsageError(
                f"{path} exists and was not rendered by cb synth (no {files.truth.name} beside it). Choose another "
                f"folder, or replace it with --overwrite."
            )
    return False


def _render_here(folder: Path, options: SynthOptions, indices: list[int], progress: Progress) -> None:
    total = sum(_frames(options, index) for index in indices)
    before = 0
    for index in indices:
        render_video(plan_video(options, index), folder, partial(_report, progress, before, total))
        before += _frames(options, index)


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(_PHASE, before + done, total)


def _frames(options: SynthOptions, index: int) -> int:
    return plan_timing(options, index)[1].frames


def _render_in_processes(
    folder: Path, options: SynthOptions, indices: list[int], jobs: int, progress: Progress
) -> None:
    total, done = sum(_frames(options, index) for index in indices), 0
    progress(_PHASE, 0, total)
    for index in _finished(folder, options, indices, jobs):
        done += _frames(options, index)
        progress(_PHASE, done, total)


def _finished(folder: Path, options: SynthOptions, indices: list[int], jobs: int) -> Iterator[int]:
    # A fresh interpreter for each process: forking one that has threads (OpenCV, codecs) may hang.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(stop,))
    try:
        waiting = {pool.submit(_render_one, folder, options, index): index for index in indices}
        for future in as_completed(waiting):
            future.result()
            yield waiting[future]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_stop: Event | None = None
"""In a rendering process: set when the parent wants no more."""


def _begin_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    cv2.setNumThreads(1)
    # Ctrl-C reaches all processes of a terminal; the parent alone answers it, and stops the others through the event.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that is killed tells nobody, and whoever waits for its next task would wait for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a child"
    parent.join()
    os._exit(1)


def _render_one(folder: Path, options: SynthOptions, index: int) -> None:
    render_video(plan_video(options, index), folder, _stop_when_asked)


def _stop_when_asked(_: int) -> None:
    if _stop is not None and _stop.is_set():
        raise KeyboardInterrupt
