"""Open an artifact in the fastest way: the one that an earlier session found, or the one measured now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cb_runtime.backends import SHARED, Executor, OpenOptions, backend_for, backends_for, load_backend
from cb_runtime.contract import ModelMetadata
from cb_runtime.engine_choice.cache import keep_choice, kept_choice
from cb_runtime.engine_choice.choosing import Measures, choose
from cb_runtime.engine_choice.identity import identity_of
from cb_runtime.engine_choice.judging import Judge
from cb_runtime.engine_choice.ways import Choice, Way
from cb_runtime.engine_choice.workload import Part, seconds_per_batch, speed_ratio, workload
from cb_runtime.errors import MissingPackageError, ModelError
from cb_runtime.golden import GoldenSamples, golden_path, load_golden_samples
from cb_runtime.installed import installed_version
from cb_runtime.onnx_artifact import metadata_of_file


def open_fastest(path: Path, options: OpenOptions) -> tuple[Executor, Choice | None]:
    """Open an artifact in the fastest of the ways that `options` leave open.

    Nothing is measured, and the choice is None, where there is only one way.

    Raises what the backend raises that opens the file, and UsageError for one that does not.
    """
    _, plain = backend_for(path, options.backend)
    first = SHARED.get(path.suffix.lower(), ())[:1]
    if not path.is_file() or options.backend in first:
        return plain.open_artifact(path, options), None
    installed = _installed(path, options.backend)
    if set(installed) <= set(first):
        return plain.open_artifact(path, options), None
    identity = identity_of(path, options, tuple(sorted({name for names in installed.values() for name in names})))
    known = kept_choice(identity)
    if known is not None:
        try:
            return _open(path, known.way, options), replace(known, from_cache=True)
        except (ModelError, MissingPackageError):
            pass  # what was fastest does not open any more: measured again, it is told with its reason
    try:
        metadata = metadata_of_file(path)
    except ModelError:
        return plain.open_artifact(path, options), None  # its engine says best what is wrong with the file
    ways = _ways(metadata.precision, tuple(installed), options)
    if len(ways) < 2:
        return _only(path, ways, options), None
    executor, choice = choose(ways, _measures(path, metadata, options))
    return executor, replace(choice, not_kept=keep_choice(identity, choice))


def _installed(path: Path, backend: str) -> dict[str, tuple[str, ...]]:
    """Return the engines that open a file, by backend, the plain one first, with the packages that bring them."""
    named: Iterable[tuple[str, Any]] = backends_for(path) if backend == "auto" else [(backend, load_backend(backend))]
    found = {}
    for name, module in named:
        found[name] = tuple(one for one in getattr(module, "DISTRIBUTIONS", ()) if installed_version(one))
    return {name: packages for name, packages in found.items() if packages}


def _ways(own: str, backends: tuple[str, ...], options: OpenOptions) -> list[Way]:
    ways = []
    for name in backends:
        backend: Any = load_backend(name)
        ways += [Way(name, one.precision, one.threads, one.streams) for one in backend.ways(own, options)]
    return ways


def _only(path: Path, ways: list[Way], options: OpenOptions) -> Executor:
    if ways:
        return _open(path, ways[0], options)
    # Nothing can do what was asked for: the plain engine, or the one asked for, says why.
    return backend_for(path, options.backend)[1].open_artifact(path, options)


def _open(path: Path, way: Way, options: OpenOptions) -> Executor:
    return load_backend(way.backend).open_artifact(path, way.options(options))


def _measures(path: Path, metadata: ModelMetadata, options: OpenOptions) -> Measures:
    judge = Judge(_golden(path), metadata)

    def parts(executor: Executor) -> tuple[Part, ...]:
        return workload(executor, judge.inputs)

    return Measures(
        open=lambda way: _open(path, way, options),
        problem=judge.problem,
        seconds=lambda executor: seconds_per_batch(parts(executor)),
        ratio=lambda base, other: speed_ratio(parts(base), parts(other)),
    )


def _golden(path: Path) -> GoldenSamples | None:
    """Return the golden samples beside an artifact; None where there are none, or none that can be read."""
    try:
        return load_golden_samples(golden_path(path))
    except ModelError:  # `cb verify` tells what is wrong with them
        return None
