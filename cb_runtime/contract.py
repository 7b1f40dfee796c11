"""The contract between training, export and inference: labels, tensors, preprocessing and model metadata.

Born in training, carried by export, obeyed by inference. Standard library only, so that anything may read it. Each
value is written once here and read from here everywhere else.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cb_runtime.errors import ContractError

SCHEMA = 1
"""Number of this metadata schema. A reader refuses any other number."""

LABELS = ("same", "different", "empty_empty", "empty_valid", "valid_empty")
"""What a pair of frames shows, in index order 0 to 4. A task constraint: never configurable."""

REVERSED_LABEL = (0, 1, 2, 4, 3)
"""Index of the label of `(frame2, frame1)`, given the index of the label of `(frame1, frame2)`."""

ANCHORS = ("left", "center", "right")
"""Horizontal anchors of a caption, in the order of their one-hot in `spatial_features`."""

RESIZE_STRATEGIES = ("mirror_tile", "crop", "adaptive")
"""How a region whose width at strip height differs from the strip width is brought to it."""

OCR_VIZ_VARIANTS = ("boundaries", "centers", "both", "3d_channels")
"""How OCR boxes are drawn into the `ocr_viz` picture."""

INPUT_NAMES = ("ocr_viz", "frame1", "frame2", "spatial_features", "font_embedding")
"""The five inputs of every architecture and every exported graph, in order."""

IMAGE_INPUTS = INPUT_NAMES[:3]
"""The inputs that are pictures."""

SPATIAL_FEATURES = 6
"""Length of `spatial_features`: anchor one-hot (3), x centre, y centre, region width, each relative to the frame."""

FONT_EMBEDDING = 512
"""Length of `font_embedding`, the width of the ViT-B-32 image tower of CLIP."""

BATCH_AXIS = "batch"
"""Name of the one symbolic axis, shared by all inputs and outputs."""

COMPACT_LIMIT = 4095
"""Longest compact metadata in bytes: TensorRT stores a network's name up to this length."""

REPORT_FIELDS = (
    "training_versions",
    "producer_versions",
    "validation_metrics",
    "parity",
    "calibration",
    "keep_float",
    "lora_merge",
    "dataset_digest",
    "export_commit",
    "git_commit",
)
"""Fields that inference does not need, in the order in which the compact form gives them up."""

BUILD_FIELDS = ("precision", "opset", "export_date")
"""Fields that say how an artifact was built."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of one input or output of a graph."""

    name: str
    dtype: str
    """NumPy dtype name, e.g. `uint8`."""
    shape: tuple[int | str, ...]
    """Axes; a string names a symbolic axis."""

    def mismatch(self, dtype: str, shape: tuple[int, ...]) -> str | None:
        """Return what is wrong with a tensor of this dtype and shape, or None when it fits."""
        fits = dtype == self.dtype and len(shape) == len(self.shape)
        fits = fits and all(isinstance(want, str) or want == got for want, got in zip(self.shape, shape, strict=False))
        if fits:
            return None
        return f"Input '{self.name}' must be {self.dtype} {_axes(self.shape)}, got {dtype} {_axes(shape)}."


def _axes(shape: tuple[int | str, ...]) -> str:
    return "(" + ", ".join(str(axis) for axis in shape) + ("," if len(shape) == 1 else "") + ")"


@dataclass(frozen=True)
class Preprocessing:
    """How a caption region becomes a strip, and how a strip becomes the network's floating-point input."""

    height: int = 48
    """Strip height in pixels."""
    width: int = 480
    """Strip width in pixels."""
    resize_strategy: str = "mirror_tile"
    """One of `RESIZE_STRATEGIES`."""
    resampling: str = "area"
    """`area`: pixel-area averaging when shrinking, bilinear when enlarging; `linear`: bilinear always."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted per colour from values in [0, 1]: the ImageNet statistics that torchvision's weights expect."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divided by per colour, after the mean is subtracted."""
    colour_order: str = "RGB"
    """Order of the last axis of pictures."""

    def __post_init__(self) -> None:
        _one_of("resize_strategy", self.resize_strategy, RESIZE_STRATEGIES)
        _one_of("resampling", self.resampling, ("area", "linear"))
        _one_of("colour_order", self.colour_order, ("RGB",))

    @property
    def strip_shape(self) -> tuple[int, int, int]:
        """Shape of one strip: `(height, width, 3)`."""
        return (self.height, self.width, 3)


