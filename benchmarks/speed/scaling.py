"""How `cb infer` scales: with the length of a video, in time and peak memory, and from one core to two.

    python -m benchmarks.speed.scaling --minutes 1 10 60 --output benchmarks/results/scaling.json

Renders one minute of 1280 x 720 at 25 frames/s once, repeats its packets to the wanted lengths (no re-encoding), runs
`cb infer` on each as a process of its own and reads the peak resident size from the operating system. Cores are taken
by turns, on the shortest length, by the process's affinity; each engine then chooses its threads by that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.speed.figures import command, machine, markdown, spread, write_json
from benchmarks.speed.material import Material, kept_folder
from cb_runtime.models import default_model_path

REGION = "0.05,0.7,0.95,0.98"


def repeat_packets(source: Path, target: Path, times: int) -> None:
    """Write `source` several times in a row into `target`, packet by packet."""
    with av.open(str(target), "w") as output:
        stream, offset = None, 0
        for _ in range(times):
            with av.open(str(source)) as container:
                template = container.streams.video[0]
                stream = stream or output.add_stream_from_template(template)
                last = 0
                for packet in container.demux(template):
                    if packet.size == 0:  # the end of the stream
                        continue
                    last = max(last, packet.pts + packet.duration)
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    output.mux(packet)
                offset += last


def measure(video: Path, options: list[str], output: Path, cores: int) -> dict[str, Any]:
    """Run `cb infer` on one video on the first cores; return its seconds, peak resident MiB and number of frames."""
    line = [sys.executable, "-c", "from cb_runtime.cli import main; main()", "infer", str(video), *options]
    line += ["--output", str(output), "--overwrite", "--json"]
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    started = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, allowed))
    assert process.stdout is not None
    document = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"cb infer failed: {document}")
    seconds, statistics = time.perf_counter() - started, document["videos"][0]["statistics"]
    return {
        "cores": cores,
        "seconds": round(seconds, 1),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "frames": statistics["frames"],
        "frames_per_second": statistics["frames_per_second"],
    }


def core_rows(video: Path, options: list[str], output: Path, rounds: int) -> list[dict[str, Any]]:
    """Measure one core and all by turns; a row for each."""
    counts = sorted({1, len(os.sched_getaffinity(0))})
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            rates[count].append(measure(video, options, output, count)["frames_per_second"])
    ones = np.array(rates[1])
    return [
        {
            "cores": count,
            "frames_per_second": spread(np.array(rates[count])),
            "ratio": spread(np.array(rates[count]) / ones),
        }
        for count in counts
    ]


def table(lengths: list[dict[str, Any]], cores: list[dict[str, Any]]) -> str:
    """Return two Markdown tables."""
    long = [
        [
            str(row["minutes"]),
            str(row["frames"]),
            f"{row['peak_mib']:.0f}",
            f"{row['seconds']:.0f}",
            f"{row['frames_per_second']:.0f}",
        ]
        for row in lengths
    ]
    by_core = [
        [str(row["cores"]), f"{row['frames_per_second']['median']:.0f}", f"{row['ratio']['median']:.2f}"]
        for row in cores
    ]
    head = ("minutes", "frames", "peak resident MiB", "seconds", "frames/s")
    return markdown(head, long) + "\n" + markdown(("cores", "frames/s", "ratio"), by_core)


def main() -> None:
    """Measure, print tables, and write JSON and Markdown when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=default_model_path(), help="model to run")
    parser.add_argument("--infer-options", default="", help="further options of cb infer, e.g. '--backend openvino'")
    parser.add_argument("--detect", action="store_true", help="find the caption region too, by text detection")
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60], help="lengths to measure, ascending")
    parser.add_argument("--unit-seconds", type=float, default=60, help="length of the video that is repeated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which cores take turns")
    parser.add_argument("--work", type=Path, help="folder that keeps the videos")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON, and as Markdown beside it")
    arguments = parser.parse_args()
    options = ["--checkpoint", str(arguments.checkpoint), *arguments.infer_options.split()]
    options += [] if arguments.detect else ["--region", REGION]
    rows = []
    with kept_folder(arguments.work) as work:
        minute = Material(work, "aligned_comparison", arguments.unit_seconds).video
        lengths = {minutes: work / f"minutes_{minutes}{minute.suffix}" for minutes in arguments.minutes}
        for minutes, video in lengths.items():
            repeat_packets(minute, video, minutes)
            rows.append({"minutes": minutes, **measure(video, options, work / "out", len(os.sched_getaffinity(0)))})
            print(f"{minutes:3d} min: {rows[-1]['peak_mib']} MiB, {rows[-1]['seconds']} s", file=sys.stderr, flush=True)
        cores = core_rows(lengths[arguments.minutes[0]], options, work / "out", arguments.rounds)
    print(table(rows, cores))
    if arguments.output:
        head = {"command": command("benchmarks.speed.scaling"), **machine(), "rounds": arguments.rounds}
        write_json(arguments.output, {**head, "lengths": rows, "by_cores": cores})
        arguments.output.with_suffix(".md").write_text(table(rows, cores))


if __name__ == "__main__":
    main()
