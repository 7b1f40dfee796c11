"""Build a dataset from captioned videos, one transaction per video: a stopped build goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from cb_core.data.caption_files import CAPTION_SUFFIXES, find_captions
from cb_core.data.captions import read_captions
from cb_core.data.content import VideoTask, read_video
from cb_core.data.database import StorageError, database_errors, dataset_url, open_session_on, public_name
from cb_core.data.fonts import FontEncoder
from cb_core.data.options import BuildOptions
from cb_core.data.schema import DatasetSettings, Pair, Video
from cb_core.data.splits import assign_splits
from cb_core.data.store import remove_video, store_video
from cb_core.data.summary import DatasetSummary, summarise_dataset
from cb_runtime.contract import LABELS
from cb_runtime.errors import InputError, MissingPackageError, UsageError
from cb_runtime.files import sha256_of_file
from cb_runtime.layout.ocr import TextDetector
from cb_runtime.progress import Progress, no_progress
from cb_runtime.video.folder import find_videos as find_videos


@dataclass
class BuildReport:
    """What became of every video that was given."""

    added: list[str] = field(default_factory=list)
    """Paths of videos that were read."""
    kept: list[str] = field(default_factory=list)
    """Paths of videos that the dataset already had."""
    without_captions: list[str] = field(default_factory=list)
    """Paths of videos without a caption file; they are no part of the dataset."""
    copies: dict[str, str] = field(default_factory=dict)
    """Path of a video -> path of the one it is a copy of; a copy is left out."""
    failed: dict[str, str] = field(default_factory=dict)
    """Path -> why it could not be used."""
    partial: list[str] = field(default_factory=list)
    """Paths of added videos that could not be decoded to their end; the frames before are used."""
    messages: dict[str, list[str]] = field(default_factory=dict)
    """Path of an added video -> what went wrong in it."""
    summary: DatasetSummary | None = None
    """The whole dataset as it is now."""

    @property
    def complete(self) -> bool:
        """True when every captioned video was used from start to end."""
        return not (self.failed or self.partial)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain = asdict(self)
        return {**plain, "summary": self.summary.to_dict() if self.summary else None}


@dataclass(frozen=True)
class VideoInputsGiven:
    """Where captions and layouts come from."""

    captions: Path | None = None
    """Folder of caption files; None for beside each video."""
    region: str | None = None
    """Caption region of all videos given, as text."""
    layout_file: Path | None = None
    """JSON layout of all videos given; without it and a region, `<stem>.layout.json` beside the captions, then OCR."""
    skip_bad_captions: bool = False
    """Leave out captions that cannot be true, instead of refusing their video."""

    def layout_of(self, video: Path) -> Path | None:
        """Return the layout file that applies to a video."""
        if self.layout_file is not None or self.region is not None:
            return self.layout_file
        beside = (self.captions or video.parent) / f"{video.stem}.layout.json"
        return beside if beside.is_file() else None


def create_dataset(
    database: str | Path,
    videos: Sequence[Path],
    *,
    options: BuildOptions | None = None,
    given: VideoInputsGiven | None = None,
    detector: TextDetector | None = None,
    font_encoder: FontEncoder | None = None,
    progress: Progress = no_progress,
) -> BuildReport:
    """Create a dataset, or add videos to one; videos that it already has are not read again.

    Args:
        database: SQLite file or SQLAlchemy URL.
        videos: Video files; their captions are found by name.
        options: What decides the content; must be the same for all videos.
        given: Where captions and layouts come from.
        detector: Text detector for layouts; rapidocr when None and one is needed.
        font_encoder: Encoder of caption styles; must be the same each time.
        progress: Called as videos and frames are done.

    Raises:
        InputError: No video could be used, or the dataset's videos were built with other options.
        StorageError: The disk is full; what was stored before is kept.
        MissingPackageError: A layout has to be detected and rapidocr is not installed.
    """
    build = _Build(database, options or BuildOptions(), given or VideoInputsGiven(), detector, font_encoder, progress)
    with open_session_on(database, create=True) as session, database_errors(database):
        return build.run(session, videos)


@dataclass
class _Build:
    database: str | Path
    options: BuildOptions
    given: VideoInputsGiven
    detector: TextDetector | None
    font_encoder: FontEncoder | None
    progress: Progress
    report: BuildReport = field(default_factory=BuildReport)
    former_splits: dict[str, str] = field(default_factory=dict)
    """SHA-256 -> split of videos whose name another file took: they may follow under another name."""

    def run(self, session: Session, videos: Sequence[Path]) -> BuildReport:
        self._settle_options(session)
        for done, path in enumerate(videos):
            self.progress("videos", done, len(videos))
            self._add(session, path.resolve())
        self.progress("videos", len(videos), len(videos))
        if not (self.report.added or self.report.kept or self.report.copies):
            raise InputError(self._nothing())
        _assign_splits(session, self.options)
        self.report.summary = summarise_dataset(session)
        return self.report

    def _settle_options(self, session: Session) -> None:
        wanted = self.options.to_dict()
        wanted["fontclip_model_version"] = self.font_encoder.version if self.font_encoder else None
        settings = session.scalar(select(DatasetSettings))
        if settings is None:
            self._store_settings(session, DatasetSettings(), wanted)
            return
        other = sorted(name for name in wanted if wanted[name] != settings.options.get(name))
        if other and session.scalar(select(Video.id).limit(1)) is None:
            self._store_settings(session, settings, wanted)  # no video was made with those of an earlier build
        elif other:
            differences = ", ".join(f"{name} {settings.options.get(name)} -> {wanted[name]}" for name in other)
            raise InputError(
                f"{public_name(self.database)} was built with other options: {differences}. Give the same ones, or "
                "build under another name."
            )

    def _store_settings(self, session: Session, settings: DatasetSettings, options: dict[str, Any]) -> None:
        settings.name = Path(dataset_url(self.database).database or "dataset").stem
        settings.options = options
        settings.created_at = datetime.now(UTC)
        settings.cb_version = version("cb-toolkit")
        session.add(settings)
        session.commit()

    def _add(self, session: Session, path: Path) -> None:
        try:
            self._add_or_raise(session, path)
        except (StorageError, MissingPackageError):
            raise
        except (InputError, UsageError) as error:
            session.rollback()
            self.report.failed[str(path)] = str(error)

    def _add_or_raise(self, session: Session, path: Path) -> None:
        captions = find_captions(path, self.given.captions)
        if captions is None:
            self.report.without_captions.append(str(path))
            return
        digest, sha256 = self._inputs_digest(path, captions), sha256_of_file(path)
        known = session.scalar(select(Video).where(Video.sha256 == sha256))
        if known is not None and known.path != str(path) and _still_there(known):
            self.report.copies[str(path)] = known.path
        elif known is not None and known.inputs_digest == digest:
            known.path = str(path)  # another one when the video was moved
            session.commit()
            self.report.kept.append(str(path))
        else:
            self._build(session, self._task(path, sha256, captions), digest)

    def _inputs_digest(self, path: Path, captions: Path) -> str:
        layout_file = self.given.layout_of(path)
        inputs = [sha256_of_file(captions), self.given.region, layout_file and sha256_of_file(layout_file)]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

    def _task(self, path: Path, sha256: str, captions: Path) -> VideoTask:
        return VideoTask(
            path=path,
            sha256=sha256,
            captions=read_captions(captions),
            options=self.options,
            region=self.given.region,
            layout_file=self.given.layout_of(path),
            skip_bad_captions=self.given.skip_bad_captions,
            detector=self.detector,
            font_encoder=self.font_encoder,
        )

    def _build(self, session: Session, task: VideoTask, inputs_digest: str) -> None:
        session.rollback()  # no transaction is held open while a video is read
        with read_video(task, _scratch(self.database), self.progress) as content:
            split = self._remove_older(session, task)
            store_video(session, task, content, inputs_digest, split)
            session.commit()
            self.report.added.append(str(task.path))
            if content.partial:
                self.report.partial.append(str(task.path))
            if content.messages:
                self.report.messages[str(task.path)] = list(content.messages)

    def _remove_older(self, session: Session, task: VideoTask) -> str | None:
        """Remove what an older state of the video or its captions gave; return the split that it had.

        What was validated on is never trained on: the split goes with the content, and only then with the name.
        """
        older = (Video.sha256 == task.sha256) | (Video.path == str(task.path))
        rows = session.execute(select(Video.id, Video.sha256, Video.split).where(older)).all()
        for row in rows:
            remove_video(session, row.id)
        session.expunge_all()
        of_content = {row.sha256: row.split for row in rows if row.split}
        self.former_splits |= of_content
        return self.former_splits.get(task.sha256) or next(iter(of_content.values()), None)

    def _nothing(self) -> str:
        lines = [f"\n  {path}: {reason}" for path, reason in self.report.failed.items()]
        if self.report.without_captions:
            suffixes = ", ".join(CAPTION_SUFFIXES)
            place = self.given.captions or "beside it"
            lines.append(
                f"\n  {len(self.report.without_captions)} videos have no caption file of the same name ({suffixes}; "
                f"looked for: {place})"
            )
        return "None of the videos could be used:" + "".join(lines)


def _still_there(video: Video) -> bool:
    """Whether a video of the dataset is where it was; another file may have taken its name."""
    path = Path(video.path)
    return path.is_file() and path.stat().st_size == video.size_bytes and sha256_of_file(path) == video.sha256


def _scratch(database: str | Path) -> Path | None:
    # Beside an SQLite file, because that disk is known to be meant for much data; a system's /tmp may be small.
    url = dataset_url(database)
    return Path(url.database).parent if url.get_backend_name() == "sqlite" and url.database else None


def _assign_splits(session: Session, options: BuildOptions) -> None:
    counts = {key: [0] * len(LABELS) for key in session.scalars(select(Video.sha256))}
    query = select(Video.sha256, Pair.label, func.count()).join(Pair).group_by(Video.sha256, Pair.label)
    for key, label, count in session.execute(query):
        counts[key][label] = count
    rows = session.execute(select(Video.sha256, Video.split).where(Video.split.is_not(None)))
    fixed = {key: str(split) for key, split in rows}
    splits = assign_splits(counts, (options.val_share, options.test_share), options.seed, fixed)
    for key in splits.keys() - fixed.keys():
        session.execute(update(Video).where(Video.sha256 == key).values(split=splits[key]))
    session.commit()
