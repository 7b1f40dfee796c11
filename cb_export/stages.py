"""The staged graph of a late fusion: each encoder and the classifier as graphs of their own, beside the artifact.

They are compared with PyTorch through the very session that a service opens, on all that the whole graph is compared
on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cb_core.architectures.late_fusion import LateFusion
from cb_core.deployment import DeploymentModel
from cb_export.gate import GateReport, Run, run_gate
from cb_export.graph import Graph, example_inputs, trace_part
from cb_export.modules import WHOLE, is_inside
from cb_export.proof import Unverified
from cb_export.quantize import BATCH
from cb_export.targets import Target, TargetOptions
from cb_runtime.backends import Feeds, Logits, backends_for
from cb_runtime.contract import IMAGE_INPUTS, INPUT_NAMES, OUTPUT_SPECS, ModelMetadata, Preprocessing
from cb_runtime.engine_choice.judging import Judge
from cb_runtime.errors import UsageError
from cb_runtime.files import sha256_of_file
from cb_runtime.golden import GoldenSamples
from cb_runtime.session import Session, open_session
from cb_runtime.stages import (
    CLASSIFIER,
    FEATURES,
    MANIFEST,
    PICTURES,
    Manifest,
    Stages,
    classifier_specs,
    encoder_part,
    encoder_specs,
    part_file,
    read_manifest,
    stages_path,
)


class EncoderStage(nn.Module):
    """An encoder of a late fusion behind the pictures that video gives, uint8 `(batch, 48, 480, 3)`."""

    def __init__(self, encoder: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.deployed = DeploymentModel(encoder, preprocessing)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return features, float32."""
        features: Tensor = self.deployed.architecture(self.deployed.normalised(pictures))
        return features.float()


