"""`cb export`: one artifact from a checkpoint, published only when it agrees with PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_export.cli._engine import check_engine_options, engine_options, engine_options_from, print_engine
from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import UsageError, require

if TYPE_CHECKING:
    from cb_export.pipeline import ExportResult
    from cb_runtime.contract import ModelMetadata

FILE = click.Path(path_type=Path)


@reporting("export")
@click.option("--checkpoint", type=FILE, required=True, help="Checkpoint of `cb train`, e.g. best.pt, or default.")
@click.option("--format", "format_name", default="onnx", show_default=True, help="Kind of artifact: onnx or trt.")
@click.option("--output", type=FILE, help="The artifact. [default: beside the checkpoint, e.g. best.onnx]")
@click.option(
    "--package",
    type=FILE,
    help="Write a package, e.g. best.cbx, in place of the artifact: model, proof and model card.",
)
@click.option("--licence", help="With --package: under which licence the model may be used, for its model card.")
@click.option(
    "--triton",
    type=FILE,
    metavar="DIR",
    help="Write into a Triton model repository in place of the artifact; an engine joins those for other GPUs.",
)
@click.option("--triton-name", metavar="NAME", help="With --triton: name of the model.  [default: the checkpoint's]")
@click.option("--opset", type=int, help="ONNX operator set.  [default: 20; for bf16 22]")
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    help="Arithmetic: fp32, fp16, int8, of engines bf16 too; or auto: the fastest that passes, measured here.",
)
@click.option(
    "--calibration", type=FILE, help="int8: dataset whose training pairs it is calibrated on. [default: golden samples]"
)
@click.option("--keep-float", metavar="NAME,NAME,...", help="Modules that a lower precision leaves in float.")
@click.option(
    "--judge", type=FILE, help="Dataset on whose labelled validation pairs parity is judged too, 400 at most."
)
@click.option("--golden", type=FILE, help="Golden samples. [default: beside the checkpoint, e.g. best.golden.npz]")
@click.option("--batches", metavar="N,N,...", help="Batch sizes to compare with PyTorch. [default: 1,2,3,15,16]")
@click.option(
    "--report",
    "reports",
    type=FILE,
    multiple=True,
    help="Write the gate's report, also when it fails, to FILE.html or FILE.json. Repeatable.",
)
@click.option("--decoding", type=FILE, help="JSON of `cb tune`: how the model's answers become captions.")
@click.option("--allow-parity-failure", is_flag=True, help="Publish even if parity fails; the metadata says so.")
@click.option(
    "--staged/--no-staged",
    default=None,
    help="Write the graph in stages too, with which each frame is encoded once.  [default: where possible]",
)
@click.option("--plugin", "plugins", type=FILE, multiple=True, help="Python file that registers architectures.")
@engine_options
def export(
    *,
    checkpoint: Path,
    format_name: str,
    output: Path | None,
    package: Path | None,
    licence: str | None,
    triton: Path | None,
    triton_name: str | None,
    opset: int | None,
    precision: str,
    calibration: Path | None,
    keep_float: str | None,
    judge: Path | None,
    golden: Path | None,
    batches: str | None,
    reports: tuple[Path, ...],
    decoding: Path | None,
    allow_parity_failure: bool,
    staged: bool | None,
    plugins: tuple[Path, ...],
    report: Report,
    **engine: Any,  # noqa: ANN401  (the options of TensorRT)
) -> None:
    """Export a checkpoint: merge LoRA, trace, build, compare with PyTorch, publish.

    The artifact appears only if it agrees with the checkpoint on its golden samples (exit code 7 otherwise).

    With --format trt it is a TensorRT engine, with a sidecar and, where it can be had, a staged graph beside it; copy
    them along.
    """
    for module in ("torch", "onnx", "onnxscript"):
        require(module)
    from cb_core.evaluation.tuning import decoding_from_file
    from cb_export.cli._triton import print_triton
    from cb_export.package import export_package
    from cb_export.pipeline import ExportOptions, export_checkpoint
    from cb_export.targets import load_target
    from cb_export.triton import export_triton
    from cb_runtime.parity_report import ReportFiles

    _check_places(output, package, licence, triton, triton_name)
    unverified = check_engine_options(format_name, engine)
    target = load_target(format_name)
    options = ExportOptions(
        format=format_name,
        opset=opset,
        precision=precision,
        calibration=calibration,
        keep_float=tuple(keep_float.split(",")) if keep_float else (),
        judge=judge,
        golden=golden,
        batches=_batches(batches) if batches else ExportOptions.batches,
        allow_parity_failure=allow_parity_failure,
        staged=staged,
        plugins=tuple(map(str, plugins)),
        decoding=decoding_from_file(decoding) if decoding else None,
        engine=engine_options_from(engine),
        unverified=unverified,
        on_judged=ReportFiles(reports, package or triton or output or checkpoint.with_suffix(target.SUFFIX)).add,
    )
    with report.progress() as progress:
        if package is not None:
            _print_package(report, package, export_package(checkpoint, package, options, progress, licence))
            _print_reports(report, reports)
            return
        if triton is not None:
            print_triton(report, *export_triton(checkpoint, triton, options, progress, triton_name))
            _print_reports(report, reports)
            return
        result = export_checkpoint(checkpoint, output, options, progress)
    if result.metadata.parity and result.metadata.parity["ok"] is None:
        report.warn(f"{result.path} was {result.report}\nRun it where it will be used: cb verify {result.path}")
    elif not result.report:
        report.warn(f"{result.path} was published although it failed the parity gate:\n{result.report}")
    if result.staged is not None and result.staged.compared is not None and not result.staged.compared:
        report.warn(f"The staged graph was published although it failed the parity gate:\n{result.staged.compared}")
    _print(report, result)
    _print_reports(report, reports)


def _print_reports(report: Report, paths: tuple[Path, ...]) -> None:
    for path in paths:
        report.print(f"Report of the gate: {path}")


def _print_calibration(report: Report, metadata: ModelMetadata) -> None:
    if metadata.keep_float:
        report.print(f"Kept in float: {', '.join(metadata.keep_float)}")
    record = metadata.calibration
    if record is None:
        return
    report.print(f"Calibrated on {record['samples']} samples: {record['source']}")
    if record["overlaps_parity"]:
        report.warn("It was calibrated on samples that parity was judged on too, so parity may look better than it is.")


def _check_places(
    output: Path | None, package: Path | None, licence: str | None, triton: Path | None, triton_name: str | None
) -> None:
    """Raise UsageError for places that exclude each other, and for what belongs to a place that was not given."""
    places = {"--output": output, "--package": package, "--triton": triton}
    given = [option for option, place in places.items() if place is not None]
    if len(given) > 1:
        raise UsageError(f"Give either {' or '.join(given)}: a package and a Triton repository hold the artifact.")
    if licence is not None and package is None:
        raise UsageError("--licence stands in the model card of a package: give --package too.")
    if triton_name is not None and triton is None:
        raise UsageError("--triton-name is the model's name in a Triton repository: give --triton too.")


def _batches(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--batches takes whole numbers separated by commas, e.g. 1,2,8, got {text!r}.") from error


def _print_package(report: Report, package: Path, result: ExportResult) -> None:
    size = package.stat().st_size
    report.print(f"{package}: {result.metadata.architecture_name}, {size / 2**20:.1f} MiB")
    report.print(str(result.report))
    report.print("It runs where cb_runtime is: cb infer VIDEO --checkpoint " + str(package))
    plain = result.to_dict()
    report.result({"package": str(package), "size": size, "parity": plain["parity"], "metadata": plain["metadata"]})


def _print(report: Report, result: ExportResult) -> None:
    from cb_runtime.stages import stages_path

    metadata = result.metadata
    report.print(
        f"{result.path}: {metadata.architecture_name}, {metadata.precision}, opset {metadata.opset}, "
        f"{result.size / 2**20:.1f} MiB"
    )
    print_engine(report, result.path)
    if result.choice is not None:
        report.print(str(result.choice))
    _print_calibration(report, metadata)
    if metadata.lora_merge:
        report.print(
            "LoRA: {layers} layers merged, logits changed by {max_abs_logit_difference:.1e}".format_map(
                metadata.lora_merge
            )
        )
    if result.report:
        report.print(str(result.report))
    pairs = (metadata.parity or {}).get("judge_pairs")
    if pairs is not None:
        report.print(f"Judged on {pairs['samples']} {pairs['source']}, besides golden samples")
    if result.staged is not None:
        report.print(f"In stages, for videos: {stages_path(result.path)}, {result.staged.in_short}")
    report.print(f"Golden samples for `cb verify`: {result.golden}")
    report.result(result.to_dict())
