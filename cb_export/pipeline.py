"""From checkpoint to published artifact: merge, trace, build, compare, publish.

Artifact and golden samples are prepared under temporary names beside their places and take their final names one after
the other, after the parity gate. Whatever fails before that, an older artifact stays as it was.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cb_export.building import build_and_gate
from cb_export.fastest import Choice, build_fastest
from cb_export.gate import GateReport, Run, reference_from_model
from cb_export.graph import Graph
from cb_export.localise import localise
from cb_export.options import ExportOptions
from cb_export.precision import AUTO, PRECISIONS
from cb_export.proof import Network, Unverified, gate_source, refuse_unverified
from cb_export.publishing import beside, check_golden_place, golden_copy, prepare_publishing
from cb_export.source import Merged, Source, merge, read_source, with_judge_pairs
from cb_export.stages import build_stages, check_stages_place, is_staged, staged_gate, staged_source_gate
from cb_export.targets import Target, TargetOptions, load_target
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ParityError, UsageError
from cb_runtime.files import atomic_path
from cb_runtime.golden import GoldenSamples, golden_path
from cb_runtime.progress import Progress, no_progress
from cb_runtime.stages import stages_path

__all__ = ["PHASES", "ExportOptions", "ExportResult", "export_checkpoint"]

PHASES = ("Merging", "Tracing", "Building", "Comparing", "Publishing")


@dataclass(frozen=True)
class ExportResult:
    """A published artifact."""

    path: Path
    golden: Path
    """Golden samples beside the artifact, for `cb verify` on any machine."""
    metadata: ModelMetadata
    """As it stands in the artifact."""
    report: GateReport | Unverified
    """Outcome of the gate; `Unverified` when the artifact could not be run here."""
    size: int
    """Bytes of the artifact."""
    choice: Choice | None = None
    """How the precision was chosen; None when it was named."""
    staged: GateReport | Unverified | None = None
    """The same of the staged graph, which stands at `stages_path(path)`; None when there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "artifact": str(self.path),
            "golden": str(self.golden),
            "size": self.size,
            "staged": None if self.staged is None else str(stages_path(self.path)),
            "choice": None if self.choice is None else self.choice.to_dict(),
            "parity": dict(self.metadata.parity or {}),
            "metadata": self.metadata.to_dict(),
        }


def export_checkpoint(
    checkpoint: str | Path,
    output: str | Path | None = None,
    options: ExportOptions | None = None,
    progress: Progress = no_progress,
) -> ExportResult:
    """Export a checkpoint to an artifact that was compared with it.

    Args:
        checkpoint: A file of `cb train`.
        output: The artifact; beside the checkpoint, with its name, when left out.
        options: Format and gate.
        progress: Told about every phase.

    Raises:
        UsageError: Options that cannot be obeyed.
        ModelError: Checkpoint, golden samples or model cannot be used.
        ParityError: The artifact does not agree with PyTorch; nothing was published.
    """
    wanted = options or ExportOptions()
    target = load_target(wanted.format)
    place = _checked_output(target, Path(output) if output else Path(checkpoint).with_suffix(target.SUFFIX), wanted)
    not_run = _why_not_run(target, wanted)
    source = read_source(Path(checkpoint), wanted)
    check_golden_place(source, place, wanted)
    any_stages = _any_stages(source, wanted)
    with TemporaryDirectory(prefix="cb-export-") as folder:
        _tell(progress, "Merging")
        judged = with_judge_pairs(source, wanted, Path(folder))
        unrun = None if not_run is None else _Unrun(not_run, Path(folder) / "source.onnx")
        return _export(judged, place, target, wanted, progress, unrun, any_stages=any_stages)


@dataclass(frozen=True)
class _Unrun:
    """An artifact that cannot be run here, as the user agreed to."""

    reason: str
    source: Path
    """Where the ONNX that it is built from is kept meanwhile."""


