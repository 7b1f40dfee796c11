"""Which model a run trains, and what that model is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from cb_core.checkpoint import Checkpoint, model_from_checkpoint
from cb_core.registry import check_options, create_model_from_config, get_model_info
from cb_core.training.config import RunConfig
from cb_runtime.errors import UsageError


@dataclass(frozen=True)
class ModelChoice:
    """An architecture with all its options, and its view of the dataset."""

    architecture_name: str
    model_config: dict[str, Any]
    """Every option, defaults included, so that a later change of defaults does not change this model."""
    use_font_embedding: bool
    ocr_viz_variant: str | None
    """None takes the dataset's."""


def choose_model(config: RunConfig, checkpoint: Checkpoint | None) -> ModelChoice:
    """Return what is asked for, completed by the defaults or, when a run begins with a checkpoint, by what it holds.

    Raises:
        UsageError: No architecture named, an option it does not have, or something that differs from the checkpoint.
        ModelError: An unknown architecture.
    """
    if checkpoint is not None:
        return _choice_of_checkpoint(config, checkpoint)
    if config.architecture_name is None:
        raise UsageError("Name an architecture with --architecture; `cb models` lists them.")
    check_options(config.architecture_name, config.model_config)
    defaults = get_model_info(config.architecture_name).options
    return ModelChoice(
        config.architecture_name,
        {**{name: value for name, value in defaults.items() if _is_plain(value)}, **config.model_config},
        bool(config.use_font_embedding),
        config.ocr_viz_variant,
    )


def _choice_of_checkpoint(config: RunConfig, checkpoint: Checkpoint) -> ModelChoice:
    stored = checkpoint.config
    asked = {
        "architecture_name": config.architecture_name,
        "use_font_embedding": config.use_font_embedding,
        "ocr_viz_variant": config.ocr_viz_variant,
    }
    different = [*_differences(stored, asked), *_differences(stored["model_config"], config.model_config)]
    if different:
        reason = "--resume continues the same run" if config.resume else "--start-from takes the checkpoint's model"
        raise UsageError(
            f"{reason}, but these differ: {', '.join(different)}. Leave them out, or start a new run under another "
            "--name."
        )
    return ModelChoice(
        stored["architecture_name"], stored["model_config"], stored["use_font_embedding"], stored["ocr_viz_variant"]
    )


def _differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {stored.get(name)!r} -> {value!r}"
        for name, value in asked.items()
        if value is not None and stored.get(name) != value
    ]


def create_chosen_model(choice: ModelChoice, checkpoint: Checkpoint | None) -> nn.Module:
    """Create the model: with the checkpoint's weights, or as new, with pretrained weights if its options say so."""
    if checkpoint is not None:
        return model_from_checkpoint(checkpoint)
    return create_model_from_config(choice.architecture_name, choice.model_config)


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
