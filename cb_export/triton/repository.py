"""The folder of one model in a Triton model repository: written in one step, replaced only when it is one of ours."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cb_export.triton import plans
from cb_export.triton.config import LABELS_FILE, Engine, config_from_text, config_to_text, model_config
from cb_runtime.contract import ModelMetadata, metadata_from_json
from cb_runtime.errors import ContractError, ModelError, ParityError, UsageError
from cb_runtime.files import atomic_folder, write_error
from cb_runtime.trt.sidecar import ENGINE_SUFFIX

CONFIG, CONTRACT, VERSION = "config.pbtxt", "contract.json", "1"

_ONNX = Engine("onnxruntime", "onnxruntime_onnx", "model.onnx")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TritonModel:
    """A model in a repository."""

    folder: Path
    """Of the model; its parent is the repository, its name the model's."""
    files: tuple[str, ...]
    """Artifacts in the version folder, the one just written first."""
    largest_batch: int
    """Pairs that Triton puts into one batch at most: `max_batch_size`."""
    left_out: tuple[str, ...] = ()
    """Engines of an older export that were not kept, and why; one line each."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "model": str(self.folder),
            "name": self.folder.name,
            "files": list(self.files),
            "max_batch_size": self.largest_batch,
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True)
class _Content:
    """What goes into the version folder."""

    engine: Engine
    files: Mapping[str, Path]
    """Name in the version folder to file; the artifact just written first."""
    largest_batch: int
    beside: Mapping[str, Path] = field(default_factory=dict)
    """What Triton does not read: sidecars."""
    left_out: tuple[str, ...] = ()


def check_name(name: str) -> None:
    """Raise UsageError when a model cannot be called so."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"A model in Triton is named by letters, digits, _, - and dots, got '{name}'. Choose --triton-name."
        )


def check_folder(folder: Path) -> None:
    """Raise UsageError when a model cannot have this folder: by its name, or because what stands there is not ours."""
    check_name(folder.name)
    if folder.exists() and written_contract(folder) is None:
        raise UsageError(
            f"{folder} has no {CONTRACT} of a model, so `cb export` did not write it and will not replace it. Move it "
            "away, or choose another --triton-name."
        )


def written_contract(folder: Path) -> ModelMetadata | None:
    """Return the contract of a model's folder; None where none of ours stands."""
    try:
        return metadata_from_json((folder / CONTRACT).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ContractError):
        return None


def write_model(folder: Path, artifact: Path, metadata: ModelMetadata) -> TritonModel:
    """Write the folder of a model in a repository, in place of an older one.

    An engine joins those of the older folder that were built from the same checkpoint for other GPUs.

    Args:
        folder: Of the model; named as the model.
        artifact: An ONNX file, or an engine with its sidecar.
        metadata: As it stands in the artifact, with the outcome of its parity gate.

    Raises:
        UsageError: The folder is not ours to write, or an artifact that Triton cannot run.
        ParityError: The artifact has not passed the parity gate.
        ModelError: Tensors that Triton cannot batch.
        StorageError: The disk is full, or the folder cannot be written.
    """
    check_folder(folder)
    content = _content(folder, artifact, metadata)
    config = model_config(folder.name, metadata, content.engine, content.largest_batch)
    text = config_to_text(config)
    assert config_from_text(text) == config
    try:
        with atomic_folder(folder) as place:
            (place / CONFIG).write_text(text, encoding="utf-8")
            (place / LABELS_FILE).write_text("".join(f"{label}\n" for label in metadata.labels), encoding="utf-8")
            (place / CONTRACT).write_text(metadata.to_json() + "\n", encoding="utf-8")
            (place / VERSION).mkdir()
            for name, file in {**content.files, **content.beside}.items():
                shutil.copyfile(file, place / VERSION / name)
    except OSError as error:
        raise write_error(folder, error) from error
    return TritonModel(folder, tuple(content.files), content.largest_batch, content.left_out)


def _content(folder: Path, artifact: Path, metadata: ModelMetadata) -> _Content:
    proven = proven_batch(artifact.name, metadata)
    if artifact.suffix != ENGINE_SUFFIX:
        assert _ONNX.default_file is not None
        return _Content(_ONNX, {_ONNX.default_file: artifact}, proven)
    new = plans.plan_from_engine(artifact)
    kept, left_out = plans.kept_plans(folder / VERSION, new)
    every = [new, *kept]
    return _Content(
        plans.engine_of(every),
        {plan.name: plan.file for plan in every},
        min(proven_batch(plan.name, plan.record.metadata, plan.record.profile.maximum) for plan in every),
        {plan.sidecar_name: plan.sidecar for plan in every},
        left_out,
    )


def proven_batch(name: str, metadata: ModelMetadata, most: int | None = None) -> int:
    """Return the largest batch size, up to `most`, at which the gate ran an artifact.

    Raises ParityError when it has not passed the gate, ModelError when its gate names no batch size.
    """
    parity = metadata.parity or {}
    if not parity.get("ok"):
        raise ParityError(f"{name} has not passed the parity gate. Export it again to serve it with Triton.")
    batches: list[int] = [size for size in parity.get("golden", {}).get("batches", ()) if most is None or size <= most]
    if not batches:
        raise ModelError(f"{name} does not say at which batch sizes it was compared with PyTorch. Export it again.")
    return max(batches)
