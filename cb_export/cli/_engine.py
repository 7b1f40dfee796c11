"""The options of `cb export` that are TensorRT's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from cb_export.trt.options import (
    FLAVOUR_NAMES,
    HARDWARE_COMPATS,
    EngineOptions,
    compute_capabilities_from_text,
    profile_from_text,
)
from cb_runtime.cli.console import Report
from cb_runtime.errors import UsageError
from cb_runtime.trt.sidecar import ENGINE_SUFFIX, read_sidecar, sidecar_path

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--flavor",
        type=click.Choice(FLAVOUR_NAMES),
        help="trt: TensorRT, or TensorRT for RTX, which also builds without a GPU.  [default: auto]",
    ),
    click.option("--batch", metavar="MIN:OPT:MAX", help="trt: batch sizes of the engine.  [default: 1:32:128]"),
    click.option("--workspace", type=int, metavar="MIB", help="trt: most scratch memory.  [default: all there is]"),
    click.option("--timing-cache", metavar="FOLDER", help="trt: where measured kernels are kept, or off."),
    click.option(
        "--hardware-compat",
        type=click.Choice(HARDWARE_COMPATS),
        help="trt, TensorRT: which GPUs the engine runs on besides those like this one.  [default: none]",
    ),
    click.option(
        "--version-compatible",
        is_flag=True,
        help="trt, TensorRT: build for later releases too, at some cost in speed; the engine brings its own code.",
    ),
    click.option(
        "--compute-capability", metavar="N,N,...", help="trt, RTX: GPUs to build for, e.g. 8.6,8.9.  [default: 8.0 on]"
    ),
    click.option("--unverified", is_flag=True, help="trt: publish an engine that cannot run on this machine."),
)


def engine_options(command: F) -> F:
    """Give a command the options of TensorRT."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_engine_options(format_name: str, values: dict[str, Any]) -> bool:
    """Take `unverified` out of the options and return it. Raises UsageError for options that would have no effect."""
    given = [name for name, value in values.items() if value not in (None, False)]
    if format_name != "trt" and given:
        raise UsageError(f"--{given[0].replace('_', '-')} is for --format trt. Leave it out.")
    return bool(values.pop("unverified"))


def engine_options_from(values: Mapping[str, Any]) -> EngineOptions:
    """Read the options of TensorRT. Raises UsageError for values that cannot be obeyed."""
    capabilities, default = values["compute_capability"], EngineOptions()
    return EngineOptions(
        flavour=values["flavor"] or default.flavour,
        profile=profile_from_text(values["batch"]) if values["batch"] else default.profile,
        workspace_mib=values["workspace"],
        timing_cache=values["timing_cache"] or default.timing_cache,
        hardware_compat=values["hardware_compat"] or default.hardware_compat,
        version_compatible=values["version_compatible"],
        compute_capabilities=compute_capabilities_from_text(capabilities) if capabilities else (),
    )


def print_engine(report: Report, path: Path) -> None:
    """Print what an engine was built by and for; nothing for another artifact."""
    if path.suffix != ENGINE_SUFFIX:
        return
    record = read_sidecar(path)
    proof = record.precision_proof or {}
    shares = ", ".join(f"{share:.0%} {name}" for name, share in proof["shares"].items()) or proof["reason"]
    later = ", for later releases too" if record.version_compatible else ""
    report.print(f"Built by {record.built_by}{later} ({record.build['flavour_reason']}), batch {record.profile}")
    report.print(f"Layers with weights: {shares}; built in {record.build['seconds']} s")
    report.print(f"Its sidecar, to be copied along: {sidecar_path(path)}")
