"""The options that choose an engine, the same in every command that runs a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--backend",
        default="auto",
        show_default=True,
        help="Engine of an ONNX file: onnxruntime, openvino, or the fastest as measured at first use.",
    ),
    click.option(
        "--precision",
        default="auto",
        show_default=True,
        help="The artifact's own, or bf16 for a float32 one where OpenVINO's CPU has it; auto measures both.",
    ),
    click.option(
        "--streams", type=int, help="Pieces of a batch that OpenVINO computes at once.  [default: as measured]"
    ),
)


def engine_options(command: F) -> F:
    """Give a command `--backend`, `--precision` and `--streams`, keyword arguments of `open_session`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
