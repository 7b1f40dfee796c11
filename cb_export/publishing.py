"""The last steps of an export: golden samples, and what else stands beside an artifact, get their names with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from cb_export.options import ExportOptions
from cb_export.source import Source
from cb_export.targets import Target
from cb_runtime.errors import UsageError
from cb_runtime.files import atomic_companion, atomic_folder, atomic_path, sha256_of_file
from cb_runtime.golden import golden_path
from cb_runtime.stages import stages_path


@contextmanager
def beside(target: Target, place: Path, temporary: Path) -> Iterator[None]:
    """Publish with the artifact what stands beside it: its staged graph, and its sidecar."""
    final, sidecar = target.companion(place), target.companion(temporary)
    with ExitStack() as published_together:
        published_together.enter_context(atomic_folder(stages_path(place), stages_path(temporary)))
        if final is not None and sidecar is not None:
            published_together.enter_context(atomic_companion(final, sidecar))
        yield


def check_golden_place(source: Source, place: Path, options: ExportOptions) -> None:
    """Refuse an output name under which golden samples stand that must not be replaced.

    Those of another checkpoint, and the checkpoint's own when others, or more pairs than they are, would be published.
    """
    owner, kept = place.with_suffix(source.checkpoint.suffix), golden_path(place)
    if options.judge is not None and kept.is_file() and kept.samefile(source.golden_file):
        raise UsageError(
            f"--judge writes its pairs with the golden samples beside the artifact, where {kept} of the checkpoint "
            "stands and has to stay as it is. Choose another --output."
        )
    if owner.is_file() and kept.is_file() and sha256_of_file(kept) != sha256_of_file(source.golden_file):
        raise UsageError(f"{kept} belongs to {owner}; {source.golden_file} would replace it. Choose another --output.")


def golden_copy(source: Path, place: Path) -> AbstractContextManager[Path | None]:
    """Give a temporary path for the golden samples; None where they stand already, which are then left alone."""
    same = place.is_file() and (place.samefile(source) or sha256_of_file(place) == sha256_of_file(source))
    return nullcontext() if same else atomic_path(place)


def prepare_publishing(artifact: Path, copy: Path | None, golden: Path, place: Path) -> None:
    """Bring all to the disk, so that publishing is nothing but changing names; then take older golden samples away.

    A kill amid the renames leaves an artifact, older or new, without golden samples, and `cb verify` says that they
    are missing. Older ones that stayed, or new ones that came first, could stand beside the other model's artifact,
    and `cb verify` would call a good artifact wrong. Exporting again completes either state.
    """
    if copy is None:
        return
    shutil.copyfile(golden, copy)
    for path in (copy, artifact):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    place.unlink(missing_ok=True)
