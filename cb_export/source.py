"""What is exported: a checkpoint with its golden samples, then the merged model that every build starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cb_core.checkpoint import model_from_checkpoint
from cb_core.deployment import DeploymentModel
from cb_core.models import DEFAULT, load_starting_checkpoint, starting_checkpoint
from cb_core.registry import load_plugin
from cb_export.calibration import Calibration, calibration_from_dataset, calibration_from_golden
from cb_export.gate import Run, check_reference, reference_from_model, run_in_batches
from cb_export.graph import Graph, trace
from cb_export.judging import JudgePairs, judge_pairs
from cb_export.lineage import made_by
from cb_export.merge import merge_lora
from cb_export.options import ExportOptions
from cb_export.precision import PRECISIONS, check_keep_float, model_in_precision, opset_for
from cb_export.targets import TargetOptions
from cb_runtime.contract import INPUT_NAMES, ModelMetadata
from cb_runtime.errors import ModelError
from cb_runtime.files import sha256_of_file
from cb_runtime.golden import GoldenSamples, golden_path, load_golden_samples
from cb_runtime.models import default_model_path
from cb_runtime.progress import Progress, no_progress

MERGE_SAMPLES = 4
"""Golden samples on which a model that was merged, or whose BatchNorm was folded, must equal the one before."""


@dataclass(frozen=True)
class Source:
    """The model as trained, its contract and its golden samples."""

    checkpoint: Path
    model: nn.Module
    metadata: ModelMetadata
    golden_file: Path
    """Published with the artifact: the golden samples, and the pairs that are judged besides them."""
    golden: GoldenSamples
    """The checkpoint's own."""
    pairs: JudgePairs | None = None
    """Judged besides the golden samples."""

    @property
    def few_inputs(self) -> dict[str, Tensor]:
        """A few golden samples, as the model takes them."""
        return {name: torch.from_numpy(self.golden.inputs[name][:MERGE_SAMPLES]) for name in INPUT_NAMES}


def read_source(checkpoint: Path, options: ExportOptions) -> Source:
    """Read a checkpoint, or `default`: the model in the box, and its golden samples.

    Raises ModelError when either is missing or cannot be used.
    """
    for plugin in options.plugins:
        load_plugin(plugin)
    in_the_box = str(checkpoint) == DEFAULT
    loaded = load_starting_checkpoint(str(checkpoint))
    checkpoint = starting_checkpoint(str(checkpoint))
    golden_file = options.golden or golden_path(default_model_path() if in_the_box else checkpoint)
    if not golden_file.is_file():
        raise ModelError(
            f"Golden samples {golden_file} are missing, and without them no artifact can be compared with its model. "
            "`cb train` writes them beside each checkpoint; copy them along with it, or name them with --golden FILE."
        )
    model = DeploymentModel(model_from_checkpoint(loaded), loaded.metadata.preprocessing)
    decoding = options.decoding or loaded.metadata.decoding
    metadata = loaded.metadata.replace(checkpoint_sha256=sha256_of_file(checkpoint), decoding=decoding)
    return Source(checkpoint, model, metadata, golden_file, load_golden_samples(golden_file))


def with_judge_pairs(source: Source, options: ExportOptions, folder: Path) -> Source:
    """Return a source with the pairs to judge that are asked for; `folder` then holds what is published of them.

    Raises what `judge_pairs` raises.
    """
    if options.judge is None:
        return source
    run = reference_from_model(source.model)
    pairs = judge_pairs(options.judge, source.golden, source.metadata, lambda inputs: run_in_batches(run, inputs))
    file = folder / source.golden_file.name
    source.golden.joined(pairs.samples).save(file)
    return replace(source, golden_file=file, pairs=pairs)


@dataclass(frozen=True)
class Merged:
    """A model without adapters, proven equal to the one with them, and all that building it needs."""

    source: Source
    model: nn.Module
    """A `DeploymentModel`, float32, in evaluation mode."""
    lora_merge: Mapping[str, Any] | None
    reference: Run
    """PyTorch's logits."""
    calibration: Calibration | None
    """None unless int8 may be built."""

    def in_precision(self, options: ExportOptions) -> nn.Module:
        """Return the model as it is traced."""
        return model_in_precision(self.model, options.precision, self.source.few_inputs, options.keep_float)

    def graph(self, options: ExportOptions) -> Graph:
        """Return the traced model. Raises what `trace` raises."""
        return trace(self.in_precision(options), self.source.metadata.preprocessing)

    def judged(self, precision: str) -> GoldenSamples:
        """Return the samples on which parity is judged: those that a precision was not calibrated on."""
        if PRECISIONS[precision].calibrated:
            return self._calibration(precision).judged
        return _with_pairs(self.source.golden, self.source)

    def target_options(self, options: ExportOptions, progress: Progress = no_progress) -> TargetOptions:
        """Return how a target is to build."""
        calibrated = PRECISIONS[options.precision].calibrated
        return TargetOptions(
            opset=opset_for(options.precision, options.opset),
            precision=options.precision,
            calibration=self._calibration(options.precision).inputs if calibrated else None,
            keep_float=options.keep_float if calibrated else (),
            engine=options.engine,
            progress=progress,
        )

    def metadata(self, options: ExportOptions) -> ModelMetadata:
        """Return the contract as it begins its way into an artifact."""
        calibrated = PRECISIONS[options.precision].calibrated
        return self.source.metadata.replace(
            precision=options.precision,
            calibration=self._calibration(options.precision).record() if calibrated else None,
            keep_float=options.keep_float,
            lora_merge=self.lora_merge,
            **made_by(self.source.metadata),
            export_date=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _calibration(self, precision: str) -> Calibration:
        assert self.calibration is not None, f"{precision} is calibrated"
        return self.calibration


def merge(source: Source, options: ExportOptions) -> Merged:
    """Merge adapters, and check that the golden samples are the model's.

    Raises:
        ModelError: Adapters that cannot be merged, or golden samples of another model.
        ParityError: The merged model differs, or mixes the pairs of a batch.
        UsageError, InputError: Modules to keep in float, or a dataset to calibrate on, that cannot be used.
    """
    model, lora_merge = merge_lora(source.model, source.few_inputs)
    reference = reference_from_model(model)
    check_reference(reference, source.golden, source.metadata.inputs)
    check_keep_float(model, options.precision, options.keep_float)
    return Merged(source, model, lora_merge, reference, _calibration(source, options))


def _calibration(source: Source, options: ExportOptions) -> Calibration | None:
    if options.precision in PRECISIONS and not PRECISIONS[options.precision].calibrated:
        return None
    if options.calibration is None:
        found = calibration_from_golden(source.golden)
    else:
        found = calibration_from_dataset(options.calibration, source.golden, source.metadata)
    return replace(found, judged=_with_pairs(found.judged, source))


def _with_pairs(golden: GoldenSamples, source: Source) -> GoldenSamples:
    return golden if source.pairs is None else golden.joined(source.pairs.samples)
