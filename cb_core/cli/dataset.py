"""`cb dataset`: build datasets from captioned videos, and look into them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import PartialResultError, UsageError, require

if TYPE_CHECKING:
    from cb_core.data.builder import BuildReport
    from cb_core.data.fonts import FontEncoder
    from cb_core.data.options import BuildOptions
    from cb_core.data.summary import DatasetSummary

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def dataset() -> None:
    """Build a dataset of frame pairs from captioned videos, and look into it."""


@reporting("create")
@click.argument("database", metavar="NAME.db|URL")
@click.option(
    "--videos",
    "places",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="A video file, or a folder that is searched for videos; may be repeated.",
)
@click.option("--captions", type=_FOLDER, help="Folder of caption files (same stem as the video). [default: beside it]")
@click.option("--region", help="Caption region of all these videos: LEFT,TOP,RIGHT,BOTTOM, pixels or fractions.")
@click.option(
    "--layout",
    "layout_file",
    type=_FILE,
    help="JSON of text boxes or a region for all these videos. [default: STEM.layout.json by the captions, then OCR]",
)
@click.option("--skip-bad-captions", is_flag=True, help="Leave out captions that cannot be true, with their stretches.")
@click.option("--pairs-per-video", type=int, default=600, show_default=True, help="Pairs of one video at most.")
@click.option("--distances", default="1,2,4,8,16", show_default=True, help="Frames between the two of a pair.")
@click.option("--val-share", type=float, default=0.15, show_default=True, help="Share of videos for validation.")
@click.option(
    "--test-share", type=float, default=0.15, show_default=True, help="Share of videos kept for a final test."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which pairs are taken and the split.")
@click.option(
    "--resize-strategy",
    type=click.Choice(["mirror_tile", "crop", "adaptive"]),
    default="mirror_tile",
    show_default=True,
    help="How a region wider than a strip is brought to it.",
)
@click.option(
    "--ocr-viz-variant",
    type=click.Choice(["boundaries", "centers", "both", "3d_channels"]),
    default="boundaries",
    show_default=True,
    help="How text boxes are drawn into the picture that models see.",
)
@click.option("--font-model", type=_FILE, help="open_clip weights (ViT-B-32); stores each video's caption style.")
def create(report: Report, database: str, places: tuple[Path, ...], **options: Any) -> None:  # noqa: ANN401  (options)
    """Build a dataset from captioned videos, or add videos to it.

    A video is used when a .truth.json, .json, .ass, .vtt or .srt file of the same name gives its caption times; of
    several, the first in this order. A .json that is no caption file is passed over where another of them exists. So
    is one written by `cb infer` (it has the key 'model'), and subtitles that say the same as it: what a model found is
    no annotation, and where there is nothing else, the video is refused. Once people have checked such a .json, take
    the key 'model' out of it.

    A build that was stopped continues when the same command is run again.
    """
    for module in ("sqlalchemy", "alembic"):
        require(module)
    from cb_core.data.builder import VideoInputsGiven, create_dataset, find_videos

    given = VideoInputsGiven(
        captions=options["captions"],
        region=options["region"],
        layout_file=options["layout_file"],
        skip_bad_captions=options["skip_bad_captions"],
    )
    videos = list(dict.fromkeys(video for place in places for video in find_videos(place)))
    encoder = _font_encoder(options["font_model"])
    with report.progress("frames") as progress:
        built = create_dataset(
            database, videos, options=_build_options(options), given=given, font_encoder=encoder, progress=progress
        )
    _tell(report, database, built)
    if not built.complete:
        click.get_current_context().exit(PartialResultError.exit_code)


@reporting("info")
@click.argument("database", metavar="NAME.db|URL")
def info(report: Report, database: str) -> None:
    """Show what a dataset holds: videos and pairs per split and label, distances, warnings."""
    for module in ("sqlalchemy", "alembic"):
        require(module)
    from cb_core.data.database import get_dataset_db
    from cb_core.data.summary import summarise_dataset

    with next(get_dataset_db(database)) as session:
        summary = summarise_dataset(session)
    report.result(summary.to_dict())
    _show(report, summary)


dataset.add_command(create)
dataset.add_command(info)


def _build_options(options: dict[str, Any]) -> BuildOptions:
    from cb_core.data.options import BuildOptions
    from cb_runtime.contract import Preprocessing

    try:
        distances = tuple(int(part) for part in options["distances"].split(","))
    except ValueError as error:
        raise UsageError(f"--distances must be whole numbers such as 1,2,4, got '{options['distances']}'.") from error
    return BuildOptions(
        preprocessing=Preprocessing(resize_strategy=options["resize_strategy"]),
        distances=distances,
        **{name: options[name] for name in ("ocr_viz_variant", "pairs_per_video", "val_share", "test_share", "seed")},
    )


def _font_encoder(weights: Path | None) -> FontEncoder | None:
    if weights is None:
        return None
    from cb_core.data.fonts import FontEncoder

    return FontEncoder(weights)


def _tell(report: Report, database: str, built: BuildReport) -> None:
    from cb_core.data.database import public_name

    name = public_name(database)
    report.result({"database": name, **built.to_dict()})
    for path, reason in built.failed.items():
        report.warn(f"{path} was left out: {reason}")
    for path, messages in built.messages.items():
        report.warn(f"{path}: {'; '.join(messages)}")
    for path, original in built.copies.items():
        report.warn(f"{path} was left out: it is a copy of {original}")
    for path in built.without_captions:
        report.warn(f"{path} was left out: it has no caption file of the same name")
    report.print(f"{name}: {len(built.added)} videos added, {len(built.kept)} were there already.")
    assert built.summary is not None
    _show(report, built.summary)


def _show(report: Report, summary: DatasetSummary) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("split", box=SIMPLE, padding=(0, 1, 0, 0), title=f"{summary.name}  {summary.digest[:12]}")
    for name in ("videos", *summary.pairs["train"], "pairs"):
        table.add_column(name, justify="right", no_wrap=True)
    for split, counts in summary.pairs.items():
        cells = [str(count) for count in counts.values()]
        table.add_row(split, str(summary.videos[split]), *cells, str(sum(counts.values())))
    report.print(table)
    distances = ", ".join(f"{distance}: {count}" for distance, count in summary.distances.items())
    report.print(f"{summary.captions} captions. Pairs by distance in frames: {distances}.")
    for warning in summary.warnings:
        report.warn(warning)
