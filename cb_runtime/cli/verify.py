"""`cb verify`: does this model, on this machine, decide as PyTorch did?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_runtime.cli.console import Report, reporting
from cb_runtime.cli.engine_options import engine_options
from cb_runtime.errors import ParityError, UsageError

if TYPE_CHECKING:
    from cb_runtime.golden import GoldenSamples
    from cb_runtime.parity import ParityReport, Runs
    from cb_runtime.parity_report import ReportFiles
    from cb_runtime.parity_runs import ParityRun
    from cb_runtime.progress import Progress


@reporting("verify")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "--golden", type=click.Path(path_type=Path), help="Golden samples.  [default: ARTIFACT's name with .golden.npz]"
)
@click.option("--public-key", type=click.Path(path_type=Path), help="Key that must have signed a package.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@engine_options
@click.option(
    "--report",
    "reports",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Write logits, margins, batches and the worst samples to FILE.html or FILE.json. Repeatable.",
)
@click.option("--batch", "batches", default="1,2,3,15,16", show_default=True, help="Batch sizes to run.")
@click.option("--threads", type=int, help="CPU threads for arithmetic.  [default: the engine's choice]")
@click.option(
    "--plugin", "plugins", multiple=True, help="Python file that registers architectures, for a .pt. Repeatable."
)
def verify(
    report: Report,
    artifact: Path | None,
    golden: Path | None,
    batches: str,
    reports: tuple[Path, ...],
    **options: Any,  # noqa: ANN401  (how to open it)
) -> None:
    """Run golden samples through ARTIFACT (.onnx, .engine, .pt) on this machine and compare with PyTorch's own answers.

    Without ARTIFACT, the model in the box is verified. The staged graph beside it, by which videos are scored, is run
    as well.

    Exits with code 7 when the answers differ by more than the tolerances of the artifact's precision.
    """
    from cb_runtime.golden import golden_path, load_golden_samples
    from cb_runtime.models import default_model_path
    from cb_runtime.package import SUFFIX, open_package
    from cb_runtime.parity_report import ReportFiles
    from cb_runtime.session import open_session

    sizes = _batch_sizes(batches)
    artifact = artifact or default_model_path()
    files = ReportFiles(reports, artifact)
    session = open_session(artifact, **options)
    packed = golden is None and artifact.suffix.lower() == SUFFIX
    samples = golden or (artifact if packed else golden_path(artifact))
    with report.progress("batch sizes") as progress:
        reference = open_package(artifact).golden() if packed else load_golden_samples(samples)
        judge = _judge(session.describe(), reference, sizes, progress, files)
        outcome = judge("Artifact", session)
        staged = None if session.stages is None else judge("Staged graph", session.stages)
    ran = session.describe()
    document: dict[str, Any] = {
        "artifact": str(artifact),
        "golden": str(samples),
        "session": ran,
        "parity": outcome.to_dict(),
    }
    document["staged"] = None if staged is None else staged.to_dict()
    report.print(str(outcome))
    if staged is not None:
        report.print(f"In stages: {staged}")
    for path in reports:
        report.print(f"Report: {path}")
    report.print(f"Ran {artifact.name} with {ran['backend']} on {ran['device']} ({ran['reason']}).")
    failure = ParityError(
        f"{artifact} does not decide as PyTorch did on {samples}. Export it again, or use another device."
    )
    report.finish(document, None if outcome and (staged is None or staged) else failure)


def _judge(
    engine: dict[str, Any], golden: GoldenSamples, sizes: list[int], progress: Progress, files: ReportFiles
) -> Callable[[str, Runs], ParityReport]:
    from cb_runtime.parity import verify_session
    from cb_runtime.parity_report import JudgedGraph

    def judge(title: str, graph: Runs) -> ParityReport:
        runs: list[ParityRun] = []
        outcome = verify_session(
            graph, golden, sizes, precision=engine["precision"], progress=progress, on_run=runs.append
        )
        files.add(JudgedGraph(title, outcome, golden, runs, graph.metadata, engine))
        return outcome

    return judge


def _batch_sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--batch must be batch sizes like 1,2,16, got '{text}'.") from error
