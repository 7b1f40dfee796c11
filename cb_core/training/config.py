"""What a training run is told: hyperparameters, and where and on what it runs.

Standard library only, so that the command line can show defaults without importing torch.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cb_runtime.contract import OCR_VIZ_VARIANTS
from cb_runtime.errors import UsageError

BALANCES = ("weights", "sampler", "none")
"""How class imbalance is corrected: in the loss, in the sampling, or not. Never in both."""

SCHEDULES = ("cosine", "plateau", "constant")
"""How learning rates change: down to zero along half a cosine, ten times smaller when F1 stalls, or not at all."""

PRECISIONS = ("auto", "no", "bf16", "fp16")
"""Arithmetic of training; weights are float32 always."""

DEVICES = ("auto", "cpu", "cuda")

MAY_CHANGE_ON_RESUME = frozenset({"epochs", "patience", "max_minutes"})
"""Hyperparameters that `--resume` may change: when to stop is not part of what was learnt so far."""

_POSITIVE = ("epochs", "batch_size", "accumulation", "learning_rate", "head_learning_rate")
_NOT_NEGATIVE = (
    "weight_decay",
    "warmup_epochs",
    "patience",
    "clip_norm",
    "label_smoothing",
    "auxiliary_weight",
    "epoch_pairs",
    "hard_pairs",
    "seed",
)


@dataclass(frozen=True)
class Hyperparameters:
    """Everything that shapes what a model learns, apart from its architecture and its data.

    An architecture may state other defaults (see `cb_core.registry.register_model`).
    """

    epochs: int = 20
    """Passes over the training split at most."""
    batch_size: int = 32
    """Pairs per step on each device."""
    accumulation: int = 1
    """Steps whose gradients are added up before the weights change."""
    learning_rate: float = 3e-4
    """AdamW's peak learning rate for the layers that see pictures."""
    head_learning_rate: float = 1e-3
    """AdamW's peak learning rate for the head: what comes after the features."""
    weight_decay: float = 1e-2
    """AdamW's decay of weights with two axes or more; biases and normalisation are left alone."""
    schedule: str = "cosine"
    """One of `SCHEDULES`."""
    warmup_epochs: float = 0.5
    """Epochs over which learning rates grow linearly to their peak."""
    balance: str = "weights"
    """One of `BALANCES`."""
    label_smoothing: float = 0.0
    """Share of each target spread over all classes, in [0, 1)."""
    auxiliary_weight: float = 0.0
    """Weight in the loss of an auxiliary head that predicts caption presence and extent in each frame (late fusion);
    0 trains without it."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them as they are."""
    augment: bool = True
    """Whether training pictures are altered (compression, blur, brightness, shifts)."""
    share_frames: bool = True
    """Whether a batch takes pairs that share frames, each of which late fusion encodes once; other architectures are
    always shown pairs in a freer order."""
    epoch_pairs: int = 0
    """Pairs of an epoch at most, drawn anew for each; 0 takes all. Large datasets are validated more often so."""
    hard_pairs: float = 0.0
    """Share of an epoch's pairs drawn from those the model got wrong when it last saw them, in [0, 1); 0 mines none."""
    patience: int = 6
    """Epochs without a better macro F1 after which training stops; 0 never stops early."""
    max_minutes: float | None = None
    """Training stops before the epoch that would go beyond this; None for no limit."""
    precision: str = "auto"
    """One of `PRECISIONS`; `auto` takes bf16 where the device has arithmetic for it, else fp16 on a GPU, else none."""
    start_from: str | None = None
    """Checkpoint (`.pt`, or `default` for the model in the box) whose architecture and weights the run begins with, to
    tune it to other data; None: new weights."""
    seed: int = 0
    """Decides initial weights, order of pairs, dropout and augmentation."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check_value(item.name, getattr(self, item.name), str(item.type))
        for name, known in (("schedule", SCHEDULES), ("balance", BALANCES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, got {getattr(self, name)}.")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}.")
        if self.label_smoothing >= 1:
            raise UsageError(f"label_smoothing must be below 1, got {self.label_smoothing}.")
        if self.hard_pairs >= 1:
            raise UsageError(f"hard_pairs must be below 1, got {self.hard_pairs}.")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise UsageError(f"max_minutes must be above 0, got {self.max_minutes}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class RunConfig:
    """One training run: what is trained, on which data, where its files go."""

    dataset: str
    """Path or URL of the dataset database."""
    name: str
    """Name of the experiment."""
    architecture_name: str | None = None
    """Name in the registry; may be left out with `resume` and `start_from`."""
    model_config: Mapping[str, Any] = field(default_factory=dict)
    """Options of the architecture that differ from its defaults (or, with `resume`, from the run's so far)."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Values that differ from the defaults of `Hyperparameters` (or, with `resume`, from the run's so far)."""
    use_font_embedding: bool | None = None
    """Whether the model sees the dataset's font embeddings or zeros; None: zeros (or, with `resume`, as before)."""
    ocr_viz_variant: str | None = None
    """One of `cb_runtime.contract.OCR_VIZ_VARIANTS`; None takes the dataset's (or, with `resume`, as before)."""
    output: Path | None = None
    """Folder of checkpoints and tracker files; `runs/<name>` when None."""
    trackers: tuple[str, ...] = ()
    """Names of sinks beside the experiment's row: keys of `cb_core.tracking.sinks.SINKS`."""
    device: str = "auto"
    """One of `DEVICES`."""
    workers: int | None = None
    """Processes that prepare batches; None chooses by the number of cores."""
    resume: bool = False
    """Go on from `last.pt` in the output folder."""

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UsageError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}.")
        if self.ocr_viz_variant not in (None, *OCR_VIZ_VARIANTS):
            raise UsageError(
                f"ocr_viz_variant must be one of {', '.join(OCR_VIZ_VARIANTS)}, got {self.ocr_viz_variant!r}."
            )
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"workers must be 0 or more, got {self.workers}.")

    @property
    def folder(self) -> Path:
        """Folder of checkpoints and tracker files."""
        return self.output or Path("runs") / self.name


