"""Choices that earlier sessions made, in a JSON file of the user's cache folder.

`CB_CACHE` names another folder. The file can be deleted at any time; one that is damaged counts as empty.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cb_runtime.engine_choice.ways import Choice, choice_from_dict
from cb_runtime.errors import StorageError
from cb_runtime.files import atomic_path

SCHEMA = 1
"""Version of the file."""

MOST = 200
"""Choices that are kept, the latest ones."""

Identity = Mapping[str, Any]
"""All that a choice depends on, as JSON types."""


def cache_file() -> Path:
    """Return where choices are kept: `engines.json` in `CB_CACHE`, else in `cb` of the user's cache folder.

    Raises StorageError for a user without a home folder, as in some containers, where neither is named.
    """
    if os.environ.get("CB_CACHE"):
        return Path(os.environ["CB_CACHE"]) / "engines.json"
    folder = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return (Path(folder) if folder else Path.home() / ".cache") / "cb" / "engines.json"
    except RuntimeError as error:
        raise StorageError("This user has no home folder to keep choices in. Set CB_CACHE to a folder.") from error


def kept_choices() -> dict[str, Any]:
    """Return all choices by digest of what they depend on; none where the file is missing, damaged or another's."""
    try:
        document = json.loads(cache_file().read_text(encoding="utf-8"))
        choices = document["choices"] if document["schema"] == SCHEMA else {}
        return dict(choices)
    except (OSError, ValueError, KeyError, TypeError, StorageError):
        return {}


def kept_choice(identity: Identity) -> Choice | None:
    """Return an earlier choice; None where there is none that can be read."""
    try:
        return choice_from_dict(kept(identity) or {})
    except (KeyError, TypeError, AttributeError):
        return None


def keep_choice(identity: Identity, choice: Choice) -> str | None:
    """Keep a choice for later sessions; return why that could not be done, None when it was."""
    return keep(identity, choice.to_dict())


def kept(identity: Identity) -> dict[str, Any] | None:
    """Return what was kept under this identity, as JSON types; None where nothing was."""
    try:
        return dict(kept_choices()[_digest(identity)]["choice"])
    except (KeyError, TypeError, ValueError):
        return None


def keep(identity: Identity, choice: Mapping[str, Any]) -> str | None:
    """Keep what was chosen, JSON types, for later sessions; return why that could not be done, None when it was."""
    choices = kept_choices()
    digest = _digest(identity)
    choices.pop(digest, None)
    choices[digest] = {"identity": dict(identity), "choice": dict(choice)}
    latest = dict(list(choices.items())[-MOST:])
    try:
        with atomic_path(cache_file()) as temporary:
            temporary.write_text(json.dumps({"schema": SCHEMA, "choices": latest}, indent=1), encoding="utf-8")
    except (OSError, StorageError) as error:
        return str(error)
    return None


def _digest(identity: Identity) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
