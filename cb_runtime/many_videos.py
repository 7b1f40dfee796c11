"""Many videos through one model: several at once, batches filled across them, results in the order given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict, TypeVar

from cb_runtime.errors import CbError, InputError, StorageError, UsageError
from cb_runtime.layout.ocr import TextDetector
from cb_runtime.pipeline import Profile
from cb_runtime.pipeline.in_order import in_order
from cb_runtime.progress import Progress
from cb_runtime.results import CaptionTrack

if TYPE_CHECKING:
    from cb_runtime.predictor import BoundaryPredictor

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared", bound="Shares")


class VideoOptions(TypedDict, total=False):
    """How each of several videos is read and decoded; see `BoundaryPredictor.predict_video`."""

    region: str | None
    layout_file: str | Path | None
    min_frames: int | None
    change_penalty: float | None
    distances: tuple[int, ...] | None
    detector: TextDetector | None
    timeout: float | None
    decode_threads: int | None
    decoder: str
    overlap: bool | None
    profile: Profile | None


@dataclass(frozen=True)
class VideoResult:
    """What became of one of several videos."""

    path: Path
    track: CaptionTrack | None
    """Its captions; None when it failed."""
    error: CbError | None = None
    """Why it failed."""


class Shares(Protocol):
    """A predictor that can serve several threads."""

    def shared(self: Shared, halt: threading.Event, profile: Profile | None = None) -> AbstractContextManager[Shared]:
        """Give a predictor like this one for several threads at once."""
        ...


def on_videos(
    predictor: Shared,
    work: Callable[[Shared, Item], Result],
    items: Sequence[Item],
    jobs: int,
    profile: Profile | None,
) -> Generator[Result, None, None]:
    """Do work on each of several videos, up to `jobs` at once with one shared model; give results in order.

    What work raises is raised and ends all of it. Close the iterator to end early.
    """
    at_once = min(jobs, len(items))
    if at_once <= 1:
        for item in items:
            yield work(predictor, item)
        return
    halt = threading.Event()
    with (
        predictor.shared(halt, profile) as shared,
        closing(in_order(partial(work, shared), items, at_once, halt)) as results,
    ):
        yield from results


def check_jobs(jobs: int) -> None:
    """Raise UsageError for a number of jobs below 1."""
    if jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, got {jobs}.")


def result_of(predictor: BoundaryPredictor, item: tuple[Path, VideoProgress], options: VideoOptions) -> VideoResult:
    """Find the captions of one of several videos; what is wrong with this one alone is in its result."""
    path, progress = item
    try:
        return VideoResult(path, predictor.predict_video(path, **options, progress=progress))
    except StorageError:
        raise
    except (InputError, UsageError) as error:
        return VideoResult(path, None, error)
    finally:
        progress.finished()


class VideoProgress:
    """Tells how far one of several videos is: its phases begin with its place among them and its name."""

    def __init__(self, progress: Progress, number: int, count: int, name: str) -> None:
        self._progress = progress
        self._prefix = f"{number}/{count} {name}: " if count > 1 else ""

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        """Tell that `done` of `total` units of `phase` are done."""
        self._progress(self._prefix + phase, done, total)

    def finished(self) -> None:
        """Tell, of one of several, that nothing more follows."""
        if self._prefix:
            self("done", 1, 1)


def told_apart(progress: Progress, videos: Sequence[Path]) -> list[VideoProgress]:
    """Return a progress callback for each of several videos; an only video's phases are told as they are."""
    return [VideoProgress(progress, number, len(videos), path.name) for number, path in enumerate(videos, 1)]
