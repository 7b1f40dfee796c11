"""One model for several threads: what they ask for at the same time is run together.

A thread that asks waits for its answer; while the model runs, what others ask for gathers, and the next run takes of it
what fits. So batches fill up as soon as there is more work than the model gets done, and nobody waits for others to
fill them. What a request is joined with may change the last bits of its answer: engines sum in another order for
other batch sizes.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cb_runtime.backends import Executor, Feeds
from cb_runtime.contract import ModelMetadata, TensorSpec
from cb_runtime.pipeline.clock import counted, waiting, working
from cb_runtime.pipeline.profile import Profile
from cb_runtime.pipeline.stage import Halted
from cb_runtime.session import Session
from cb_runtime.stages import Part, Stages

_Array = NDArray[Any]


class Runs(Protocol):
    """A graph on a device: a whole model, or a part of a staged one."""

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Return one row for each row of the inputs."""
        ...


@dataclass(frozen=True, eq=False)
class _Request:
    """What one thread asks for."""

    graph: Runs
    feeds: Feeds
    answer: Future[NDArray[np.float32]]

    @property
    def rows(self) -> int:
        return len(next(iter(self.feeds.values())))


class Batcher:
    """Runs what several threads ask for, one run at a time, in a thread of its own; ends with its block.

    Whoever asks after the end gets `Halted`.

    Args:
        most: Rows of a run that is joined from several requests; a larger request is run alone.
        profile: Told what the model does with its time.
    """

    def __init__(self, most: int, profile: Profile | None = None) -> None:
        self._most, self._profile = most, profile
        self._asked: SimpleQueue[_Request | None] = SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name="cb-model", daemon=True)
        self._thread.start()

    def run(self, graph: Runs, feeds: Feeds) -> NDArray[np.float32]:
        """Return the graph's answer to checked inputs of at least one row; raises what the graph raises."""
        request = _Request(graph, feeds, Future())
        self._asked.put(request)
        if self._ended:
            self._refuse()
        with waiting():
            return request.answer.result()

    def session(self, session: Session) -> Session:
        """Return a session that runs here whatever it is asked for."""
        return session.over(lambda executor: _SharedExecutor(executor, self))

    def __enter__(self) -> Batcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked.put(None)
        self._thread.join()

    def _serve(self) -> None:
        pending: deque[_Request] = deque()
        more = self._gathered(pending)  # before anything is asked for, it is no stage yet
        with working(self._profile, "shared model", unit="rows"):
            while more:
                together = self._together(pending)
                _answer(together)
                counted(sum(request.rows for request in together))
                more = self._gathered(pending)
        self._ended = True
        self._refuse()

    def _refuse(self) -> None:
        """Tell whoever still waits, e.g. after a second Ctrl-C, that nothing is run any more."""
        with suppress(Empty):
            while True:
                request = self._asked.get_nowait()
                if request is not None:
                    request.answer.set_exception(Halted())

    def _gathered(self, pending: deque[_Request]) -> bool:
        """Take what was asked for, waiting for something to do; False when all is done and nothing more comes."""
        while True:
            try:
                with waiting():
                    request = self._asked.get(block=not pending)
            except Empty:
                return True
            if request is None:
                return False
            pending.append(request)

    def _together(self, pending: deque[_Request]) -> list[_Request]:
        """Take the oldest request, and those for the same graph that fit into a run with it."""
        together: list[_Request] = []
        rows = 0
        for request in list(pending):
            if not together or (request.graph is together[0].graph and rows + request.rows <= self._most):
                together.append(request)
                rows += request.rows
                pending.remove(request)
        return together


def _answer(together: list[_Request]) -> None:
    """Run requests for one graph as one batch, and give each its rows, or all of them what was raised."""
    try:
        rows = together[0].graph.run(_joined([request.feeds for request in together]))
    except BaseException as error:  # raised where it was asked for
        for request in together:
            request.answer.set_exception(error)
        return
    start = 0
    for request in together:
        request.answer.set_result(rows[start : start + request.rows])
        start += request.rows


def _joined(feeds: list[Feeds]) -> Feeds:
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}


class _SharedExecutor:
    """An executor whose runs, and those of its staged graph, are a batcher's."""

    def __init__(self, executor: Executor, batcher: Batcher) -> None:
        self._executor, self._batcher = executor, batcher
        stages: Stages | None = getattr(executor, "stages", None)
        self.stages = stages and stages.over(lambda part: _SharedPart(part, batcher))

    @property
    def metadata(self) -> ModelMetadata:
        return self._executor.metadata

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        return self._batcher.run(self._executor, feeds)

    def describe(self) -> dict[str, Any]:
        return self._executor.describe()


class _SharedPart:
    """A part of a staged graph whose runs are a batcher's."""

    def __init__(self, part: Part, batcher: Batcher) -> None:
        self._part, self._batcher = part, batcher

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._part.inputs

    @property
    def output(self) -> TensorSpec:
        return self._part.output

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        return self._batcher.run(self._part, feeds)
