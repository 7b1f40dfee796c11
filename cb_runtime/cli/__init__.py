"""The `cb` command: a group whose commands come from the entry points `cb.commands`.

Importing a command module must stay cheap (click and the standard library): heavy packages are imported when a command
runs, so that `cb --help` is instant and works whatever extras are installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cb_runtime.installed import entry_points_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

COMMANDS_GROUP = "cb.commands"


class EntryPointGroup(click.Group):
    """A click group that finds its commands among the installed entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all installed commands, sorted."""
        return list(_entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command, or return None when there is none of that name."""
        entry = _entries().get(cmd_name)
        if entry is None:
            return None
        command = entry.load()
        assert isinstance(command, click.Command), f"{entry.value} is not a click command"
        return command


def _entries() -> dict[str, EntryPoint]:
    return entry_points_of(COMMANDS_GROUP)


@click.group(cls=EntryPointGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cb-toolkit", prog_name="cb")
def main() -> None:
    """Find the boundaries of burned-in captions in video, frame-accurately.

    Exit codes: 0 done, 1 a bug of ours, 2 usage, 3 input cannot be read, 4 model or artifact problem, 5 no captions
    found (with --fail-on-empty), 6 partial result, 7 parity gate failed, 130 interrupted.
    """
