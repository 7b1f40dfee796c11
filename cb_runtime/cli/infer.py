"""`cb infer`: captions of videos into subtitle files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import StorageError, UsageError
from cb_runtime.skipping import Skipping

if TYPE_CHECKING:
    from cb_runtime.errors import CbError
    from cb_runtime.inference import InferSettings, VideoOutcome


@reporting("infer")
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="VIDEO_OR_DB...")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Model: best.onnx, best.cbx or best.pt.  [default: the one in the box]",
)
@click.option(
    "--output", default=".", show_default=True, type=click.Path(path_type=Path), help="Folder of the outputs."
)
@click.option("--format", "formats", default="srt,json", show_default=True, help="srt, vtt, ass, json, csv, video_db.")
@click.option("--region", help="Caption region LEFT,TOP,RIGHT,BOTTOM in pixels or fractions; no OCR is needed then.")
@click.option("--layout", type=click.Path(path_type=Path), help="JSON layout, or text boxes found elsewhere.")
@click.option("--public-key", type=click.Path(path_type=Path), help="Key that must have signed a package.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--batch", type=int, help="Pairs per run of the model.  [default: 16 on CPU, 128 on GPU]")
@click.option("--threads", type=int, help="CPU threads for arithmetic.  [default: the engine's choice]")
@click.option(
    "--reuse/--no-reuse",
    default=True,
    help="Encode each frame once, by the MODEL.staged beside the model.  [default: reuse]",
)
@click.option(
    "--skip",
    default=Skipping.skip,
    show_default=True,
    help="Frames that share the work of one before: none, equal (the same to the bit; changes no result), noise "
    "(differ by no more than noise).",
)
@click.option(
    "--coarse",
    type=int,
    default=Skipping.coarse,
    show_default=True,
    help="Compare frames 2, 4, 8 or 16 apart first, and look between them only where something may have changed; "
    "1 looks at all.",
)
@click.option("--min-frames", type=int, help="Shortest caption, in frames.  [default: the model's, mostly 1]")
@click.option(
    "--change-penalty",
    type=float,
    help="How sure a change from caption to caption must be: odds of exp(N) to 1. Higher splits less.  "
    "[default: the model's]",
)
@click.option(
    "--distances", help="Distances in frames of the pairs that are compared, e.g. 1,2,3.  [default: the model's]"
)
@click.option(
    "--plugin", "plugins", multiple=True, help="Python file that registers architectures, for a .pt. Repeatable."
)
@click.option(
    "--font-model",
    type=click.Path(path_type=Path),
    help="Font encoder weights, for a model trained with font embeddings; needs PyTorch.",
)
@click.option("--resume", is_flag=True, help="Leave out videos whose outputs were made by the same settings.")
@click.option(
    "--overwrite", is_flag=True, help="Replace files that cb infer did not write, or that were changed since."
)
@click.option("--fail-on-empty", is_flag=True, help="Exit with code 5 when a video has no captions.")
def infer(report: Report, **options: Any) -> None:  # noqa: ANN401  (the options above)
    """Find the captions of videos and write DIR/<video's stem>.<format>.

    VIDEO_OR_DB is a video file, or a video database with its stored layout. One bad video does not stop the others.
    """
    from cb_runtime.fonts import load_font_encoder
    from cb_runtime.inference import infer_videos, outcome_error
    from cb_runtime.predictor import BoundaryPredictor

    settings = _settings(options)
    predictor = BoundaryPredictor(
        options["checkpoint"],
        options["device"],
        threads=options["threads"],
        batch_size=options["batch"],
        plugins=options["plugins"],
        reuse=options["reuse"],
        public_key=options["public_key"],
        skip=options["skip"],
        coarse=options["coarse"],
        font_encoder=load_font_encoder(options["font_model"]) if options["font_model"] else None,
    )
    outcomes: list[VideoOutcome] = []
    ending: CbError | None
    try:
        with report.progress("frames") as progress:
            for outcome in infer_videos(predictor, options["videos"], settings, progress):
                outcomes.append(outcome)
                _print_outcome(report, outcome, alone=len(options["videos"]) == 1)
        ending = outcome_error(outcomes, fail_on_empty=options["fail_on_empty"])
    except StorageError as error:
        ending = error  # no further video can be written, but those before are told
    model = predictor.model
    report.print(f"Ran {model['name']} with {model['backend']} on {model['device']} ({model['reason']}).")
    report.finish({"model": model, "videos": [outcome.to_dict() for outcome in outcomes]}, ending)


def _settings(options: dict[str, Any]) -> InferSettings:
    from cb_runtime.decoding import DecodeOptions, distances_from_text
    from cb_runtime.inference import InferSettings
    from cb_runtime.outputs import suffix_of

    formats = tuple(dict.fromkeys(name.strip() for name in options["formats"].split(",") if name.strip()))
    if not formats:
        raise UsageError("--format needs at least one format, e.g. srt,json.")
    for name in formats:
        suffix_of(name)  # an unknown format is refused before any work is done
    if options["region"] is not None and options["layout"] is not None:
        raise UsageError("Give either --region or --layout, not both.")
    distances = None if options["distances"] is None else distances_from_text(options["distances"])
    decode = DecodeOptions(options["min_frames"], options["change_penalty"], distances)
    return InferSettings(
        options["output"],
        formats,
        options["region"],
        options["layout"],
        decode,
        resume=options["resume"],
        overwrite=options["overwrite"],
    )


def _print_outcome(report: Report, outcome: VideoOutcome, *, alone: bool) -> None:
    for message in outcome.messages:
        report.warn(f"{outcome.video.name}: {message}")
    if outcome.error:
        if not alone:  # an only video's error is the command's own
            report.warn(f"{outcome.video}: {outcome.error}")
        return
    rate = outcome.statistics.get("frames_per_second")
    speed = "already done" if outcome.resumed else f"{rate} frames/s" if rate else "nothing scored"
    places = ", ".join(map(str, outcome.outputs.values()))
    report.print(f"{outcome.video.name}: {outcome.captions} captions -> {places} ({speed})")
