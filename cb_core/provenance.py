"""Where a model comes from: the commit of the code and the packages that made it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

from cb_runtime.installed import installed_version

TRAINING_PACKAGES = ("cb-toolkit", "torch", "torchvision", "peft", "accelerate", "numpy")
"""Packages whose release can change what a training gives."""


def code_commit() -> str | None:
    """Return the git commit this package's code stands at, with `-dirty` after changes; None outside a repository."""
    here = Path(__file__)
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    commit = _git(here.parent, "rev-parse", "HEAD")
    changes = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  (constant arguments)
            ["git", *arguments],  # noqa: S607  (the user's git)
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the releases of Python and of those packages that are installed, by name."""
    found = {"python": platform.python_version()}
    for package in packages:
        release = installed_version(package)
        if release is not None:  # an optional package that is absent had no part in it
            found[package] = release
    return found
