"""A profile as a table for people."""

from __future__ import annotations

from rich.table import Table

from cb_runtime.pipeline import Profile


def profile_table(profile: Profile) -> Table:
    """Return a row per stage: shares of its time, items, items per second, and whether it sets the rate."""
    table = Table(title=f"Stages over {profile.elapsed_seconds:.1f} s", title_justify="left")
    table.add_column("stage")
    for heading in ("seconds", "busy", "waits for input", "waits for output", "items", "items/s"):
        table.add_column(heading, justify="right")
    table.add_column("")
    slowest, longest = profile.slowest(), profile.longest()
    for stage in profile.stages:
        busy, for_input, for_output = stage.shares
        table.add_row(
            stage.name,
            f"{stage.seconds.sum():.1f}",
            f"{busy:.0%}",
            f"{for_input:.0%}" if stage.streaming else "",
            f"{for_output:.0%}" if stage.streaming else "",
            f"{stage.items} {stage.unit}" if stage.items else "",
            f"{profile.items_per_second(stage):.1f}" if stage.items else "",
            "sets the rate" if stage is slowest else "takes the longest" if stage is longest else "",
        )
    return table
