"""The record that `cb infer` leaves beside a video's outputs: which files it wrote, and by which settings.

It is what `--resume` goes by, and what tells our outputs from a file of the user's: a file is replaced only when the
record knows its very bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cb_runtime.files import atomic_path, sha256_of_file, short_stem


@dataclass(frozen=True)
class OutputRecord:
    """What was written for one video."""

    settings: str | None = None
    """Digest of all that decided the outputs; None while they are being replaced."""
    outputs: Mapping[str, list[str]] = field(default_factory=dict)
    """File name to SHA-256; while files are being replaced, of the old and of the new one."""
    captions: int = 0
    partial: bool = False
    messages: tuple[str, ...] = ()

    def vouches_for(self, path: Path) -> bool:
        """Tell whether `path` is a file that we wrote and that nobody changed since."""
        known = self.outputs.get(path.name, ())
        return bool(known) and path.is_file() and sha256_of_file(path) in known

    def save(self, path: Path) -> None:
        """Write the record. Raises StorageError when the disk is full or the place cannot be written."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")


def record_path(folder: Path, video: Path) -> Path:
    """Return where the record of a video's outputs in `folder` is kept."""
    return folder / f".{short_stem(video)}.cb-infer.json"


def read_record(path: Path) -> OutputRecord:
    """Read a record; an empty one when there is none, or none of ours."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return OutputRecord(
            settings=values["settings"],
            outputs={str(name): list(map(str, digests)) for name, digests in values["outputs"].items()},
            captions=int(values["captions"]),
            partial=bool(values["partial"]),
            messages=tuple(map(str, values["messages"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return OutputRecord()  # vouches for nothing
