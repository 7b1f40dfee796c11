"""Peak memory and time of `cb infer` against the length of a video.

    python benchmarks/memory.py --checkpoint first.onnx --minutes 1 10

Renders one minute of 1280 x 720 at 25 frames/s once, repeats its packets to the wanted lengths (no re-encoding), runs
`cb infer` on each as a process of its own and reads the peak resident size from the operating system.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from cb_core.synth.collection import render_videos

SEED = 5
"""Renders H.264 in .mp4, where every packet has a decoding time."""

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


def measure(video: Path, checkpoint: Path, output: Path) -> dict[str, Any]:
    """Run `cb infer` on one video; return its seconds, peak resident MiB and number of frames."""
    command = [sys.executable, "-c", "from cb_runtime.cli import main; main()", "infer", str(video)]
    command += ["--checkpoint", str(checkpoint), "--region", REGION, "--output", str(output), "--json"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    document = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"cb infer failed: {document}")
    seconds = time.perf_counter() - started
    return {
        "seconds": round(seconds, 1),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "frames": document["videos"][0]["statistics"]["frames"],
    }


def main() -> None:
    """Measure and print; write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="model to run (.onnx)")
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10], help="lengths to measure")
    parser.add_argument("--unit-seconds", type=float, default=60, help="length of the video that is repeated")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (minute,) = render_videos(
            folder / "minute",
            videos=1,
            seconds=arguments.unit_seconds,
            seed=SEED,
            size=(1280, 720),
            frame_rate=Fraction(25),
        )
        for minutes in arguments.minutes:
            video = folder / f"minutes_{minutes}{minute.suffix}"
            repeat_packets(minute, video, minutes)
            rows.append({"minutes": minutes, **measure(video, arguments.checkpoint, folder / "out")})
            print(f"{minutes:3d} min 720p: peak {rows[-1]['peak_mib']} MiB, {rows[-1]['seconds']} s", flush=True)
    if arguments.output:
        minutes = " ".join(map(str, arguments.minutes))
        document = {
            "command": f"python benchmarks/memory.py --checkpoint {arguments.checkpoint.name} --minutes {minutes}",
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
