"""What is installed, asked of `importlib.metadata` when it is first needed.

That module brings readers of e-mail, tables and archives with it, and a session on a CPU needs none of them: imported
with every module that may ask, it would be a noticeable part of the time to the first answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def installed_version(distribution: str) -> str | None:
    """Return the version of a package, by the name that pip knows it by; None when it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def entry_points_of(group: str) -> dict[str, EntryPoint]:
    """Return what installed packages offer in a group, by name, in the order of the names."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}
