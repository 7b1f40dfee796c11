"""The backend for packages (`.cbx`): proves the file, opens the artifact that suits this machine, checks its answers.

What the engine needs is unpacked into a private temporary folder, which is gone again when the model is open: nothing
is shared between processes, nothing is left behind, and no home folder needs to be writable (TMPDIR says where).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cb_runtime.backends import (
    Availability,
    Backend,
    Executor,
    Feeds,
    Logits,
    OpenOptions,
    backend_for,
    backend_names,
    backends_for,
    load_backend,
)
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import ContractError, MissingPackageError, ModelError, StorageError
from cb_runtime.package import SUFFIX, Package, open_package
from cb_runtime.package.choice import Attempt, Choice, choose
from cb_runtime.package.machine import this_machine
from cb_runtime.package.self_check import check_answers
from cb_runtime.parity import Runs
from cb_runtime.stages import Stages

SUFFIXES = (SUFFIX,)
"""File name endings this backend opens."""


def available() -> Availability:
    """Tell whether an engine for what packages hold is here."""
    engines = [name for name in backend_names() if _opens_artifacts(load_backend(name))]
    ready = [name for name in engines if load_backend(name).available().ok]
    if ready:
        return Availability(True, f"runs what is in it with {', '.join(ready)}")
    fix = next((load_backend(name).available().fix for name in engines), None)
    return Availability(False, f"none of {', '.join(engines)} can run", fix)


def _opens_artifacts(backend: Backend) -> bool:
    return SUFFIX not in backend.SUFFIXES and ".pt" not in backend.SUFFIXES


def open_artifact(path: Path, options: OpenOptions) -> PackageExecutor:
    """Open the best artifact of a package.

    Raises:
        ModelError: The package is refused, or none of its artifacts can be run as asked.
        ParityError: The artifact does not answer as PyTorch did, on this machine.
        UsageError: An unknown device, a public key that cannot be used, or what the artifact's backend refuses.
        StorageError: There is no room to unpack the artifact.
        MissingPackageError: No engine for any of its artifacts is installed, or none to check signatures.
    """
    package = open_package(path, options.public_key)
    choice = choose(package.manifest, package.records(), options.device, this_machine(), reuse=options.reuse)
    choice = replace(choice, attempts=tuple(one for one in choice.attempts if _suits(one, options)))
    failures: list[ModelError | MissingPackageError] = []
    for attempt in choice.attempts:
        try:
            return _opened(package, attempt, options, tuple(map(str, failures)), choice.left_out)
        except ContractError:
            raise
        except (ModelError, MissingPackageError) as error:
            failures.append(error)
    if len(failures) == 1 and not choice.left_out:
        raise failures[0]
    raise ModelError(_nothing_runs(package, options, choice, failures))


def _suits(attempt: Attempt, options: OpenOptions) -> bool:
    """Tell whether an artifact can be opened by the backend, and in the precision, that were asked for."""
    opened_by = [name for name, _ in backends_for(Path(attempt.artifact.file))]
    lower = options.precision == "bf16" and attempt.artifact.precision == "fp32" and options.backend == "openvino"
    return options.backend in ("auto", *opened_by) and (
        lower or options.precision in ("auto", attempt.artifact.precision)
    )


def _nothing_runs(package: Package, options: OpenOptions, choice: Choice, failures: Sequence[Exception]) -> str:
    held = ", ".join(artifact.folder for artifact in package.manifest.artifacts)
    tried = "".join(f"\n  - {problem}" for problem in (*choice.left_out, *failures))
    asked = {"backend": options.backend, "precision": options.precision}
    so = "".join(f", {name} {value}" for name, value in asked.items() if value != "auto")
    return (
        f"{package.path} has nothing that runs here on device {options.device}{so}; it holds {held}. Choose another "
        f"{', '.join(['--device', *(f'--{name}' for name, value in asked.items() if value != 'auto')])}, or export an "
        f"artifact for this machine.{tried}"
    )


def _opened(
    package: Package, attempt: Attempt, options: OpenOptions, failures: tuple[str, ...], left_out: tuple[str, ...]
) -> PackageExecutor:
    with _unpacked(package, attempt) as folder:
        artifact = Path(folder) / attempt.artifact.file
        inner = _open_inner(package, artifact, attempt, options)
    if inner.metadata.checkpoint_sha256 != package.manifest.contract.checkpoint_sha256:
        raise ContractError(f"{package.path}: {attempt.artifact.file} is of another checkpoint than its package.")
    executor = PackageExecutor(package, attempt, inner, 0, failures, left_out)
    graphs: dict[str, Runs] = {attempt.artifact.file: executor}
    if executor.stages is not None:
        graphs[attempt.artifact.stages] = executor.stages
    return replace(
        executor, checked=check_answers(str(package.path), graphs, package.golden(), inner.describe()["precision"])
    )


def _unpacked(package: Package, attempt: Attempt) -> TemporaryDirectory[str]:
    try:
        folder = TemporaryDirectory(prefix="cb-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(f"{package.path} cannot be unpacked ({error}). Set TMPDIR to a folder with room.") from error
    try:
        package.extract(attempt.artifact, Path(folder.name))
    except BaseException:
        folder.cleanup()
        raise
    return folder


def _open_inner(package: Package, artifact: Path, attempt: Attempt, options: OpenOptions) -> Executor:
    """Open an unpacked artifact; errors name the package and not the folder it was unpacked into."""
    chosen = attempt.device != options.device
    threads = None if chosen and attempt.device.startswith("cuda") else options.threads
    inner = replace(options, device=attempt.device, threads=threads, public_key=None)
    try:
        return backend_for(artifact, options.backend)[1].open_artifact(artifact, inner)
    except MissingPackageError:
        raise
    except ModelError as error:
        text = str(error).replace(str(artifact.parent.parent), str(package.path))
        raise type(error)(text) from error


@dataclass(frozen=True)
class PackageExecutor:
    """An artifact of a package, on a device."""

    package: Package
    attempt: Attempt
    inner: Executor
    """The artifact, opened by the backend for its kind."""
    checked: int
    """Golden samples it was checked on."""
    failures: tuple[str, ...]
    """Why artifacts that would have suited better could not be opened."""
    left_out: tuple[str, ...] = ()
    """Engines that cannot run on this machine, and why."""

    @property
    def metadata(self) -> ModelMetadata:
        """The contract inside the artifact."""
        return self.inner.metadata

    @property
    def takes_device_arrays(self) -> bool:
        """Whether the artifact takes arrays in a GPU's memory."""
        return bool(getattr(self.inner, "takes_device_arrays", False))

    @property
    def stages(self) -> Stages | None:
        """The artifact in two steps, where it has them and reuse was asked for."""
        stages: Stages | None = getattr(self.inner, "stages", None)
        return stages

    def run(self, feeds: Feeds) -> Logits:
        """Return float32 logits `(batch, 5)`. Raises what the artifact's backend raises."""
        return self.inner.run(feeds)

    def describe(self) -> dict[str, Any]:
        """Return what the artifact's backend says, why this artifact was taken, and how the package was proven."""
        inner = self.inner.describe()
        tried = "".join(f"; tried before: {failure}" for failure in self.failures)
        tried += f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return {
            **inner,
            "reason": f"{self.attempt.why}; {inner['reason']}{tried}",
            "artifact": self.attempt.artifact.file,
            "self_checked": self.checked,
            "signer": self.package.signer,
        }
