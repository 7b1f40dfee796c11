"""Put reports of several seeds side by side: `python benchmarks/independent/spread.py REPORT.json... --output FILE`.

Each report is what `cb evaluate --videos SET --json` prints. For every measure of the whole set and of each slice the
file gives the value of each seed, and the smallest, mean and largest of them; the table shows the main ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from cb_runtime.files import atomic_path

Report = Mapping[str, Any]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return each seed's value with the smallest, mean and largest."""
    return {"seeds": list(values), "low": min(values), "mean": mean(values), "high": max(values)}


def measures(part: Mapping[str, Any]) -> dict[str, float]:
    """Return the measures of a set or a slice by name."""
    found = {f"boundary F1 at {one['tolerance_frames']}": one["f1"] for one in part["boundaries"]}
    for one in part.get("hard_cuts", ()):
        found[f"hard cuts, F1 at {one['tolerance_frames']}"] = one["f1"]
    for name in ("onset", "offset"):
        if name in part and part[name]["count"]:
            found[f"{name}, mean ms"] = part[name]["mean_ms"]
    if "calibration" in part:
        found["expected calibration error"] = part["calibration"]["error"]
    captions = part.get("captions")
    if captions:
        found |= {name: captions[name] for name in ("missed", "split", "merged", "phantom")}
        found["phantom share"] = captions["phantom"] / max(1, captions["predicted"])
    # What cannot be told, e.g. the F1 of a slice without boundaries, is null in a report.
    return {name: value for name, value in found.items() if value is not None}


def compared(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the spread of every measure that all reports have: of the whole sets, and of each slice."""
    whole = _spreads([measures(report["overall"]) for report in reports])
    slices: dict[str, Any] = {}
    for group in reports[0]["slices"]:
        shared = [name for name in reports[0]["slices"][group] if all(name in one["slices"][group] for one in reports)]
        slices[group] = {name: _spreads([measures(one["slices"][group][name]) for one in reports]) for name in shared}
    return {"model": reports[0]["model"], "overall": whole, "slices": slices}


def _spreads(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {name: spread([one[name] for one in found]) for name in found[0] if all(name in one for one in found)}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", type=Path, nargs="+", help="What `cb evaluate --json` printed, one for each seed.")
    parser.add_argument("--output", type=Path, required=True, help="JSON file.")
    arguments = parser.parse_args()
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.reports]
    if len({report["model"]["sha256"] for report in reports}) > 1:
        print("The reports are of different models.", file=sys.stderr)
        return 2
    result = compared(reports)
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, values in result["overall"].items():
        print(f"{name:32} {values['mean']:8.3f}   ({values['low']:.3f} to {values['high']:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
