"""The registry of architectures: the one way to create a model by name.

An architecture is a factory: a function from keyword arguments (its model_config) to a `torch.nn.Module` whose
`forward(ocr_viz, frame1, frame2, spatial_features, font_embedding)` returns logits `(batch, 5)`. It is found

- as a file in `cb_core/architectures/`,
- as a module named by another package's entry point in the group `cb.architectures`,
- as a file given with `--plugin` (`load_plugin`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cb_runtime.contract import INPUT_NAMES, LABELS, Preprocessing, architecture_input_specs
from cb_runtime.errors import ModelError, UsageError, require

if TYPE_CHECKING:
    from torch import Tensor, nn

ARCHITECTURES_GROUP = "cb.architectures"
PRETRAINED_OPTION = "pretrained"
"""The model_config key that names weights to start from; turned off when a checkpoint is about to be loaded."""

_BAD_VALUE = (TypeError, ValueError, RuntimeError, ArithmeticError, AssertionError, LookupError)
"""What factories and layers raise for values that they cannot be made or run with."""

Factory = Callable[..., "nn.Module"]
FactoryT = TypeVar("FactoryT", bound=Factory)


@dataclass(frozen=True)
class ModelInfo:
    """What the registry knows of one architecture."""

    name: str
    module: str
    """Module that registered it."""
    description: str
    """First line of the factory's docstring."""
    options: Mapping[str, Any]
    """model_config keys and their defaults, read from the factory's signature."""
    hyperparameters: Mapping[str, Any]
    """Hyperparameters of training that suit it, where they are not the common defaults."""
    total_params: int
    trainable_params: int

    @property
    def trainable_share(self) -> float:
        """Share of parameters that training changes, in [0, 1]."""
        return self.trainable_params / self.total_params


_factories: dict[str, Factory] = {}
_hyperparameters: dict[str, Mapping[str, Any]] = {}


def register_model(name: str, hyperparameters: Mapping[str, Any] | None = None) -> Callable[[FactoryT], FactoryT]:
    """Register the decorated factory under `name`. Raises UsageError when the name is taken.

    Args:
        name: What users call it.
        hyperparameters: Values of `cb_core.training.Hyperparameters` with which it trains well, where the common
            defaults do not; a user's own values come before them.
    """

    def register(factory: FactoryT) -> FactoryT:
        holder = _factories.get(name)
        if holder is not None and not _same_source(holder, factory):
            raise UsageError(
                f"Architecture '{name}' is already registered by {holder.__module__}. Choose another name for the one "
                f"in {factory.__module__}."
            )
        _factories[name] = factory
        _hyperparameters[name] = dict(hyperparameters or {})
        return factory

    return register


def _same_source(one: Factory, other: Factory) -> bool:
    # A module that is loaded a second time (reload, plugin given twice) may register its own factory again.
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def list_architectures() -> list[str]:
    """Return the names of all architectures, sorted."""
    _load_all()
    return sorted(_factories)


def create_model(name: str, *, validate: bool = True, **model_config: Any) -> nn.Module:  # noqa: ANN401  (the factory's own options)
    """Create an architecture with its options.

    Args:
        name: A registered name.
        validate: Run the model once to check the contract (see `validate_model`).
        **model_config: Options of the architecture; `get_model_info(name).options` lists them.

    Raises:
        ModelError: Unknown name, or a model that breaks the contract.
        UsageError: An option the architecture does not have, or a value that it cannot be made with.
    """
    return create_model_from_config(name, model_config, validate=validate)


def create_model_from_config(name: str, model_config: Mapping[str, Any], *, validate: bool = True) -> nn.Module:
    """Create an architecture as `create_model` does, with options that a user or a file gives.

    No key of theirs is taken for an argument of the registry's own.
    """
    check_options(name, model_config)
    try:
        model = _factory(name)(**model_config)
        if validate:
            validate_model(model)
    except _BAD_VALUE as error:
        raise UsageError(
            f"Architecture '{name}' cannot be made with model_config {dict(model_config)}: {type(error).__name__}: "
            f"{error}. `cb models --json` lists its options and their defaults."
        ) from error
    return model


