"""Which flavour builds an engine on this machine, for which GPUs, and whether the engine can be run here."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from cb_export.trt.options import EngineOptions
from cb_runtime.backends import Availability, load_backend
from cb_runtime.errors import CbError, MissingPackageError, UsageError
from cb_runtime.gpus import Gpu, list_gpus
from cb_runtime.trt.flavours import RTX, STANDARD, Flavour, load_flavour

_PORTABLE_FROM = 8.0
"""An engine of TensorRT for RTX that was built for no GPU in particular runs on Ampere and later."""


@dataclass(frozen=True)
class Choice:
    """What an engine is built with, and for."""

    flavour: Flavour
    reason: str
    """Why this flavour."""
    gpu: Gpu | None
    """The GPU it is built on; None where there is none."""
    compute_capabilities: tuple[str, ...]
    """GPUs that the engine is for."""

    def runs_here(self) -> Availability:
        """Tell whether an engine built so can be run on this machine."""
        found = load_backend("tensorrt").available()
        if not found.ok or (self.gpu and self.gpu.compute_capability in self.compute_capabilities):
            return found
        targets = ", ".join(self.compute_capabilities)
        return Availability(
            False, f"it is for compute capability {targets}, and cuda:0 is {self.gpu}", "give --compute-capability"
        )


def choose(options: EngineOptions) -> Choice:
    """Choose a flavour.

    Raises:
        MissingPackageError: The flavour asked for, or any, is not installed.
        ModelError: It is installed, but broken.
        UsageError: Options of the other flavour, or standard TensorRT on a machine without a GPU.
    """
    gpu = next(iter(list_gpus()), None)
    flavour, reason = _flavour(options, gpu)
    module = load_flavour(flavour)
    if flavour == RTX:
        for option in _of_standard_tensorrt(options):
            raise UsageError(f"{option} is for --flavor tensorrt: TensorRT for RTX has nothing like it. Leave it out.")
        return Choice(flavour, reason, gpu, _rtx_targets(module, options.compute_capabilities))
    if options.compute_capabilities:
        raise UsageError("--compute-capability is for --flavor rtx: standard TensorRT builds for the GPU it builds on.")
    if gpu is None:
        raise UsageError(
            "Standard TensorRT builds engines only where an NVIDIA GPU is, and no driver shows one here. Build on the "
            "machine that will run it, or use --flavor rtx."
        )
    return Choice(flavour, reason, gpu, (gpu.compute_capability,))


def _flavour(options: EngineOptions, gpu: Gpu | None) -> tuple[Flavour, str]:
    if options.flavour != "auto":
        return (RTX if options.flavour == RTX.name else STANDARD), "as asked"
    if options.compute_capabilities:
        return RTX, "only TensorRT for RTX takes --compute-capability"
    for option in _of_standard_tensorrt(options):
        return STANDARD, f"only standard TensorRT takes {option}"
    problem = "no NVIDIA GPU is here, and standard TensorRT builds only where one is" if gpu is None else _problem()
    if problem is None:
        return STANDARD, f"standard TensorRT and {gpu} are here"
    if not RTX.is_installed:
        raise MissingPackageError(STANDARD.module if gpu else RTX.module)
    return RTX, problem


def _of_standard_tensorrt(options: EngineOptions) -> list[str]:
    return [option for option, given in options.standard_only.items() if given]


def _problem() -> str | None:
    """Return why standard TensorRT cannot be used, or None when it can."""
    try:
        load_flavour(STANDARD)
    except CbError as error:
        return str(error)
    return None


def _rtx_targets(module: ModuleType, wanted: tuple[str, ...]) -> tuple[str, ...]:
    known = known_compute_capabilities(module)
    unknown = [target for target in wanted if target not in known]
    if unknown:
        raise UsageError(
            f"TensorRT for RTX {module.__version__} does not build for compute capability {', '.join(unknown)}. "
            f"It builds for {', '.join(known)}."
        )
    return wanted or tuple(target for target in known if float(target) >= _PORTABLE_FROM)


def known_compute_capabilities(module: ModuleType) -> dict[str, object]:
    """Return what a release of TensorRT for RTX builds for, e.g. `"8.6"`, and its own name of it."""
    members = module.ComputeCapability.__members__
    targets = {name: member for name, member in members.items() if name.startswith("SM")}
    return {f"{name[2:-1]}.{name[-1]}": member for name, member in targets.items()}
