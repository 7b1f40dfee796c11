"""Staged graphs: a model in two steps, so that each picture is encoded once, however many pairs it stands in.

`best.staged/` beside `best.onnx`, and `best.engine.staged/` beside `best.engine`, hold one graph per encoder, a
classifier that takes the encoders' features, and `stages.json`, which says what belongs to what. A folder that was made
for another artifact is an error: silence would mean answers of another model, or a service that is several times slower
than it was yesterday.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Feeds, Logits
from cb_runtime.contract import (
    BATCH_AXIS,
    IMAGE_INPUTS,
    INPUT_NAMES,
    OUTPUT_SPECS,
    ModelMetadata,
    TensorSpec,
    graph_input_specs,
)
from cb_runtime.errors import ContractError, ModelError, UsageError
from cb_runtime.feeds import checked_answer, checked_batch, no_answer, row_shape
from cb_runtime.files import sha256_of_file
from cb_runtime.resident import ROWS, Gatherer

MANIFEST, CLASSIFIER = "stages.json", "classifier"
"""Names of the file that says what belongs to what, and of the part that is no encoder; see `encoder_part`."""
SCHEMA = 1
"""Version of `stages.json`."""

PICTURES, FEATURES = "pictures", "features"
"""Names of an encoder's input and output."""

Features = NDArray[Any]
"""What an encoder made of pictures: float32 `(batch, ...)`, or `Row`s `(batch,)` of features that stay on a GPU."""

_NAME = re.compile(r"\w+", re.ASCII)

_ENGINE = ".engine"

_SAME_FEATURES = 0.01
"""Share of the largest feature by which features may differ between two runs; those of other rows differ by more."""


def stages_path(artifact: str | Path) -> Path:
    """Return where an artifact's staged graph stands: `best.onnx` -> `best.staged`, `best.engine` with its ending."""
    path = Path(artifact)
    # So that an engine and an ONNX file of one name can stand beside each other.
    return path.with_suffix(f"{path.suffix}.staged" if path.suffix.lower() == _ENGINE else ".staged")


def encoder_part(encoder: str) -> str:
    """Return the name of the part that an encoder is."""
    return f"encoder_{encoder}"


def part_file(artifact: Path, part: str) -> Path:
    """Return the file of a part: of the same kind as its artifact, and named after the part."""
    return stages_path(artifact) / f"{part}{artifact.suffix.lower()}"


def encoder_specs(
    metadata: ModelMetadata, shape: tuple[int, ...], dtype: str = "float32"
) -> tuple[TensorSpec, TensorSpec]:
    """Return input and output of an encoder whose features of one picture have this shape."""
    pictures = (BATCH_AXIS, *metadata.preprocessing.strip_shape)
    return TensorSpec(PICTURES, "uint8", pictures), TensorSpec(FEATURES, dtype, (BATCH_AXIS, *shape))


def classifier_specs(
    metadata: ModelMetadata, shapes: Mapping[str, tuple[int, ...]], dtype: str = "float32"
) -> tuple[TensorSpec, ...]:
    """Return the inputs of a classifier, from the shape of one picture's features by role."""
    features = (TensorSpec(f"{role}_{FEATURES}", dtype, (BATCH_AXIS, *shapes[role])) for role in IMAGE_INPUTS)
    return (*features, *graph_input_specs(metadata.preprocessing)[len(IMAGE_INPUTS) :])


