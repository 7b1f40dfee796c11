"""From checkpoint to published artifact: merge, trace, build, compare, publish.

Artifact and golden samples are prepared under temporary names beside their places and take their final names one after
the other, after the parity gate. Whatever fails before that, an older artifact stays as it was.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cb_core.checkpoint import load_checkpoint, model_from_checkpoint
from cb_core.deployment import DeploymentModel
from cb_core.registry import load_plugin
from cb_export.gate import GateReport, Run, check_reference, reference_from_model, run_gate
from cb_export.graph import Graph, trace
from cb_export.half import DTYPES, half_model
from cb_export.merge import merge_lora
from cb_export.proof import Unverified, gate_source, refuse_unverified
from cb_export.stages import build_stages, check_stages_place, is_staged, staged_gate
from cb_export.targets import Target, TargetOptions, load_target
from cb_export.trt.options import EngineOptions
from cb_runtime.contract import INPUT_NAMES, Decoding, ModelMetadata
from cb_runtime.errors import ModelError, ParityError, UsageError
from cb_runtime.files import atomic_companion, atomic_folder, atomic_path, sha256_of_file
from cb_runtime.parity import BATCHES, GoldenSamples, golden_path, load_golden_samples
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import open_session
from cb_runtime.stages import stages_path

PHASES = ("Merging", "Tracing", "Building", "Comparing", "Publishing")

MERGE_SAMPLES = 4
"""Golden samples on which the merged model must equal the unmerged one."""


@dataclass(frozen=True)
class ExportOptions:
    """How to export."""

    format: str = "onnx"
    """A key of `cb_export.targets.TARGETS`."""
    opset: int = TargetOptions.opset
    precision: str = TargetOptions.precision
    """One of the target's `PRECISIONS`."""
    golden: Path | None = None
    """Golden samples; those beside the checkpoint when left out."""
    batches: tuple[int, ...] = BATCHES
    """Batch sizes at which the artifact is compared with PyTorch."""
    allow_parity_failure: bool = False
    """Publish an artifact that failed the gate; its metadata says so."""
    staged: bool | None = None
    """Write the staged graph beside the artifact too; None does where the architecture is a late fusion."""
    plugins: tuple[str, ...] = ()
    """Python files that register architectures."""
    decoding: Decoding | None = None
    """How label probabilities become captions; the checkpoint's own when left out."""
    engine: EngineOptions = field(default_factory=EngineOptions)
    """How to build a TensorRT engine; of format `trt` only."""
    unverified: bool = False
    """Publish an artifact that cannot run on this machine, when the ONNX it was built from passed the gate."""


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
    staged: GateReport | None = None
    """Outcome of the gate for the staged graph, which stands at `stages_path(path)`; None when there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "artifact": str(self.path),
            "golden": str(self.golden),
            "size": self.size,
            "staged": None if self.staged is None else str(stages_path(self.path)),
            "parity": dict(self.report.to_dict()),
            "metadata": self.metadata.to_dict(),
        }


@dataclass(frozen=True)
class _Source:
    """What is exported: the model as trained, its contract and its golden samples."""

    checkpoint: Path
    model: nn.Module
    metadata: ModelMetadata
    golden_file: Path
    golden: GoldenSamples

    @property
    def merge_inputs(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(self.golden.inputs[name][:MERGE_SAMPLES]) for name in INPUT_NAMES}

    def calibration(self, precision: str) -> GoldenSamples | None:
        """Return what int8 is calibrated on: one half of the golden samples."""
        return self.golden.halves()[0] if precision == "int8" else None

    def judged(self, precision: str) -> GoldenSamples:
        """Return the golden samples on which parity is judged: those that were not calibrated on."""
        return self.golden.halves()[1] if precision == "int8" else self.golden


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
    source = _read(Path(checkpoint), wanted)
    _check_golden_place(source, place)
    any_stages = _any_stages(source, target, wanted)
    # Leaving the blocks gives the staged graph or the sidecar its name first, then the artifact, then the golden
    # samples theirs. An engine and a sidecar that do not belong together are refused when they are opened.
    with (
        _golden_copy(source.golden_file, golden_path(place)) as copy,
        atomic_path(place) as temporary,
        _beside(target, place, temporary),
    ):
        model, metadata, report = _build_and_compare(source, target, wanted, temporary, progress, not_run)
        target.write_metadata(temporary, metadata)
        staged = _stage(model, source, target, wanted, temporary) if any_stages else None
        _tell(progress, "Publishing")
        size = temporary.stat().st_size
        _prepare_publishing(temporary, copy, source.golden_file, golden_path(place))
    progress("Publishing", 1, 1)
    return ExportResult(place, golden_path(place), metadata, report, size, staged)


def _checked_output(target: Target, place: Path, options: ExportOptions) -> Path:
    if place.suffix != target.SUFFIX or place.is_dir():
        raise UsageError(f"The output of format '{options.format}' must be a file *{target.SUFFIX}, got {place}.")
    if options.precision not in target.PRECISIONS:
        raise UsageError(
            f"Format '{options.format}' is written in {', '.join(target.PRECISIONS)}, not in '{options.precision}'. "
            "bf16 is left out where no engine can run it for the parity gate."
        )
    if not options.batches or min(options.batches) < 1:
        raise UsageError(f"Batch sizes to compare must be 1 or more, got {options.batches}.")
    if target.STAGES:
        check_stages_place(place)
    return place


def _target_options(source: _Source, options: ExportOptions, progress: Progress = no_progress) -> TargetOptions:
    samples = source.calibration(options.precision)
    return TargetOptions(
        opset=options.opset,
        precision=options.precision,
        calibration=None if samples is None else samples.inputs,
        engine=options.engine,
        progress=progress,
    )


def _why_not_run(target: Target, options: ExportOptions) -> str | None:
    """Return why artifacts cannot be run here, where the user agreed to that; None where they can.

    Raises UsageError or ParityError where the user did not, or cannot, agree.
    """
    status = target.runs_here(TargetOptions(engine=options.engine))
    if status.ok:
        return None
    if not target.BUILT_FROM_ONNX:
        raise UsageError(f"The parity gate cannot run {target.SUFFIX} files here: {status.detail}. {status.fix or ''}")
    if not options.unverified:
        raise refuse_unverified(target.SUFFIX, status.detail)
    return status.detail


def _beside(target: Target, place: Path, temporary: Path) -> AbstractContextManager[object]:
    """Publish with the artifact what stands beside it: its sidecar, or its staged graph."""
    final, sidecar = target.companion(place), target.companion(temporary)
    if final is not None and sidecar is not None:
        return atomic_companion(final, sidecar)
    return atomic_folder(stages_path(place), stages_path(temporary))


def _read(checkpoint: Path, options: ExportOptions) -> _Source:
    for plugin in options.plugins:
        load_plugin(plugin)
    loaded = load_checkpoint(checkpoint)
    golden_file = options.golden or golden_path(checkpoint)
    if not golden_file.is_file():
        raise ModelError(
            f"Golden samples {golden_file} are missing, and without them no artifact can be compared with its model. "
            "`cb train` writes them beside each checkpoint; copy them along with it, or name them with --golden FILE."
        )
    model = DeploymentModel(model_from_checkpoint(loaded), loaded.metadata.preprocessing)
    decoding = options.decoding or loaded.metadata.decoding
    metadata = loaded.metadata.replace(checkpoint_sha256=sha256_of_file(checkpoint), decoding=decoding)
    return _Source(checkpoint, model, metadata, golden_file, load_golden_samples(golden_file))


def _check_golden_place(source: _Source, place: Path) -> None:
    """Refuse an output name under which the golden samples of another checkpoint stand."""
    owner, kept = place.with_suffix(source.checkpoint.suffix), golden_path(place)
    foreign = owner.is_file() and not owner.samefile(source.checkpoint)
    if foreign and kept.is_file() and sha256_of_file(kept) != sha256_of_file(source.golden_file):
        raise UsageError(
            f"{kept} belongs to {owner}, and the golden samples of {source.checkpoint} would replace it. "
            "Choose another --output."
        )


def _build_and_compare(
    source: _Source, target: Target, options: ExportOptions, path: Path, progress: Progress, not_run: str | None
) -> tuple[nn.Module, ModelMetadata, GateReport | Unverified]:
    _tell(progress, "Merging")
    model, lora_merge = merge_lora(source.model, source.merge_inputs)
    reference = reference_from_model(model)
    check_reference(reference, source.golden, source.metadata.inputs)
    _tell(progress, "Tracing")
    built = half_model(model, options.precision, source.merge_inputs) if options.precision in DTYPES else model
    graph = trace(built, source.metadata.preprocessing)
    _tell(progress, "Building")
    metadata = _artifact_metadata(source, options.precision, lora_merge)
    if not_run is None:
        metadata = target.build(graph, metadata, _target_options(source, options, progress), path)
        _tell(progress, "Comparing")
        session = open_session(path, device=target.GATE_DEVICE, reuse=False)
        batches = target.gate_batches(_target_options(source, options), options.batches)
        report = run_gate(session, reference, source.judged(options.precision), batches, progress)
        _check_parity(report, source, options)
        return model, metadata.replace(parity=report.to_dict()), report
    work = (graph, metadata, reference, not_run)
    metadata, unrun = _build_unrun(source, target, options, path, progress, work)
    _tell(progress, "Comparing")
    return model, metadata.replace(parity=unrun.to_dict()), unrun


def _build_unrun(
    source: _Source,
    target: Target,
    options: ExportOptions,
    path: Path,
    progress: Progress,
    work: tuple[Graph, ModelMetadata, Run, str],
) -> tuple[ModelMetadata, Unverified]:
    """Build an artifact that cannot run here, once the ONNX it is built from agrees with PyTorch."""
    graph, metadata, reference, reason = work
    judged = source.judged(options.precision)
    outcomes: list[Unverified] = []

    def compare_source(onnx_file: Path) -> None:
        outcome = gate_source(reason, onnx_file, reference, judged, options.batches, progress)
        if outcome.onnx is not None:
            _check_parity(outcome.onnx, source, options)
        outcomes.append(outcome)

    building = replace(_target_options(source, options, progress), on_source=compare_source)
    return target.build(graph, metadata, building, path), outcomes[0]


def _check_parity(report: GateReport, source: _Source, options: ExportOptions) -> None:
    if not report and not options.allow_parity_failure:
        raise ParityError(
            f"The artifact does not agree with {source.checkpoint}; nothing was published.\n{report}\n"
            f"{_advice(options.precision)} --allow-parity-failure publishes it all the same."
        )


def _advice(precision: str) -> str:
    if precision == TargetOptions.precision:
        return "Try another --opset or exporter release."
    return "Export it with --precision fp32."


def _any_stages(source: _Source, target: Target, options: ExportOptions) -> bool:
    """Tell whether a staged graph is written. Raises UsageError when one is asked for that cannot be had."""
    if options.staged and not target.STAGES:
        raise UsageError(f"Format '{options.format}' has no staged graph: it is ONNX. Leave out --staged.")
    possible = is_staged(source.model) and target.STAGES
    if options.staged and not possible:
        raise UsageError(
            f"{source.metadata.architecture_name} cannot be exported in stages: its frames are not encoded apart from "
            "each other (it is no LateFusion). Leave out --staged."
        )
    return possible and options.staged is not False


def _stage(model: nn.Module, source: _Source, target: Target, options: ExportOptions, artifact: Path) -> GateReport:
    """Write the staged graph beside an artifact that is complete, and compare it with PyTorch."""
    built = half_model(model, options.precision, source.merge_inputs) if options.precision in DTYPES else model
    build_stages(built, source.metadata, target, _target_options(source, options), artifact)
    report = staged_gate(artifact, reference_from_model(model), source.judged(options.precision), options.batches)
    if not report and not options.allow_parity_failure:
        raise ParityError(
            f"The staged graph does not agree with {source.checkpoint}; nothing was published.\n{report}\n"
            "--no-staged exports without it."
        )
    return report


def _artifact_metadata(source: _Source, precision: str, lora_merge: Mapping[str, Any] | None) -> ModelMetadata:
    samples = source.calibration(precision)
    return source.metadata.replace(
        precision=precision,
        calibration=None if samples is None else _calibration_record(samples),
        lora_merge=lora_merge,
        producer_versions={"cb-toolkit": version("cb-toolkit"), "torch": torch.__version__},
        export_date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _calibration_record(samples: GoldenSamples) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name in INPUT_NAMES:
        digest.update(np.ascontiguousarray(samples.inputs[name]).tobytes())
    source = "every other golden sample of each label; parity is judged on the others"
    return {"source": source, "samples": len(samples), "sha256": digest.hexdigest(), "overlaps_parity": False}


def _golden_copy(source: Path, place: Path) -> AbstractContextManager[Path | None]:
    """Give a temporary path for the golden samples; None where they stand already, which are then left alone."""
    same = place.is_file() and (place.samefile(source) or sha256_of_file(place) == sha256_of_file(source))
    return nullcontext() if same else atomic_path(place)


def _prepare_publishing(artifact: Path, copy: Path | None, golden: Path, place: Path) -> None:
    """Bring all to the disk, so that publishing is nothing but changing names; then take older golden samples away.

    A kill amid the renames leaves an artifact, older or new, without golden samples, and `cb verify` says that they
    are missing. Older ones that stayed, or new ones that came first, could stand beside the other model's artifact,
    and `cb verify` would call a good artifact wrong. Exporting again completes either state.
    """
    if copy is None:
        return
    shutil.copyfile(golden, copy)
    for path in (copy, artifact):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    place.unlink(missing_ok=True)


def _tell(progress: Progress, phase: str) -> None:
    """Say that a phase begins: the ones before it are done."""
    index = PHASES.index(phase)
    if index:
        progress(PHASES[index - 1], 1, 1)
    progress(phase, 0, 1)