def hyperparameters_from_dict(values: Mapping[str, Any], base: Hyperparameters | None = None) -> Hyperparameters:
    """Return `base` (the defaults) with `values`. Raises UsageError for an unknown name or a wrong value."""
    known = [item.name for item in dataclasses.fields(Hyperparameters)]
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise UsageError(f"Unknown hyperparameters {', '.join(unknown)}. Known: {', '.join(known)}.")
    return dataclasses.replace(base or Hyperparameters(), **values)


def hyperparameters_on_resume(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> Hyperparameters:
    """Return a stopped run's hyperparameters with what is asked now.

    Raises UsageError when something is asked that would make it another run.
    """
    before = hyperparameters_from_dict(stored)
    after = hyperparameters_from_dict(asked, before)
    old, new = before.to_dict(), after.to_dict()
    changed = [name for name in old if old[name] != new[name] and name not in MAY_CHANGE_ON_RESUME]
    if changed:
        differences = ", ".join(f"{name} {old[name]} -> {new[name]}" for name in changed)
        raise UsageError(
            f"--resume continues the same run, but these differ: {differences}. Leave them out, or start a new run "
            f"under another --name. Only {', '.join(sorted(MAY_CHANGE_ON_RESUME))} may change."
        )
    return after


def mapping_from_text(option: str, text: str | None) -> dict[str, Any]:
    """Read a JSON object from an option's text or from the file it names. Raises UsageError when it is neither."""
    if text is None:
        return {}
    try:
        source = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        values = json.loads(source)
    except OSError as error:
        raise UsageError(f"{option} must be a JSON object or a file that holds one, got {text!r} ({error}).") from error
    except ValueError as error:
        raise UsageError(f"{option} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise UsageError(f"{option} must be a JSON object such as {{...}}, got {type(values).__name__}.")
    return values


_ACCEPTED = {
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "str": (str,),
    "str | None": (str, type(None)),
    "bool": (bool,),
}


def _check_value(name: str, value: object, kind: str) -> None:
    is_bool = isinstance(value, bool) and kind != "bool"
    if is_bool or not isinstance(value, _ACCEPTED[kind]):
        raise UsageError(f"Hyperparameter {name} must be {kind}, got {value!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"Hyperparameter {name} must be a finite number, got {value!r}.")
