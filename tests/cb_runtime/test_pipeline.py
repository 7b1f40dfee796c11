"""Stages that run ahead of each other: same items, bounded, and nothing left behind however they end."""

import threading
import time

import pytest
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)

from cb_runtime.pipeline import Halted, Pipeline

PATIENCE = 30
"""Seconds after which a test gives up waiting for another thread."""


class Source:
    """Gives numbers, remembers what was done to it and in which thread."""

    def __init__(self, count, fails_at=None):
        self.count, self.fails_at = count, fails_at
        self.given, self.closed_in, self.read_in = 0, None, set()
        self.items = self._items()

    def _items(self):
        try:
            for number in range(self.count):
                self.read_in.add(threading.current_thread())
                if number == self.fails_at:
                    raise ValueError(f"item {number}")
                self.given += 1
                yield number
        finally:
            self.closed_in = threading.current_thread()


def doubled(items):
    for item in items:
        yield 2 * item


def chain_of(source, pipeline, depth=2):
    return pipeline.ahead(doubled(pipeline.ahead(source.items, "first", depth=depth)), "second", depth=depth)


def read(items, into=None, at=None, then=None):
    """Read items, into a list when there is one; do something at one of them."""
    for item in items:
        if into is not None:
            into.append(item)
        if item == at:
            then()


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("overlapped", [True, False])
def test_items_come_in_order_and_none_is_lost(overlapped):
    with Pipeline(overlapped=overlapped) as pipeline:
        assert list(chain_of(Source(200), pipeline)) == [2 * number for number in range(200)]


def test_each_stage_has_a_thread_of_its_own_named_after_it():
    source = Source(3)
    with Pipeline(overlapped=True) as pipeline:
        list(chain_of(source, pipeline))
    (thread,) = source.read_in
    assert thread.name == "cb-first"
    assert thread is not threading.current_thread()


def test_without_overlap_nothing_is_read_before_it_is_asked_for():
    source = Source(9)
    with Pipeline(overlapped=False) as pipeline:
        items = chain_of(source, pipeline)
        assert source.given == 0
        assert [next(items), next(items), source.given] == [0, 2, 2]
        assert source.read_in == {threading.current_thread()}


@pytest.mark.parametrize("depth", [1, 3])
def test_a_stage_runs_ahead_by_its_depth_and_no_further(depth):
    source = Source(100)
    with Pipeline(overlapped=True) as pipeline:
        items = pipeline.ahead(source.items, "first", depth=depth)
        wait_until(lambda: source.given == depth + 1)  # the last one waits for its place
        time.sleep(0.05)
        assert source.given == depth + 1
        next(items)
        wait_until(lambda: source.given == depth + 2)


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("overlapped", [True, False])
def test_an_error_comes_as_it_was_raised_after_the_items_before_it(overlapped):
    seen = []
    with Pipeline(overlapped=overlapped) as pipeline, pytest.raises(ValueError, match="item 5"):
        read(chain_of(Source(9, fails_at=5), pipeline), seen)
    assert seen == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("overlapped", [True, False])
def test_when_reading_ends_early_every_source_is_closed_in_the_thread_that_read_it(overlapped):
    source = Source(1000)
    with Pipeline(overlapped=overlapped) as pipeline:
        assert next(iter(chain_of(source, pipeline))) == 0
    assert source.given < 20
    assert {source.closed_in} == source.read_in


@pytest.mark.parametrize("overlapped", [True, False])
def test_an_error_of_the_reader_ends_all_stages(overlapped):
    source = Source(1000)
    with pytest.raises(KeyboardInterrupt), Pipeline(overlapped=overlapped) as pipeline:
        read(chain_of(source, pipeline), at=6, then=interrupt)
    assert source.closed_in is not None
    assert source.given < 20


def test_a_stage_that_fails_ends_those_before_it():
    def failing(items):
        for item in items:
            if item == 3:
                raise ValueError("in the middle")
            yield item

    source = Source(1000)
    with pytest.raises(ValueError, match="in the middle"), Pipeline(overlapped=True) as pipeline:
        list(pipeline.ahead(failing(pipeline.ahead(source.items, "first")), "second"))
    assert source.closed_in is not None


def test_stages_end_while_some_wait_for_input_and_others_for_a_place():
    go_on = threading.Event()

    def waiting(items):
        for item in items:
            go_on.wait(PATIENCE)
            yield item

    source = Source(1000)
    pipeline = Pipeline(overlapped=True)
    with pipeline:
        last = pipeline.ahead(waiting(pipeline.ahead(source.items, "first")), "second")
        pipeline.ahead(last, "third")
        wait_until(lambda: source.given >= 3)  # the first waits for a place, the third for input
        go_on.set()
    assert source.closed_in is not None


@pytest.mark.parametrize("overlapped", [True, False])
def test_halting_raises_in_whatever_reads_next(overlapped):
    halt, seen = threading.Event(), []
    with pytest.raises(Halted), Pipeline(overlapped=overlapped, halt=halt) as pipeline:
        read(chain_of(Source(1000), pipeline), seen, at=6, then=halt.set)
    assert seen == [0, 2, 4, 6]


def test_a_source_that_was_never_read_is_closed_too():
    class Plain:
        closed = False

        def __iter__(self):
            return iter(())

        def close(self):
            self.closed = True

    for overlapped in (True, False):
        source = Plain()
        with Pipeline(overlapped=overlapped) as pipeline:
            pipeline.ahead(source, "first")
        assert source.closed
