"""What of cb works on this machine, why the rest does not, and what to do about it."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions, version
from typing import Any

from cb_runtime.backends import backend_names, load_backend
from cb_runtime.engine_choice.cache import cache_file, kept_choices
from cb_runtime.errors import EXTRA_OF_MODULE, StorageError
from cb_runtime.gpus import cuda_driver
from cb_runtime.installed import installed_version
from cb_runtime.video import nvdec

BASE_MODULES = ("numpy", "cv2", "av", "click", "rich", "pysubs2")
"""Modules that every installation has."""

VIDEO_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")
"""Codecs most videos are in."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    group: str
    """`base`, `backend`, `gpu`, `cache` or `extra`."""
    name: str
    ok: bool
    detail: str
    """What was found, or what is missing."""
    fix: str | None = None
    """What to do when it is not ok and wanted."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def check_machine() -> list[Check]:
    """Look at all parts; never raises because one of them is broken."""
    return [*_base(), *_backends(), _gpu(), _nvdec(), _cache(), *_extras()]


def can_infer(checks: Sequence[Check]) -> bool:
    """Tell whether videos can be read and at least one backend runs."""
    base = all(check.ok for check in checks if check.group == "base")
    return base and any(check.ok for check in checks if check.group == "backend")


def _base() -> Iterator[Check]:
    yield Check("base", "python", True, f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield Check("base", "cb-toolkit", True, version("cb-toolkit"))
    distributions = packages_distributions()
    for module in BASE_MODULES:
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken package may raise anything at import
            fix = "pip install --force-reinstall cb-toolkit"
            yield Check("base", module, False, f"cannot be imported: {error}", fix)
        else:
            yield Check("base", module, True, _version_of(module, distributions))
    yield _codecs()


def _codecs() -> Check:
    try:
        import av

        missing = [name for name in VIDEO_CODECS if name not in av.codecs_available]
    except Exception as error:  # a broken package may raise anything at import
        return Check("base", "video codecs", False, f"unknown: {error}", "pip install --force-reinstall av")
    if missing:
        fix = "pip install --force-reinstall --only-binary av av"
        return Check("base", "video codecs", False, f"this PyAV cannot decode {', '.join(missing)}", fix)
    return Check("base", "video codecs", True, ", ".join(VIDEO_CODECS))


def _backends() -> Iterator[Check]:
    for name in backend_names():
        try:
            found = load_backend(name).available()
        except Exception as error:  # an engine's own libraries may fail in any way when first loaded
            ours = (getattr(error, "name", None) or "").startswith("cb_")
            fix = "pip install --force-reinstall cb-toolkit" if ours else f"reinstall {name}"
            yield Check("backend", name, False, f"cannot be loaded: {error}", fix)
        else:
            yield Check("backend", name, found.ok, found.detail, found.fix)


def _gpu() -> Check:
    try:
        count, driver = nvidia_gpus()
    except OSError:
        return Check("gpu", "NVIDIA GPU", False, "no NVIDIA driver found (libcuda); inference runs on the CPU")
    if not count:
        return Check("gpu", "NVIDIA GPU", False, f"driver for CUDA {driver}, but it shows no GPU")
    return Check(
        "gpu", "NVIDIA GPU", True, f"{count} found, driver for CUDA {driver}; prove it with cb verify --device cuda"
    )


def _nvdec() -> Check:
    try:
        found = nvdec.available()
    except Exception as error:  # a broken PyAV may raise anything at import
        return Check("gpu", "NVDEC", False, f"unknown: {error}", "pip install --force-reinstall av")
    return Check("gpu", "NVDEC", found.ok, found.detail, found.fix)


def nvidia_gpus() -> tuple[int, str]:
    """Return how many GPUs the NVIDIA driver shows and its CUDA version. Raises OSError without a driver."""
    library = cuda_driver()
    count, driver = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(driver))
    if library.cuInit(0) == 0:
        library.cuDeviceGetCount(ctypes.byref(count))
    return count.value, f"{driver.value // 1000}.{driver.value % 1000 // 10}"


def _cache() -> Check:
    """Tell which engines were measured to be fastest, and whether the next measurement can be kept."""
    try:
        file, choices = cache_file(), kept_choices()
    except StorageError as error:
        return Check("cache", "engines", False, str(error), "set CB_CACHE to a folder that can be written")
    place = next(folder for folder in file.parents if folder.exists())
    detail = f"{file} holds {len(choices)} choices of an engine"
    if not (place.is_dir() and os.access(place, os.W_OK)):
        fix = "set CB_CACHE to a folder that can be written"
        return Check("cache", "engines", False, f"{detail}, and {place} cannot be written", fix)
    return Check("cache", "engines", True, detail)


def _extras() -> Iterator[Check]:
    distributions = packages_distributions()
    for extra in dict.fromkeys(EXTRA_OF_MODULE.values()):
        modules = [module for module, brings in EXTRA_OF_MODULE.items() if brings == extra]
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            fix = f"pip install 'cb-toolkit[{extra}]'"
            yield Check("extra", extra, False, f"missing {', '.join(missing)}", fix)
        else:
            found = ", ".join(f"{module} {_version_of(module, distributions)}" for module in modules)
            yield Check("extra", extra, True, found)


def _version_of(module: str, distributions: Mapping[str, Sequence[str]]) -> str:
    return installed_version(distributions.get(module, [module])[0]) or "of unknown version"