class ClassifierStage(nn.Module):
    """The classifier of a late fusion, its inputs named as in the staged graph."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(
        self,
        ocr_viz_features: Tensor,
        frame1_features: Tensor,
        frame2_features: Tensor,
        spatial_features: Tensor,
        font_embedding: Tensor,
    ) -> Tensor:
        """Return logits `(batch, 5)`, float32."""
        logits: Tensor = self.classifier(
            ocr_viz_features, frame1_features, frame2_features, spatial_features, font_embedding
        )
        return logits.float()


def is_staged(model: nn.Module) -> bool:
    """Tell whether a `DeploymentModel` encodes its pictures apart from each other."""
    return isinstance(model.architecture, LateFusion)


def check_stages_place(artifact: Path) -> None:
    """Raise UsageError when what stands where the staged graph would is not one."""
    folder = stages_path(artifact)
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise UsageError(
            f"{folder} has no {MANIFEST}, so `cb export` did not write it and will not replace it. Move it away, or "
            "choose another --output."
        )


def build_stages(
    model: nn.Module,
    metadata: ModelMetadata,
    target: Target,
    options: TargetOptions,
    artifact: Path,
    source: Path | None = None,
) -> None:
    """Write the staged graph of a merged `DeploymentModel` into `stages_path(artifact)`, which is there and empty.

    Args:
        model: Wraps a `LateFusion`, in evaluation mode and float32.
        metadata: Says the shape of a strip and how it is normalised.
        target: Writes the graphs.
        options: As for the artifact.
        artifact: The whole graph, complete: its digest says what the stages belong to.
        source: The ONNX file that the artifact was built from, to get the ONNX of its stages beside it; None: they are
            not kept.

    Raises what the target's `build` raises.
    """
    architecture: Any = model.architecture
    if source is not None:
        stages_path(source).mkdir()

    def build(graph: Graph, how: TargetOptions, part: str) -> None:
        if source is not None:
            how = replace(how, on_source=partial(_copy, to=part_file(source, part)))
        target.build_part(graph, how, part_file(artifact, part))

    shapes = {}
    used = dict.fromkeys(architecture.roles.values())
    for name in used:
        stage = EncoderStage(architecture.encoders[name], metadata.preprocessing).eval()
        shapes[name] = _features_shape(stage, metadata)
        pictures, features = encoder_specs(metadata, shapes[name])
        graph = trace_part(stage, (pictures,), (features,))
        build(graph, _encoder_samples(architecture.roles, name, options), encoder_part(name))
    specs = classifier_specs(metadata, {role: shapes[architecture.roles[role]] for role in IMAGE_INPUTS})
    classifier = trace_part(ClassifierStage(architecture.classifier).eval(), specs, OUTPUT_SPECS)
    build(classifier, _classifier_samples(model, metadata, options), CLASSIFIER)
    for whole in (artifact, source):
        if whole is not None:
            _save_manifest(whole, architecture.roles, [*map(encoder_part, used), CLASSIFIER])


def _copy(file: Path, to: Path) -> None:
    shutil.copyfile(file, to)


def _save_manifest(artifact: Path, roles: Mapping[str, str], parts: Sequence[str]) -> None:
    files = [part_file(artifact, part) for part in parts]
    digests = {file.name: sha256_of_file(file) for file in files}
    Manifest(sha256_of_file(artifact), roles, digests).save(stages_path(artifact))


def _encoder_samples(roles: Mapping[str, str], encoder: str, options: TargetOptions) -> TargetOptions:
    """Return options that calibrate an encoder on the pictures that it serves, and name modules as inside of it."""
    if options.calibration is None:
        return options
    inside = f"encoders.{encoder}"
    kept = tuple(
        name.removeprefix(f"{inside}.") if name.startswith(f"{inside}.") else WHOLE
        for name in options.keep_float
        if is_inside(name, [inside]) or is_inside(inside, [name])
    )
    served = [options.calibration[role] for role in IMAGE_INPUTS if roles[role] == encoder]
    return replace(options, calibration={PICTURES: np.concatenate(served)}, keep_float=kept)


@torch.inference_mode()
def _classifier_samples(model: nn.Module, metadata: ModelMetadata, options: TargetOptions) -> TargetOptions:
    """Return options that calibrate the classifier on the features of those pictures."""
    given: Feeds | None = options.calibration
    architecture: Any = model.architecture
    if given is None:
        return options
    samples = {name: given[name] for name in INPUT_NAMES if name not in IMAGE_INPUTS}
    for role in IMAGE_INPUTS:
        stage = EncoderStage(architecture.encoders[architecture.roles[role]], metadata.preprocessing).eval()
        parts = [stage(torch.from_numpy(part)) for part in np.array_split(given[role], -(-len(given[role]) // BATCH))]
        samples[f"{role}_{FEATURES}"] = torch.cat(parts).numpy()
    return replace(options, calibration=samples)


@torch.inference_mode()
def _features_shape(stage: EncoderStage, metadata: ModelMetadata) -> tuple[int, ...]:
    pictures, _ = encoder_specs(metadata, ())
    features: Tensor = stage(**example_inputs((pictures,)))
    return tuple(features.shape[1:])


def staged_gate(
    artifact: Path, device: str, reference: Run, golden: GoldenSamples, batches: Sequence[int]
) -> GateReport:
    """Compare the staged graph with the PyTorch model at the smallest and the largest of some batch sizes.

    In int8 other engines that are installed answer a few golden samples too: each makes integer kernels of the pairs in
    the file by rules of its own. `stages.json` then says how it went.
    """
    session, report = _gated(artifact, device, reference, golden, batches)
    if session.metadata.precision == "int8":
        others = problems_of_other_engines(artifact, golden, str(session.describe()["backend"]))
        report = replace(report, failures=(*report.failures, *others))
    _note_outcome(artifact, report)
    return report


def staged_source_gate(
    artifact: Path, source: Path, whole: Unverified, reference: Run, golden: GoldenSamples, batches: Sequence[int]
) -> Unverified:
    """Compare the ONNX that a staged graph was built from, as it cannot be run here; `stages.json` says how it went.

    Args:
        artifact: The whole graph.
        source: The ONNX file it was built from, that of its stages beside it; see `build_stages`.
        whole: Outcome for the artifact; where its ONNX could not be run, that of the stages cannot be either.
        reference: PyTorch.
        golden: Real pairs.
        batches: As `staged_gate` takes them.
    """
    onnx = None if whole.onnx is None else _gated(source, "cpu", reference, golden, batches)[1]
    outcome = Unverified(whole.reason, onnx, whole.onnx_reason)
    _note_outcome(artifact, outcome)
    return outcome


def _gated(
    artifact: Path, device: str, reference: Run, golden: GoldenSamples, batches: Sequence[int]
) -> tuple[Session, GateReport]:
    session = open_session(artifact, device=device, measure=False)
    assert session.stages is not None  # or opening would have failed
    sizes = tuple(sorted({min(batches), max(batches)}))
    return session, run_gate(_Staged(session, session.stages), reference, golden, sizes)


def _note_outcome(artifact: Path, outcome: GateReport | Unverified) -> None:
    manifest = read_manifest(artifact)
    assert manifest is not None
    replace(manifest, parity=outcome.to_dict()).save(stages_path(artifact))


def problems_of_other_engines(artifact: Path, golden: GoldenSamples, judged: str) -> Iterator[str]:
    """Give a sentence for each installed engine that does not answer as PyTorch did, whole or in stages.

    Args:
        artifact: Complete, its staged graph beside it.
        golden: A few of them are run.
        judged: The backend that was compared in full.
    """
    for name, backend in backends_for(artifact):
        if name == judged or not backend.available().ok:
            continue
        session = open_session(artifact, device="cpu", backend=name, measure=False)
        problem = Judge(golden, session.metadata).problem(session)
        if problem is not None:
            yield f"Run by {name}, {problem}"


@dataclass(frozen=True)
class _Staged:
    """A staged graph as the gate takes artifacts."""

    session: Session
    stages: Stages

    @property
    def metadata(self) -> ModelMetadata:
        return self.stages.metadata

    def run(self, inputs: Feeds) -> Logits:
        return self.stages.run(inputs)

    def describe(self) -> dict[str, Any]:
        return self.session.describe()
