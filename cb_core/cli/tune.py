"""`cb tune`: the decoding that suits a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import require

if TYPE_CHECKING:
    from rich.table import Table

    from cb_core.evaluation.tuning import Tuning

_SHOWN = 8


@reporting("tune")
@click.option(
    "--videos", required=True, type=click.Path(path_type=Path), help="Folder of videos with their truth beside them."
)
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="Model: best.onnx, or best.pt.  [default: the one in the box]"
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file of the decoding found.",
)
@click.option(
    "--layout",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "truth"]),
    help="Detect the caption region as users get it, or take it from the truth.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=int, help="CPU threads for arithmetic.  [default: the engine's choice]")
def tune(
    report: Report,
    videos: Path,
    checkpoint: Path | None,
    output: Path,
    layout: str,
    device: str,
    threads: int | None,
) -> None:
    """Find the decoding that suits a model, and calibrate its scores, on videos whose truth is known.

    Take long videos that the model was not trained on, and others to evaluate on. `cb export --decoding FILE` puts what
    was found into an artifact.
    """
    for module in ("torch", "sqlalchemy", "torchmetrics"):
        require(module)
    from cb_core.data import find_videos
    from cb_core.evaluation.run import score_once
    from cb_core.evaluation.tuning import SCORED, tune_decoding
    from cb_runtime.files import check_writable
    from cb_runtime.predictor import BoundaryPredictor

    check_writable(output.parent)
    predictor = BoundaryPredictor(checkpoint, device, threads=threads, coarse=1)
    with report.progress() as progress:
        scored = list(score_once(predictor, find_videos(videos), layout, distances=SCORED, progress=progress))
        tuning = tune_decoding(predictor, scored, progress)
    tuning.save(output)
    report.result({"output": str(output), **tuning.to_dict()})
    report.print(_table(tuning))
    report.print(
        f"Calibration error {tuning.error_before:.4f} -> {tuning.error_after:.4f} over {tuning.boundaries} boundaries. "
        f"Put it into an artifact with: cb export --checkpoint best.pt --decoding {output}"
    )


def _table(tuning: Tuning) -> Table:
    from rich.table import Table

    names = ("Distances", "Far", "Margin", "Least frames", "Change penalty", "Blink penalty")
    table = Table(*names, "F1 at 0", "F1 at 1", "F1 at 2", box=None)
    for trial in tuning.trials[:_SHOWN]:
        decoding = trial.decoding
        table.add_row(
            ",".join(map(str, decoding.distances)),
            str(decoding.far_distance or "-"),
            f"{decoding.far_margin:g}" if decoding.far_distance else "-",
            str(decoding.min_frames),
            f"{decoding.change_penalty:g}",
            f"{decoding.blink_penalty:g}",
            *(f"{f1:.4f}" for f1 in trial.f1),
        )
    return table