def _export(
    source: Source,
    place: Path,
    target: Target,
    options: ExportOptions,
    progress: Progress,
    unrun: _Unrun | None,
    *,
    any_stages: bool,
) -> ExportResult:
    # Leaving the blocks gives sidecar and staged graph their names first, then the artifact, then the golden samples
    # theirs. What does not belong together is refused when it is opened.
    with (
        golden_copy(source.golden_file, golden_path(place)) as copy,
        atomic_path(place) as temporary,
        beside(target, place, temporary),
    ):
        merged = merge(source, options)
        choice, metadata, report = _build_and_compare(merged, target, options, temporary, progress, unrun)
        target.write_metadata(temporary, metadata)
        staged = None
        if any_stages:
            in_precision = options.in_precision(metadata.precision)
            building = _Staging(merged, target, in_precision, temporary, progress)
            staged = building.run() if unrun is None else building.unrun(unrun.source, report)
        _tell(progress, "Publishing")
        size = temporary.stat().st_size
        prepare_publishing(temporary, copy, source.golden_file, golden_path(place))
    progress("Publishing", 1, 1)
    return ExportResult(place, golden_path(place), metadata, report, size, choice, staged)


def _checked_output(target: Target, place: Path, options: ExportOptions) -> Path:
    if place.suffix != target.SUFFIX or place.is_dir():
        raise UsageError(f"The output of format '{options.format}' must be a file *{target.SUFFIX}, got {place}.")
    _check_precision(target, options)
    if not options.batches or min(options.batches) < 1:
        raise UsageError(f"Batch sizes to compare must be 1 or more, got {options.batches}.")
    check_stages_place(place)
    return place


def _check_precision(target: Target, options: ExportOptions) -> None:
    if options.precision not in (*target.PRECISIONS, AUTO):
        missing = "" if options.precision not in PRECISIONS else " No engine that opens such files computes in it; "
        raise UsageError(
            f"Format '{options.format}' is written in {', '.join(target.PRECISIONS)} or auto, not in "
            f"'{options.precision}'.{missing and missing + 'try --format trt.'}"
        )
    if options.precision == AUTO and options.allow_parity_failure:
        raise UsageError(
            "--precision auto takes the fastest that passes the parity gate. Name a precision to use "
            "--allow-parity-failure."
        )
    if options.calibration is not None and options.precision not in ("int8", AUTO):
        raise UsageError("--calibration is what --precision int8 is calibrated on. Leave it out.")


def _why_not_run(target: Target, options: ExportOptions) -> str | None:
    """Return why artifacts cannot be run here, where the user agreed to that; None where they can.

    Raises UsageError or ParityError where the user did not, or cannot, agree.
    """
    status = target.runs_here(TargetOptions(engine=options.engine))
    if status.ok:
        return None
    if not target.BUILT_FROM_ONNX:
        raise UsageError(f"The parity gate cannot run {target.SUFFIX} files here: {status.detail}. {status.fix or ''}")
    if options.precision == AUTO:
        raise UsageError(
            f"--precision auto runs every precision, and {target.SUFFIX} files cannot be run here: {status.detail}. "
            "Export on a machine that runs them, or name a precision."
        )
    if not options.unverified:
        raise refuse_unverified(target.SUFFIX, status.detail)
    return status.detail


def _build_and_compare(
    merged: Merged, target: Target, options: ExportOptions, path: Path, progress: Progress, unrun: _Unrun | None
) -> tuple[Choice | None, ModelMetadata, GateReport | Unverified]:
    if options.precision == AUTO:
        _tell(progress, "Building")
        choice, built = build_fastest(merged, target, options, path, progress)
        _tell_judged(built.report, options, "Artifact")
        return choice, _with_parity(built.metadata, built.report, merged), built.report
    _tell(progress, "Tracing")
    graph = merged.graph(options)
    _tell(progress, "Building")
    if unrun is None:
        built = build_and_gate(merged, target, options, path, progress, graph)
        _check_parity(built.report, merged, options, progress)
        return None, _with_parity(built.metadata, built.report, merged), built.report
    metadata, outcome = _build_unrun(merged, target, options, path, progress, (graph, unrun))
    _tell(progress, "Comparing")
    return None, _with_parity(metadata, outcome, merged), outcome


def _with_parity(metadata: ModelMetadata, report: GateReport | Unverified, merged: Merged) -> ModelMetadata:
    pairs = merged.source.pairs
    besides = {} if pairs is None else {"judge_pairs": pairs.record()}
    return metadata.replace(parity={**report.to_dict(), **besides})


