"""`cb synth`: captioned videos with exact ground truth."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import UsageError, require

if TYPE_CHECKING:
    from cb_core.synth.collection import Collection

_FOLDER = click.Path(file_okay=False, path_type=Path)


@reporting("synth")
@click.argument("out", type=_FOLDER)
@click.option("--videos", type=int, default=10, show_default=True, help="How many videos.")
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Length of each.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same videos.")
@click.option("--size", default="auto", show_default=True, help="WIDTHxHEIGHT, or auto to choose for each video.")
@click.option(
    "--fps",
    default="auto",
    show_default=True,
    help="Frames per second, e.g. 25 or 30000/1001, or auto to choose for each video (variable for some).",
)
@click.option("--backgrounds", type=_FOLDER, help="Folder of pictures and videos without captions to put captions on.")
@click.option("--fonts", type=_FOLDER, help="Folder of fonts to use instead of the system's.")
@click.option("--band", is_flag=True, help="Render only the rows around the captions: fast, for training.")
@click.option(
    "--pace",
    type=click.Choice(["normal", "fast", "restless", "similar", "bare"]),
    default="normal",
    show_default=True,
    help="How captions follow each other: as in films; for training, many hard boundaries a second, many cuts and much "
    "movement behind each caption, captions that mostly differ in one character, or cuts behind text that often has "
    "neither outline nor box.",
)
@click.option("--jobs", type=int, help="Processes that render; one per CPU core when left out.")
@click.option("--overwrite", is_flag=True, help="Replace videos that were rendered with other settings.")
def synth(
    report: Report,
    out: Path,
    videos: int,
    seconds: float,
    seed: int,
    size: str,
    fps: str,
    backgrounds: Path | None,
    fonts: Path | None,
    band: bool,
    pace: str,
    jobs: int | None,
    overwrite: bool,
) -> None:
    """Render captioned videos with exact ground truth into the folder OUT.

    Each video comes with an .srt and a .truth.json. Run again after an interruption, the command keeps what is whole
    and renders the rest.
    """
    for module in ("PIL", "cv2", "av", "pysubs2"):
        require(module)
    from cb_core.synth.collection import render_collection
    from cb_core.synth.plan import SynthOptions
    from cb_core.synth.timing import rate_from_text

    options = SynthOptions(seconds, seed, _size_from_text(size), rate_from_text(fps), backgrounds, fonts, band, pace)
    started = time.perf_counter()
    with report.progress("frames") as progress:
        collection = render_collection(
            out,
            videos,
            options,
            jobs=os.cpu_count() or 1 if jobs is None else jobs,
            overwrite=overwrite,
            progress=progress,
        )
    document = _document(out, collection, time.perf_counter() - started)
    report.result(document)
    report.print(
        f"{videos} videos in {out} ({document['rendered']} rendered in {document['wall_seconds']:.1f} s, "
        f"{document['kept']} kept): {document['frames']} frames, {document['captions']} captions."
    )


def _size_from_text(text: str) -> tuple[int, int] | None:
    if text == "auto":
        return None
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size must be WIDTHxHEIGHT such as 640x360, or auto, got {text}.")
    return int(width), int(height)


def _document(out: Path, collection: Collection, wall_seconds: float) -> dict[str, Any]:
    from cb_core.synth.truth import read_truth

    rows = []
    for files in collection.files:
        truth = read_truth(files.truth)
        rows.append(
            {
                "video": str(files.video),
                "srt": str(files.subtitles),
                "truth": str(files.truth),
                "frames": truth["frames"],
                "captions": len(truth["captions"]),
                "language": truth["details"]["style"]["language"],
            }
        )
    return {
        "folder": str(out),
        "rendered": collection.rendered,
        "kept": len(rows) - collection.rendered,
        "frames": sum(row["frames"] for row in rows),
        "captions": sum(row["captions"] for row in rows),
        "wall_seconds": round(wall_seconds, 3),
        "videos": rows,
    }
