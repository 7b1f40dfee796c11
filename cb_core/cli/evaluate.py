"""`cb evaluate`: how well a model finds captions in videos whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.cli.engine_options import engine_options
from cb_runtime.errors import require
from cb_runtime.skipping import USUAL

if TYPE_CHECKING:
    from rich.table import Table

    from cb_core.evaluation import Evaluation, Metrics
    from cb_runtime.decoding import DecodeOptions
    from cb_runtime.errors import CbError

_PATH = click.Path(path_type=Path)


@reporting("evaluate")
@click.option("--videos", required=True, type=_PATH, help="Folder of videos with their truth beside them.")
@click.option("--checkpoint", type=_PATH, help="Model: best.onnx, or best.pt.  [default: the one in the box]")
@click.option("--output", type=_PATH, help="Folder of report.json and report.html.")
@click.option(
    "--layout",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "truth"]),
    help="Detect the caption region as users get it, or take it from the truth.",
)
@click.option("--min-frames", type=int, help="Shortest caption, in frames.  [default: as cb infer]")
@click.option("--change-penalty", type=float, help="See cb infer.  [default: as cb infer]")
@click.option("--skip", default=USUAL.skip, show_default=True, help="See cb infer.")
@click.option("--coarse", type=int, default=USUAL.coarse, show_default=True, help="See cb infer.")
@click.option("--closer/--no-closer", default=USUAL.closer, help="See cb infer.  [default: closer]")
@click.option("--worst", default=24, show_default=True, help="Pictures of missed, false and shifted boundaries.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@engine_options
@click.option("--batch", type=int, help="Pairs per run of the model.  [default: 16 on CPU, as measured on GPU]")
@click.option("--threads", type=int, help="CPU threads for arithmetic.  [default: the engine's choice]")
@click.option(
    "--plugin", "plugins", multiple=True, help="Python file that registers architectures, for a .pt. Repeatable."
)
@click.option("--font-model", type=_PATH, help="Font encoder weights, for a model trained with font embeddings.")
@click.option("--resume", is_flag=True, help="Go on with what an earlier run left in --output.")
def evaluate(report: Report, **options: Any) -> None:  # noqa: ANN401  (the options above)
    """Measure how well a model finds captions in videos whose truth is known.

    The truth is <video's stem>.truth.json as cb synth writes it, or captions that people made (.json, .ass, .vtt,
    .srt). One bad video does not stop the others.
    """
    for module in ("torch", "sqlalchemy", "torchmetrics"):
        require(module)
    from cb_core.data import find_videos
    from cb_core.evaluation import EvaluateOptions, evaluate_videos
    from cb_core.evaluation.report import check_worst, write_report
    from cb_runtime.fonts import load_font_encoder
    from cb_runtime.predictor import BoundaryPredictor

    check_worst(options["worst"])
    settings = EvaluateOptions(options["layout"], _decoding(options), options["output"], options["resume"])
    videos = find_videos(options["videos"])
    predictor = BoundaryPredictor(
        options["checkpoint"],
        options["device"],
        backend=options["backend"],
        precision=options["precision"],
        threads=options["threads"],
        streams=options["streams"],
        batch_size=options["batch"],
        plugins=options["plugins"],
        font_encoder=load_font_encoder(options["font_model"]) if options["font_model"] else None,
        skip=options["skip"],
        coarse=options["coarse"],
        closer=options["closer"],
    )
    with report.progress() as progress:
        evaluation = evaluate_videos(predictor, videos, settings, progress=progress)
    _print(report, evaluation)
    document = evaluation.to_dict()
    if options["output"] is not None and evaluation.videos:
        files = write_report(evaluation, options["output"], options["worst"])
        document["files"] = [str(file) for file in files]
        report.print(f"\nWrote {' and '.join(document['files'])}.")
    report.finish(document, _ending(evaluation))


def _decoding(options: dict[str, Any]) -> DecodeOptions | None:
    from cb_runtime.decoding import DecodeOptions

    given = {name: options[name] for name in ("min_frames", "change_penalty") if options[name] is not None}
    return DecodeOptions(**given) if given else None


def _ending(evaluation: Evaluation) -> CbError | None:
    from cb_runtime.errors import InputError, PartialResultError

    if evaluation.failed and not evaluation.videos:
        return InputError(next(iter(evaluation.failed.values())))
    incomplete = [*evaluation.failed, *(str(one.video) for one in evaluation.videos if one.partial)]
    if incomplete:
        return PartialResultError(f"Not all could be evaluated: {', '.join(incomplete)}. The rest is reported.")
    return None


def _print(report: Report, evaluation: Evaluation) -> None:
    for video, reason in evaluation.failed.items():
        if evaluation.videos or len(evaluation.failed) > 1:  # an only video's error is the command's own
            report.warn(f"{video}: {reason}")
    if evaluation.without_truth:
        report.warn(f"{len(evaluation.without_truth)} videos without a truth beside them were left out.")
    if evaluation.videos:
        report.print(_summary(evaluation))
        report.print(_slice_table(evaluation))


def _summary(evaluation: Evaluation) -> Table:
    from rich.table import Table

    from cb_core.evaluation.text import summary_rows

    table = Table("", "", box=None, pad_edge=False, show_header=False)
    for name, value in summary_rows(evaluation):
        table.add_row(name, value)
    return table


def _slice_table(evaluation: Evaluation) -> Table:
    from rich.table import Table

    table = Table("\nSlice, worst first", box=None, pad_edge=False)
    for heading in ("Videos", "Boundaries", "F1 at 0", "F1 at 1", "F1 at 2", "Hard cuts at 0", "Onset ms", "Offset ms"):
        table.add_column(heading, justify="right")
    for name, metrics in evaluation.worst_slices():
        table.add_row(name, *_slice_cells(metrics))
    return table


def _slice_cells(metrics: Metrics) -> list[str]:
    from cb_core.evaluation.text import number

    f1 = [f"{scores.f1:.4f}" for scores in (*metrics.boundaries, metrics.hard_cuts[0])]
    errors = [number(errors.mean_absolute_ms, 1) for errors in (metrics.onset, metrics.offset)]
    return [str(metrics.videos), str(metrics.boundaries[0].true), *f1, *errors]
