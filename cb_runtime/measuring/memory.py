"""Peak memory of one artifact, measured in a process that does nothing else."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cb_runtime.errors import CbError, ModelError
from cb_runtime.measuring.random_inputs import random_inputs
from cb_runtime.session import open_session

_MIB = 2**20
_STATUS = Path("/proc/self/status")
_RUNS = 3
"""Runs after which an engine has taken the memory it takes."""


@dataclass(frozen=True)
class Memory:
    """Host memory of a process that opens an artifact and runs it."""

    peak_mib: float
    """Largest resident size, of the whole process."""
    before_mib: float
    """Largest resident size before the artifact was opened: Python and its packages."""
    batch: int
    """Batch size that was run."""


def peak_resident_bytes() -> int | None:
    """Return the largest resident size that this process ever had; None where the system does not tell."""
    if _STATUS.exists():
        # Not getrusage: on Linux it may tell the size of the process that started this one.
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="ascii").splitlines() if ":" in line)
        return int(fields["VmHWM"].split()[0]) * 1024
    try:
        resource: Any = importlib.import_module("resource")
    except ModuleNotFoundError:  # Windows
        return None
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024


def peak_memory(artifact: Path, batch: int, options: dict[str, Any]) -> Memory | None:
    """Measure an artifact's peak host memory; None where the system does not tell.

    Args:
        artifact: The model.
        batch: Batch size to run.
        options: Keyword arguments of `open_session`.

    Raises ModelError when the process ended by itself, e.g. because memory ran out.
    """
    spawn = multiprocessing.get_context("spawn")  # a forked process would begin with this one's memory
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            failure, memory = pool.submit(_measured, artifact, batch, options).result()
        except BrokenProcessPool as error:
            raise ModelError(
                f"The process that measured the memory of {artifact} at batch {batch} was killed: memory is probably "
                "short. Try smaller --batch sizes, or --no-memory."
            ) from error
    if failure is not None:
        raise ModelError(f"{artifact} cannot be opened a second time to measure its memory: {failure}")
    return memory


def _measured(artifact: Path, batch: int, options: dict[str, Any]) -> tuple[str | None, Memory | None]:
    before = peak_resident_bytes()
    try:
        session = open_session(artifact, **options)
        feeds = random_inputs(session.metadata, batch)
        for _ in range(_RUNS):
            session.run(feeds)
    except CbError as error:  # as text: not every error survives the way to another process
        return str(error), None
    peak = peak_resident_bytes()
    if before is None or peak is None:
        return None, None
    return None, Memory(round(peak / _MIB, 1), round(before / _MIB, 1), batch)