def _build_unrun(
    merged: Merged, target: Target, options: ExportOptions, path: Path, progress: Progress, work: tuple[Graph, _Unrun]
) -> tuple[ModelMetadata, Unverified]:
    """Build an artifact that cannot run here, once the ONNX it is built from agrees with PyTorch."""
    graph, unrun = work
    judged = merged.judged(options.precision)
    network = Network(merged.metadata(options), reference_from_model(merged.in_precision(options)))
    outcomes: list[Unverified] = []

    def compare_source(onnx_file: Path) -> None:
        shutil.copyfile(onnx_file, unrun.source)
        outcome = gate_source(unrun.reason, onnx_file, merged.reference, judged, options.batches, progress, network)
        if outcome.compared is not None:
            title = (
                "ONNX that the artifact was built from" if outcome.onnx is not None else "Network as PyTorch runs it"
            )
            _check_parity(outcome.compared, merged, options, progress, title)
        outcomes.append(outcome)

    building = replace(merged.target_options(options, progress), on_source=compare_source)
    return target.build(graph, merged.metadata(options), building, path), outcomes[0]


def _check_parity(
    report: GateReport, merged: Merged, options: ExportOptions, progress: Progress, title: str = "Artifact"
) -> None:
    _tell_judged(report, options, title)
    if not report and not options.allow_parity_failure:
        raise ParityError(
            f"The artifact does not agree with {merged.source.checkpoint}; nothing was published.\n{report}\n"
            f"{_advice(report, merged, options, progress)}\n--allow-parity-failure publishes it all the same."
        )


def _advice(report: GateReport, merged: Merged, options: ExportOptions, progress: Progress) -> str:
    if options.precision == "fp32":
        return "Try another --opset or exporter release."
    found = str(localise(merged, options, progress))
    return f"{_too_few(report.golden.samples)}\n{found}" if report.is_near_ties_of_few else found


def _too_few(samples: int) -> str:
    return (
        f"It failed by shares of {samples} samples only, of which one is {1 / samples:.1%}, and each that flipped is "
        "near a tie. Judge it on more labelled pairs, of videos it was not trained on: --judge DATASET.db takes the "
        "validation pairs of a dataset of `cb dataset create`."
    )


def _tell_judged(report: GateReport, options: ExportOptions, title: str) -> None:
    if options.on_judged is not None:
        options.on_judged(report.judged(title))


def _any_stages(source: Source, options: ExportOptions) -> bool:
    """Tell whether a staged graph is written. Raises UsageError when one is asked for that cannot be had."""
    possible = is_staged(source.model)
    if options.staged and not possible:
        raise UsageError(
            f"{source.metadata.architecture_name} cannot be exported in stages: its frames are not encoded apart from "
            "each other (it is no LateFusion). Leave out --staged."
        )
    return possible and options.staged is not False


@dataclass(frozen=True)
class _Staging:
    """Writes the staged graph beside an artifact that is complete, and compares it with PyTorch."""

    merged: Merged
    target: Target
    options: ExportOptions
    """Of a precision that is not `auto`."""
    artifact: Path
    progress: Progress

    def run(self) -> GateReport:
        """Compare the graph itself. Raises ParityError when it does not agree, unless that is allowed."""
        self._build(None)
        report = staged_gate(self.artifact, self.target.GATE_DEVICE, *self._judged())
        self._check(report, "Staged graph")
        return report

    def unrun(self, source: Path, whole: GateReport | Unverified) -> Unverified:
        """Compare the ONNX that the graph is built from; `source` is the artifact's, `whole` its outcome."""
        assert isinstance(whole, Unverified)
        self._build(source)
        outcome = staged_source_gate(self.artifact, source, whole, *self._judged())
        if outcome.compared is not None:
            self._check(outcome.compared, "ONNX that the staged graph was built from")
        return outcome

    def _build(self, source: Path | None) -> None:
        metadata, building = self.merged.source.metadata, self.merged.target_options(self.options, self.progress)
        build_stages(self.merged.in_precision(self.options), metadata, self.target, building, self.artifact, source)

    def _judged(self) -> tuple[Run, GoldenSamples, tuple[int, ...]]:
        return self.merged.reference, self.merged.judged(self.options.precision), self.options.batches

    def _check(self, report: GateReport, title: str) -> None:
        _tell_judged(report, self.options, title)
        if not report and not self.options.allow_parity_failure:
            raise ParityError(
                f"The staged graph does not agree with {self.merged.source.checkpoint}; nothing was published.\n"
                f"{report}\n--no-staged exports without it."
            )


def _tell(progress: Progress, phase: str) -> None:
    """Say that a phase begins: the ones before it are done."""
    index = PHASES.index(phase)
    if index:
        progress(PHASES[index - 1], 1, 1)
    progress(phase, 0, 1)