MAX_DISTANCE = 4
"""Largest distance, in frames, of pairs that captions are found by: each further one multiplies the states by three."""

FARTHEST = 16
"""Largest distance, in frames, of any pair: models are trained on pairs up to it."""


@dataclass(frozen=True)
class Decoding:
    """How label probabilities become captions: tuned for the model, and overridden only where the caller asks."""

    distances: tuple[int, ...] = (1, 2, 3)
    """Distances in frames of the pairs that captions are found by; ascending from 1 to at most `MAX_DISTANCE`."""
    distance_weights: tuple[float, ...] = ()
    """Weight of the evidence at each of `distances`, above 0; empty: all 1."""
    min_frames: int = 1
    """Least length of a caption in frames; one that is cut by the start or end of the video may be shorter."""
    change_penalty: float = 3.0
    """How much surer of `different` than of `same` the evidence at all distances must be to split a caption, in natural
    log units: 0 asks for even odds, 1.0 for 2.7 to 1. Six pairs at distances 1 to 3 see each change, and as they share
    frames they err together. Only a caption that follows another at once is affected.
    """
    blink_penalty: float = 2.0
    """How much surer of `same` than of `different` it must be, across a gap of less than the largest distance, to take
    what follows for the same caption. Captions a frame or two apart are common, a caption that flickers is rare."""
    score_scale: float = 1.0
    """Factor, above 0, of the logit of a boundary's probability; below 1 where pairs that share frames err together."""
    score_offset: float = 0.0
    """Added to the scaled logit. What both should be is found by `cb_runtime.calibration.fit_calibration`."""
    far_distance: int = 0
    """Distance in frames of further pairs that confirm what was found, beyond `MAX_DISTANCE` and at most `FARTHEST`; 0:
    there are none. They see more of what moves behind a caption; see `cb_runtime.confirmation`."""
    far_margin: float = 1.0
    """How much surer of `different` than of `same` those pairs must be, in the mean and in natural log units, to keep a
    change from caption to caption. Of a caption they need only be surer than of none."""

    def __post_init__(self) -> None:
        weights = self.distance_weights or (1.0,) * len(self.distances)
        rules = {
            "distances": distances_fit(self.distances),
            "distance_weights": len(weights) == len(self.distances) and all(0 < x < math.inf for x in weights),
            "min_frames": self.min_frames >= 1,
            "change_penalty": 0 <= self.change_penalty < math.inf,
            "blink_penalty": 0 <= self.blink_penalty < math.inf,
            "score_scale": 0 < self.score_scale < math.inf,
            "score_offset": math.isfinite(self.score_offset),
            "far_distance": self.far_distance == 0 or MAX_DISTANCE < self.far_distance <= FARTHEST,
            "far_margin": math.isfinite(self.far_margin),
        }
        for name in (name for name, kept in rules.items() if not kept):
            raise ContractError(f"Decoding: {name} is out of range, got {getattr(self, name)}. Export the model again.")

    @property
    def far_distances(self) -> tuple[int, ...]:
        """The far distance, or nothing where there is none."""
        return (self.far_distance,) if self.far_distance else ()

    def weight(self, distance: int) -> float:
        """Return the weight of a distance; 1 for one that has none."""
        return dict(zip(self.distances, self.distance_weights, strict=False)).get(distance, 1.0)


def distances_fit(distances: tuple[int, ...], most: int = MAX_DISTANCE) -> bool:
    """Tell whether distances ascend from 1 to at most `most`."""
    whole = all(isinstance(distance, int) for distance in distances)
    return whole and distances[:1] == (1,) and list(distances) == sorted({*distances}) and distances[-1] <= most


def graph_input_specs(preprocessing: Preprocessing | None = None) -> tuple[TensorSpec, ...]:
    """Return the specs of the five inputs of an exported graph (pictures as uint8, channels last)."""
    shape = (BATCH_AXIS, *(preprocessing or Preprocessing()).strip_shape)
    images = tuple(TensorSpec(name, "uint8", shape) for name in IMAGE_INPUTS)
    return (
        *images,
        TensorSpec("spatial_features", "float32", (BATCH_AXIS, SPATIAL_FEATURES)),
        TensorSpec("font_embedding", "float32", (BATCH_AXIS, FONT_EMBEDDING)),
    )


