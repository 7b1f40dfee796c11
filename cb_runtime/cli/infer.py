"""`cb infer`: captions of videos into subtitle files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.cli.engine_options import engine_options
from cb_runtime.errors import StorageError, UsageError
from cb_runtime.skipping import USUAL

if TYPE_CHECKING:
    from cb_runtime.errors import CbError
    from cb_runtime.inference import InferSettings, VideoOutcome
    from cb_runtime.pipeline import Profile


@reporting("infer")
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="VIDEO_DB_OR_DIR...")
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
@engine_options
@click.option("--batch", type=int, help="Pairs per run of the model.  [default: 16 on CPU, as measured on GPU]")
@click.option("--threads", type=int, help="CPU threads for arithmetic.  [default: the engine's choice]")
@click.option(
    "--reuse/--no-reuse",
    default=True,
    help="Encode each frame once, by the staged graph beside the model.  [default: reuse]",
)
@click.option(
    "--skip",
    default=USUAL.skip,
    show_default=True,
    help="Frames that share the work of one before: none, equal (the same to the bit; changes no result), noise "
    "(differ by no more than noise).",
)
@click.option(
    "--coarse",
    type=int,
    default=USUAL.coarse,
    show_default=True,
    help="Compare frames 2, 4, 8 or 16 apart first, and look between them only where something may have changed; "
    "1 looks at all.",
)
@click.option(
    "--closer/--no-closer",
    default=USUAL.closer,
    help="Look once more, at pieces of the region, at changes from caption to caption that are in doubt.  "
    "[default: closer]",
)
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Videos at once, which share the model and fill its batches together.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds for each video. What was done until then is kept as a partial result, and done again by --resume.",
)
@click.option(
    "--decode-threads",
    type=click.IntRange(min=1),
    help="Threads that decode a video file on the CPU.  [default: half of the cores, 8 at most]",
)
@click.option(
    "--decoder",
    default="cpu",
    show_default=True,
    help="What decodes video files: cpu, nvdec (the video engine of an NVIDIA GPU), or auto: nvdec where it can.",
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Print what each stage of the work does with its time, and draw it into a picture.",
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

    VIDEO_DB_OR_DIR is a video file, a video database with its stored layout, or a folder: then its videos, and those in
    folders below, are taken in the order of their names. One bad video does not stop the others.
    """
    from cb_runtime.files import check_writable
    from cb_runtime.fonts import load_font_encoder
    from cb_runtime.inference import infer_videos, outcome_error
    from cb_runtime.pipeline import Profile
    from cb_runtime.predictor import BoundaryPredictor

    settings = _settings(options)
    videos = _videos(options["videos"])
    if options["profile"]:
        check_writable(options["profile"].parent)
    predictor = BoundaryPredictor(
        options["checkpoint"],
        options["device"],
        backend=options["backend"],
        precision=options["precision"],
        threads=options["threads"],
        streams=options["streams"],
        batch_size=options["batch"],
        plugins=options["plugins"],
        reuse=options["reuse"],
        public_key=options["public_key"],
        skip=options["skip"],
        coarse=options["coarse"],
        closer=options["closer"],
        font_encoder=load_font_encoder(options["font_model"]) if options["font_model"] else None,
    )
    profile = Profile() if options["profile"] else None
    outcomes: list[VideoOutcome] = []
    ending: CbError | None
    try:
        with report.progress("frames") as progress:
            running = infer_videos(predictor, videos, settings, progress, jobs=options["jobs"], profile=profile)
            with closing(running) as found:
                for outcome in found:
                    outcomes.append(outcome)
                    _print_outcome(report, outcome, alone=len(videos) == 1)
        ending = outcome_error(outcomes, fail_on_empty=options["fail_on_empty"])
    except StorageError as error:
        ending = error  # no further video can be written, but those before are told
    model = predictor.model
    if not (outcomes and all(outcome.resumed for outcome in outcomes)):
        report.print(f"Ran {model['name']} with {model['backend']} on {model['device']} ({model['reason']}).")
    document = {"model": model, "videos": [outcome.to_dict() for outcome in outcomes]}
    if profile is not None:
        document["profile"] = _show_profile(report, profile, options["profile"])
    report.finish(document, ending)


def _show_profile(report: Report, profile: Profile, path: Path) -> dict[str, Any]:
    """Print and draw a profile; return it as plain JSON types."""
    from cb_runtime.cli.profile_table import profile_table
    from cb_runtime.pipeline.timeline import save_timeline

    save_timeline(profile, path)
    report.print(profile_table(profile))
    report.print(f"Timeline: {path}")
    return profile.to_dict() | {"timeline": str(path)}


def _videos(places: Sequence[Path]) -> list[Path]:
    """Return the videos named, and those in the folders named. Raises InputError for a folder without any."""
    from cb_runtime.video.folder import find_videos, is_folder

    return list(
        dict.fromkeys(video for place in places for video in (find_videos(place) if is_folder(place) else [place]))
    )


def _settings(options: dict[str, Any]) -> InferSettings:
    from cb_runtime.decoding import DecodeOptions, distances_from_text
    from cb_runtime.inference import InferSettings
    from cb_runtime.outputs import suffix_of
    from cb_runtime.video import check_decoder

    formats = tuple(dict.fromkeys(name.strip() for name in options["formats"].split(",") if name.strip()))
    if not formats:
        raise UsageError("--format needs at least one format, e.g. srt,json.")
    for name in formats:
        suffix_of(name)  # an unknown format is refused before any work is done
    if options["profile"] is not None and options["profile"].suffix.lower() != ".png":
        raise UsageError(f"--profile draws a PNG file: name it FILE.png, got {options['profile']}.")
    check_decoder(options["decoder"])
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
        timeout=options["timeout"],
        decode_threads=options["decode_threads"],
        decoder=options["decoder"],
        resume=options["resume"],
        overwrite=options["overwrite"],
    )


def _print_outcome(report: Report, outcome: VideoOutcome, *, alone: bool) -> None:
    from cb_runtime.video.types import Decoder

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
    if outcome.statistics.get("decoder_reason", Decoder.reason) != Decoder.reason:
        report.print(f"Decoded by {outcome.statistics['decoder']} ({outcome.statistics['decoder_reason']}).")