@dataclass(frozen=True)
class Manifest:
    """What `stages.json` says."""

    artifact_sha256: str
    """Digest of the five-input artifact that the stages belong to."""
    roles: Mapping[str, str]
    """Which encoder serves which picture input."""
    members: Mapping[str, str]
    """File name to SHA-256."""
    parity: Mapping[str, Any] | None = None
    """Outcome of the parity gate that the stages passed."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ContractError(f"schema must be {SCHEMA}, got {self.schema}")
        if set(self.roles) != set(IMAGE_INPUTS) or not all(_NAME.fullmatch(name) for name in self.roles.values()):
            raise ContractError(f"roles must name an encoder (letters, digits, _) for each picture, got {self.roles}")
        wanted = {CLASSIFIER, *map(encoder_part, self.roles.values())}
        parts = {PurePath(name).stem for name in self.members}
        if parts != wanted or len(self.members) != len(wanted):
            raise ContractError(f"members must be {', '.join(sorted(wanted))}, got {', '.join(sorted(self.members))}")

    def save(self, folder: Path) -> None:
        """Write `stages.json`."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_manifest(artifact: Path) -> Manifest | None:
    """Return what is said of the stages beside an artifact, proven by digests; None when it has no stages.

    Raises ContractError when the folder is not this artifact's, or is not as it was exported.
    """
    folder = stages_path(artifact)
    if not folder.exists():
        return None
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        problem = _difference(manifest, artifact, folder)
    except (ContractError, OSError, ValueError, TypeError, AttributeError) as error:
        problem = f"{MANIFEST} cannot be used: {error}"
    if problem:
        raise ContractError(f"{folder} is not the staged graph of {artifact.name}: {problem}. {_remedy(folder)}")
    return manifest


def _difference(manifest: Manifest, artifact: Path, folder: Path) -> str | None:
    if sha256_of_file(artifact) != manifest.artifact_sha256:
        return "it was exported with another artifact"
    if any(PurePath(name).suffix != artifact.suffix.lower() for name in manifest.members):
        return f"its parts are no {artifact.suffix.lower()} files"
    for name, digest in manifest.members.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256_of_file(folder / name) != digest:
            return f"{name} was changed or damaged"
    return None


def _remedy(folder: Path) -> str:
    return (
        "Export it again with `cb export`, or delete the folder: then every pair is encoded on its own. "
        f"(rm -r {folder})"
    )