def architecture_input_specs(preprocessing: Preprocessing | None = None) -> tuple[TensorSpec, ...]:
    """Return the specs of the five inputs of a PyTorch architecture (pictures normalised, channels first)."""
    wanted = preprocessing or Preprocessing()
    shape = (BATCH_AXIS, 3, wanted.height, wanted.width)
    images = tuple(TensorSpec(name, "float32", shape) for name in IMAGE_INPUTS)
    return images + graph_input_specs(wanted)[len(IMAGE_INPUTS) :]


OUTPUT_SPECS = (TensorSpec("logits", "float32", (BATCH_AXIS, len(LABELS))),)
"""The one output: logits, whose softmax gives label probabilities."""


@dataclass(frozen=True)
class ModelMetadata:
    """Everything that must travel with a model; the same JSON stands in checkpoint, ONNX file and engine."""

    architecture_name: str
    """Name in the registry."""
    model_config: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments the architecture was created with."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    decoding: Decoding = field(default_factory=Decoding)
    ocr_viz_variant: str = "boundaries"
    """One of `OCR_VIZ_VARIANTS`."""
    use_font_embedding: bool = False
    """When false, `font_embedding` is zeros in training and inference alike."""
    fontclip_model_version: str | None = None
    """Identifier of the font encoder that made the training embeddings; None without one."""
    ocr_engine: str | None = None
    """Engine that found the boxes of the training data, e.g. `rapidocr`; None when boxes were not from OCR."""
    ocr_engine_version: str | None = None
    precision: str = "fp32"
    """Arithmetic of the artifact: fp32, tf32, fp16, bf16 or int8."""
    checkpoint_sha256: str | None = None
    """Digest of the checkpoint file an artifact was exported from; None inside the checkpoint itself."""
    git_commit: str | None = None
    """Commit of the training code, with `-dirty` appended when the tree had changes."""
    dataset_name: str | None = None
    dataset_digest: str | None = None
    """SHA-256 over the dataset's pairs and videos."""
    validation_metrics: Mapping[str, Any] = field(default_factory=dict)
    lora_merge: Mapping[str, Any] | None = None
    """Record of merging LoRA adapters: layers merged and the largest logit difference it made."""
    opset: int | None = None
    """ONNX opset as read back from the artifact."""
    training_versions: Mapping[str, str] = field(default_factory=dict)
    """Releases of the packages that trained it, as they stood in the checkpoint; empty inside the checkpoint itself."""
    export_commit: str | None = None
    """Commit of the exporting code, with `-dirty` appended when the tree had changes; None outside a repository."""
    producer_versions: Mapping[str, str] = field(default_factory=dict)
    """Releases of the packages that wrote this file."""
    export_date: str | None = None
    """UTC, ISO 8601."""
    calibration: Mapping[str, Any] | None = None
    """What int8 was calibrated on: source, number of samples, digest, and whether parity was judged on them too."""
    keep_float: tuple[str, ...] = ()
    """Modules of the architecture that compute in float32 although `precision` is a lower one."""
    parity: Mapping[str, Any] | None = None
    """Summary of the parity gate the artifact went through."""
    labels: tuple[str, ...] = LABELS
    inputs: tuple[TensorSpec, ...] = ()
    """Specs of the graph's inputs; derived from `preprocessing` when left out."""
    outputs: tuple[TensorSpec, ...] = OUTPUT_SPECS
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ContractError(
                f"Metadata has schema {self.schema}, this cb reads schema {SCHEMA}. "
                "Install the cb-toolkit release that wrote the file, or export it again with this one."
            )
        if tuple(self.labels) != LABELS:
            raise ContractError(f"Labels must be {LABELS}, got {tuple(self.labels)}. The model solves another task.")
        _one_of("ocr_viz_variant", self.ocr_viz_variant, OCR_VIZ_VARIANTS)
        if not self.inputs:
            object.__setattr__(self, "inputs", graph_input_specs(self.preprocessing))

    def replace(self, **changes: Any) -> ModelMetadata:  # noqa: ANN401  (one keyword per field)
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: dicts, lists, strings, numbers, booleans and None."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    def to_json(self) -> str:
        """Return the full metadata as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    def to_compact_json(self) -> str:
        """Return JSON of at most `COMPACT_LIMIT` bytes that reads back to the same behaviour at inference.

        Values equal to their default are left out. If that is still too long, report fields (metrics, versions, ...)
        are given up one after another; `metadata_from_json` then gives their defaults. Raises ContractError when even
        what inference needs is too long.
        """
        plain = self.to_dict()
        default = ModelMetadata(self.architecture_name, preprocessing=self.preprocessing).to_dict()
        keep = {"schema", "architecture_name"}
        if self.preprocessing != Preprocessing():
            keep.add("preprocessing")
        compact = {key: value for key, value in plain.items() if key in keep or value != default[key]}
        for name in (None, *REPORT_FIELDS):
            compact.pop(name or "", None)
            text = json.dumps(compact, separators=(",", ":"), sort_keys=True)
            if len(text.encode()) <= COMPACT_LIMIT:
                return text
        raise ContractError(
            f"Compact metadata is {len(text.encode())} bytes, the limit is {COMPACT_LIMIT}. Shorten model_config."
        )


def model_differences(one: ModelMetadata, other: ModelMetadata) -> tuple[str, ...]:
    """Return the names of fields in which two artifacts are not of the same model; empty when they are.

    How they were built, and what was measured of them, may differ.
    """
    names = (item.name for item in dataclasses.fields(ModelMetadata) if item.name not in REPORT_FIELDS + BUILD_FIELDS)
    plain, others = one.to_dict(), other.to_dict()
    return tuple(name for name in names if plain[name] != others[name])


def metadata_from_json(text: str | bytes) -> ModelMetadata:
    """Read metadata from either JSON form. Raises ContractError when it is not ours or of an unknown schema."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ContractError(f"Model metadata is not JSON: {error}.") from error
    return metadata_from_dict(values)


