"""`cb demo`: the whole path on rendered videos."""

from __future__ import annotations

from pathlib import Path

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import require


@reporting("demo")
@click.option(
    "--output", type=click.Path(path_type=Path), default="cb-demo", show_default=True, help="Folder for all files."
)
@click.option("--videos", type=click.IntRange(min=3), default=28, show_default=True, help="Videos to train on.")
@click.option("--seconds", type=float, default=16.0, show_default=True, help="Length of each.")
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True, help="Passes over the dataset.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed renders the same videos.")
def demo(report: Report, output: Path, videos: int, seconds: float, epochs: int, seed: int) -> None:
    """Render videos, build a dataset, train, export to ONNX, find captions in videos nobody trained on.

    Takes under ten minutes on two cores. Prints boundary F1 against the ground truth and where the subtitles are.
    """
    for module in ("torch", "sqlalchemy", "PIL", "onnx", "onnxscript", "onnxruntime", "rapidocr"):
        require(module)
    from cb_export.demo import DemoOptions, run_demo

    options = DemoOptions(videos=videos, seconds=seconds, epochs=epochs, seed=seed)
    with report.progress() as progress:
        result = run_demo(output, options, say=report.print, progress=progress)
    report.print()
    for score in result.scores:
        report.print(
            f"Boundary F1 at tolerance {score.tolerance}: {score.f1:.3f} "
            f"(precision {score.precision:.3f}, recall {score.recall:.3f}, {score.true} true boundaries)"
        )
    report.print(f"Model: {result.artifact}")
    report.print(f"Subtitles: {', '.join(str(path) for path in result.subtitles)}")
    report.print(f"Total: {sum(result.seconds.values()):.0f} s")
    report.result(result.to_dict())
