"""The timing cache: which kernels were fastest, kept from one build to the next.

A file belongs to one release, GPU and compute capability. Only standard TensorRT has one here: builds of TensorRT for
RTX take seconds, and a timing cache would switch its building without a GPU off.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from cb_export.trt.choice import Choice
from cb_export.trt.options import AUTO, OFF
from cb_runtime.errors import StorageError, UsageError
from cb_runtime.files import atomic_path
from cb_runtime.trt.flavours import STANDARD


def cache_file(timing_cache: str, choice: Choice, version: str) -> Path | None:
    """Return the file that a build uses, or None when it uses none.

    Args:
        timing_cache: `auto`, `off` or a folder.
        choice: What the engine is built with and on.
        version: TensorRT's release.

    Raises UsageError when a folder is given for a build that has no timing cache.
    """
    if choice.flavour != STANDARD or choice.gpu is None:
        if timing_cache in (AUTO, OFF):
            return None
        raise UsageError("--timing-cache is for --flavor tensorrt: TensorRT for RTX builds without one. Leave it out.")
    if timing_cache == OFF:
        return None
    folder = default_folder() if timing_cache == AUTO else Path(timing_cache)
    gpu = re.sub(r"\W+", "-", choice.gpu.name, flags=re.ASCII)
    return folder / f"tensorrt-{version}-{gpu}-{choice.gpu.compute_capability}.timing"


def default_folder() -> Path:
    """Return the user's cache folder of cb."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cb-toolkit"


def attach(config: Any, file: Path | None) -> None:  # noqa: ANN401  (an IBuilderConfig)
    """Give a build what `file` holds; with None, it measures for itself alone."""
    if file is None:
        return
    known = file.read_bytes() if file.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        # Another driver wrote it, perhaps. What is measured now replaces it.
        config.set_timing_cache(config.create_timing_cache(b""), False)


def store(config: Any, file: Path | None) -> str | None:  # noqa: ANN401  (an IBuilderConfig)
    """Keep what a build measured; return why it could not be kept, or None. The engine is good either way."""
    if file is None:
        return None
    try:
        with atomic_path(file) as temporary:
            temporary.write_bytes(memoryview(config.get_timing_cache().serialize()))
    except StorageError as error:
        return str(error)
    return None