def metadata_from_dict(values: object) -> ModelMetadata:
    """Read metadata from plain JSON types. Raises ContractError when it is not ours or of an unknown schema."""
    if not isinstance(values, Mapping) or not {"schema", "architecture_name"} <= values.keys():
        raise ContractError("Model metadata lacks 'schema' or 'architecture_name': it was not written by cb.")
    fields = dict(values)
    if fields["schema"] != SCHEMA:
        return ModelMetadata(str(fields["architecture_name"]), schema=fields["schema"])
    unknown = sorted(fields.keys() - {item.name for item in dataclasses.fields(ModelMetadata)})
    if unknown:
        raise ContractError(f"Model metadata of schema {SCHEMA} has unknown fields {unknown}. Export the model again.")
    try:
        return _metadata_from_fields(fields)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ContractError(f"Model metadata is malformed: {error}. Export the model again.") from error


def _metadata_from_fields(fields: dict[str, Any]) -> ModelMetadata:
    if "preprocessing" in fields:
        fields["preprocessing"] = preprocessing_from_dict(fields["preprocessing"])
    if "decoding" in fields:
        fields["decoding"] = decoding_from_dict(fields["decoding"])
    for name in ("inputs", "outputs"):
        if name in fields:
            fields[name] = tuple(TensorSpec(spec["name"], spec["dtype"], tuple(spec["shape"])) for spec in fields[name])
    for name in {"labels", "keep_float"} & fields.keys():
        fields[name] = tuple(fields[name])
    return ModelMetadata(**fields)


def preprocessing_from_dict(values: Mapping[str, Any]) -> Preprocessing:
    """Read a preprocessing from plain JSON types. Raises ContractError, KeyError or TypeError for what is not one."""
    return Preprocessing(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def decoding_from_dict(values: Mapping[str, Any]) -> Decoding:
    """Read a decoding from plain JSON types. Raises ContractError (out of range) or TypeError (unknown fields)."""
    fields = dict(values)
    for name in {"distances", "distance_weights"} & fields.keys():
        fields[name] = tuple(fields[name])
    return Decoding(**fields)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ContractError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
