"""Results of single videos kept in the output folder, so that an interrupted evaluation can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cb_core.evaluation.results import VideoEvaluation, video_from_dict
from cb_runtime.errors import InputError
from cb_runtime.files import atomic_path, sha256_of_file
from cb_runtime.results import json_text

SCHEMA = 1
"""Number of the records' schema. Records of another number are not used."""

FOLDER = "videos"
"""Where in the output folder the records lie."""


def record_path(output: Path, video: Path) -> Path:
    """Return where a video's record lies; videos of the same name in different folders have different ones."""
    place = hashlib.sha256(str(video.resolve()).encode()).hexdigest()[:8]
    return output / FOLDER / f"{video.stem}-{place}.json"


MODEL_KEYS = ("sha256", "backend", "precision", "device")
"""What decides a model's answers, of what results say of it: engines do not round alike."""


def record_digest(model: Mapping[str, Any], video: Path, truth: Path, settings: Mapping[str, Any]) -> str:
    """Return a digest of all that decides a video's result. Raises InputError when a file cannot be read.

    `model` is what results say of the model; of it, `MODEL_KEYS` count.
    """
    try:
        files = [sha256_of_file(video), sha256_of_file(truth)]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error
    engine = {key: model.get(key) for key in MODEL_KEYS}
    decided_by = [SCHEMA, version("cb-toolkit"), engine, files, dict(settings)]
    return hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()


def write_record(path: Path, digest: str, result: VideoEvaluation) -> None:
    """Keep a result. Raises StorageError when the folder cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_text({"digest": digest, "result": result.to_dict()}), encoding="utf-8")


def read_record(path: Path, digest: str) -> VideoEvaluation | None:
    """Return the result kept under this digest; None when there is none, or the file is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["digest"] != digest:
            return None
        return replace(video_from_dict(document["result"]), resumed=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None