def check_options(name: str, model_config: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that an architecture does not have, ModelError for an unknown architecture."""
    known = inspect.signature(_factory(name)).parameters
    unknown = sorted(model_config.keys() - known.keys())
    if unknown:
        raise UsageError(f"Architecture '{name}' has no option {', '.join(unknown)}. It has: {', '.join(known)}.")


def create_model_for_weights(name: str, model_config: Mapping[str, Any]) -> nn.Module:
    """Create an architecture whose weights are loaded next: nothing pretrained is read or fetched."""
    options = dict(model_config)
    if PRETRAINED_OPTION in inspect.signature(_factory(name)).parameters:
        options[PRETRAINED_OPTION] = False
    return create_model_from_config(name, options, validate=False)


def get_model_info(name: str) -> ModelInfo:
    """Return description, options and parameter counts of an architecture, without reading any weights."""
    factory = _factory(name)
    torch = require("torch")
    with torch.device("meta"):
        model: Any = create_model_for_weights(name, {})
    return ModelInfo(
        name=name,
        module=factory.__module__,
        description=(inspect.getdoc(factory) or "").partition("\n")[0],
        options={key: parameter.default for key, parameter in inspect.signature(factory).parameters.items()},
        hyperparameters=_hyperparameters[name],
        total_params=model.get_num_total_params(),
        trainable_params=model.get_num_trainable_params(),
    )


def validate_model(model: nn.Module) -> None:
    """Check that a model obeys the contract of architectures.

    Five inputs by name and order in `forward`, logits `(batch, 5)` out, `get_num_trainable_params()` and
    `get_num_total_params()` present. Raises ModelError naming what is wrong.
    """
    name = type(model).__name__
    found = tuple(inspect.signature(model.forward).parameters)
    if found != INPUT_NAMES:
        raise ModelError(f"{name}.forward must take ({', '.join(INPUT_NAMES)}), got ({', '.join(found)}).")
    for method in ("get_num_trainable_params", "get_num_total_params"):
        if not callable(getattr(model, method, None)):
            raise ModelError(f"{name} must have a method {method}() that returns an int.")
    shape = tuple(_dry_run(model).shape)
    if shape != (2, len(LABELS)):
        raise ModelError(f"{name} must return logits (batch, {len(LABELS)}), got {shape} for a batch of 2.")


def _dry_run(model: nn.Module) -> Tensor:
    torch = require("torch")
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else "cpu"
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            result: Tensor = model(**example_inputs(batch=2, device=device))
    finally:
        model.train(was_training)
    return result


def example_inputs(batch: int, preprocessing: Preprocessing | None = None, device: object = "cpu") -> dict[str, Tensor]:
    """Return random inputs of an architecture: float32 pictures `(batch, 3, 48, 480)` and the two vectors."""
    torch = require("torch")
    specs = architecture_input_specs(preprocessing)
    return {spec.name: torch.randn(batch, *spec.shape[1:], device=device) for spec in specs}


def load_plugin(path: str | Path) -> None:
    """Run a Python file that registers architectures. Raises UsageError when it cannot be run."""
    file = Path(path).resolve()
    if not file.is_file():
        raise UsageError(f"Plugin {file} does not exist.")
    name = f"cb_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"Plugin {file} is not a Python file (.py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"Plugin {file} failed to load: {type(error).__name__}: {error}") from error


def _factory(name: str) -> Factory:
    known = list_architectures()
    if name not in known:
        raise ModelError(
            f"Unknown architecture '{name}'. Known: {', '.join(known)}. Bring your own with --plugin FILE."
        )
    return _factories[name]


@cache
def _load_all() -> None:
    require("torch")
    package = importlib.import_module("cb_core.architectures")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    for entry in entry_points(group=ARCHITECTURES_GROUP):
        importlib.import_module(entry.value)
