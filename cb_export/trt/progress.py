"""TensorRT's nested build phases as one number that only grows, so that a bar can tell the time left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cb_runtime.progress import Progress

PHASE = "Building engine"
STEPS = 1000
"""Resolution in which progress is told."""


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Follows a build and tells how far it is; keeps what was raised meanwhile, as no exception may cross TensorRT."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._phases: dict[str, _Phase] = {}
        self._told = 0
        self.problem: BaseException | None = None
        """What interrupted the build, e.g. KeyboardInterrupt; None when nothing did."""

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Note that a phase begins, within `parent`."""
        self._phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, step: int) -> None:
        """Note that a step of a phase, counted from 0, is done; tell it."""
        if name in self._phases:
            self._phases[name].done = step + 1
        self._tell()

    def finish(self, name: str) -> None:
        """Note that a phase is over."""
        self._phases.pop(name, None)
        if not self._phases:
            self._progress(PHASE, STEPS, STEPS)

    def _tell(self) -> None:
        root = next((name for name, phase in self._phases.items() if phase.parent not in self._phases), None)
        self._told = max(self._told, int(STEPS * self._share(root))) if root else self._told
        self._progress(PHASE, self._told, STEPS)

    def _share(self, name: str) -> float:
        phase = self._phases[name]
        inner = sum(self._share(child) for child, other in self._phases.items() if other.parent == name)
        return min(1.0, (phase.done + min(1.0, inner)) / phase.steps)

    def guarded(self, call: Callable[..., None], *arguments: Any) -> bool:  # noqa: ANN401  (passed on)
        """Call one of the above; return False, which ends the build, once anything was raised."""
        if self.problem is None:
            try:
                call(*arguments)
            except BaseException as error:  # also KeyboardInterrupt: it is raised again when the builder has returned
                self.problem = error
        return self.problem is None


def monitor_for(tensorrt: ModuleType, build: BuildProgress) -> Any:  # noqa: ANN401  (an IProgressMonitor)
    """Return a progress monitor of either flavour that reports to `build`."""

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc, name-defined]  # a class of the module in use
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            build.guarded(build.start, phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return build.guarded(build.step, phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            build.guarded(build.finish, phase_name)

    return Monitor()
