"""All measurements of speed, one after another, and a picture of what they found.

    python -m benchmarks.speed --output benchmarks/results/speed --work WORK

Each is a command of its own (`python -m benchmarks.speed.throughput --help`); what it measured is in `OUTPUT/NAME.json`
and, as a table, in `OUTPUT/NAME.md`. Those that are there are not measured again: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.speed.plots import draw

MEASUREMENTS = ("startup", "latency", "throughput", "film", "scaling")
WITH_MATERIAL = frozenset(MEASUREMENTS) - {"startup"}


def main() -> None:
    """Run what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps exported models and videos")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS, help="measurements to make")
    arguments = parser.parse_args()
    began = time.monotonic()
    for number, name in enumerate(arguments.only, 1):
        place = arguments.output / f"{name}.json"
        if place.is_file():
            continue
        minutes = (time.monotonic() - began) / 60
        print(f"{number}/{len(arguments.only)} {name} ({minutes:.0f} min so far)", file=sys.stderr, flush=True)
        line = [sys.executable, "-m", f"benchmarks.speed.{name}", "--output", str(place)]
        subprocess.run([*line, *(["--work", str(arguments.work)] if name in WITH_MATERIAL else [])], check=True)
    for path in draw(arguments.output):
        print(path)


if __name__ == "__main__":
    main()