class Part(Protocol):
    """One graph of a staged model, on a device."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of its inputs."""
        ...

    @property
    def output(self) -> TensorSpec:
        """Spec of its only output."""
        ...

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Return the output for checked inputs, in memory that later calls leave alone."""
        ...


class Stages:
    """A model in two steps: `encode` pictures, then `classify` pairs of features.

    Args:
        roles: Which encoder serves which picture input.
        encoders: Encoders by name.
        classifier: Takes the features of three pictures and two vectors.
        metadata: The contract of the model.
        dtype: Of features: `float32`, or `ROWS`.
        resident: The same stages with features that stay on the GPU.

    Raises ContractError when the parts do not fit each other or the contract.
    """

    def __init__(
        self,
        roles: Mapping[str, str],
        encoders: Mapping[str, Part],
        classifier: Part,
        metadata: ModelMetadata,
        *,
        dtype: str = "float32",
        resident: Stages | None = None,
    ) -> None:
        self.roles, self.metadata = dict(roles), metadata
        self.resident = resident
        """The same stages with features that stay on the GPU, for scoring videos; None where they cannot."""
        self._encoders, self._classifier, self._dtype = encoders, classifier, dtype
        shapes = {role: row_shape(encoders[name].output) for role, name in roles.items()}
        for role, name in roles.items():
            wanted = encoder_specs(metadata, shapes[role], dtype)
            _check_specs(encoder_part(name), (*encoders[name].inputs, encoders[name].output), wanted)
        specs = (*classifier_specs(metadata, shapes, dtype), *OUTPUT_SPECS)
        _check_specs(CLASSIFIER, (*classifier.inputs, classifier.output), specs)

    def over(self, change: Callable[[Part], Part]) -> Stages:
        """Return the stages with what `change` makes of each part."""
        encoders = {name: change(part) for name, part in self._encoders.items()}
        resident = self.resident and self.resident.over(change)
        changed = change(self._classifier)
        return Stages(self.roles, encoders, changed, self.metadata, dtype=self._dtype, resident=resident)

    def with_resident(self, encoder: Callable[[Any], Part], classifier: Callable[[Any], Part]) -> Stages:
        """Return the stages with `resident` ones, of what is made of the encoders and the classifier."""
        encoders = {name: encoder(part) for name, part in self._encoders.items()}
        resident = Stages(self.roles, encoders, classifier(self._classifier), self.metadata, dtype=ROWS)
        return Stages(self.roles, self._encoders, self._classifier, self.metadata, resident=resident)

    def encode(self, role: str, pictures: NDArray[np.uint8]) -> Features:
        """Return the features of pictures: float32 `(batch, ...)`, or `Row`s `(batch,)` where they stay on the GPU.

        Args:
            role: `ocr_viz`, `frame1` or `frame2`. Roles of one encoder have the same features.
            pictures: uint8 `(batch, 48, 480, 3)`; an empty batch gives an empty answer.

        Raises:
            UsageError: An unknown role.
            ContractError: Pictures that the model does not take.
        """
        if role not in self.roles:
            raise UsageError(f"Unknown role '{role}'. Choose one of {', '.join(self.roles)}.")
        return _answer(self._encoders[self.roles[role]], {PICTURES: pictures})

    def classify(self, inputs: Feeds) -> Logits:
        """Return logits, float32 `(batch, 5)`.

        Args:
            inputs: `ocr_viz_features`, `frame1_features` and `frame2_features` as `encode` gave them for these roles,
                float32 `spatial_features` `(batch, 6)` and `font_embedding` `(batch, 512)`.

        Raises:
            ContractError: Inputs that the model does not take.
        """
        return _answer(self._classifier, inputs)

    def run(self, inputs: Feeds) -> Logits:
        """Return what `Session.run` returns for the five inputs of pairs, computed in two steps and nothing reused."""
        checked_batch(self.metadata.inputs, inputs)
        features = {f"{role}_{FEATURES}": self.encode(role, inputs[role]) for role in IMAGE_INPUTS}
        return self.classify(features | {name: inputs[name] for name in INPUT_NAMES[len(IMAGE_INPUTS) :]})


def _answer(part: Part, inputs: Feeds) -> NDArray[np.float32]:
    batch = checked_batch(part.inputs, inputs)
    return checked_answer(part.run(inputs), part.output, batch) if batch else no_answer(part.output)


def _check_specs(name: str, found: tuple[TensorSpec, ...], wanted: tuple[TensorSpec, ...]) -> None:
    # The batch axis may have any name, but no size.
    if [(s.name, s.dtype, s.shape[1:], isinstance(s.shape[0], str)) for s in found] != [
        (s.name, s.dtype, s.shape[1:], True) for s in wanted
    ]:
        raise ContractError(f"{name} of the staged graph must have {wanted}, got {found}. Export it again.")


def open_stages(path: Path, metadata: ModelMetadata, open_part: Callable[[Path], Part]) -> Stages | None:
    """Open the staged graph beside an artifact; None when it has none.

    Args:
        path: The artifact.
        metadata: Its contract.
        open_part: Opens one graph as the artifact was opened.

    Raises ContractError when the stages are not this artifact's, or do not fit each other.
    """
    manifest = read_manifest(path)
    if manifest is None:
        return None
    names = dict.fromkeys(manifest.roles.values())
    encoders = {name: open_part(part_file(path, encoder_part(name))) for name in names}
    return Stages(manifest.roles, encoders, open_part(part_file(path, CLASSIFIER)), metadata)


def check_resident(stages: Stages, gatherer: Gatherer, path: Path, device: str) -> None:
    """Raise ModelError when features that stay on the GPU are others than those that come to the host.

    Args:
        stages: Those of an artifact, with `resident` ones.
        gatherer: Puts rows of the latter together.
        path: The artifact, for the error.
        device: Where it was opened, for the error.
    """
    assert stages.resident is not None
    noise = np.random.default_rng(0).integers(0, 64, stages.metadata.preprocessing.strip_shape, np.uint8)
    pictures = np.stack([noise * brightness for brightness in (1, 2, 3, 4)]).astype(np.uint8)
    batches = pictures[:2], pictures[2:]  # of one size: a GPU takes a while with each new one
    for role in {stages.roles[role]: role for role in IMAGE_INPUTS}.values():
        wanted = np.concatenate([stages.encode(role, batch) for batch in batches])[::-1]
        rows = np.concatenate([stages.resident.encode(role, batch) for batch in batches])[::-1]
        found = gatherer.on_host(gatherer.together(rows)).reshape(wanted.shape)
        if not np.allclose(found, wanted, rtol=0, atol=_SAME_FEATURES * float(np.abs(wanted).max())):
            raise ModelError(
                f"Features of {path.name} that stay on {device} are not those that come to the host. Report it with "
                "what `cb doctor` says, and use --no-reuse until then."
            )
