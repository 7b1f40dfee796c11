"""Work on several things at once, with results in their order."""

import signal
import threading
from contextlib import closing

import pytest
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)

from cb_runtime.pipeline.in_order import in_order

PATIENCE = 30


@pytest.fixture
def halt():
    return threading.Event()


def test_results_come_in_order_although_later_work_ends_first(halt):
    last_done = threading.Event()

    def work(item):
        if item == 0:
            assert last_done.wait(PATIENCE)
        if item == 2:
            last_done.set()
        return 10 * item

    assert list(in_order(work, [0, 1, 2], 3, halt)) == [0, 10, 20]


def test_no_more_than_the_jobs_run_at_once_and_all_of_them_do(halt):
    meeting, lock, running, most = threading.Barrier(3), threading.Lock(), [0], []

    def work(item):
        with lock:
            running[0] += 1
            most.append(running[0])
        meeting.wait(PATIENCE)
        with lock:
            running[0] -= 1

    list(in_order(work, range(9), 3, halt))
    assert max(most) == 3


def test_what_was_raised_first_is_raised_though_an_earlier_item_is_waited_for(halt):
    def work(item):
        if item == 1:
            raise ValueError("second item")
        assert halt.wait(PATIENCE)
        raise RuntimeError("halted")

    with pytest.raises(ValueError, match="second item"):
        list(in_order(work, [0, 1], 2, halt))


def test_after_an_error_nothing_more_is_begun(halt):
    begun = []

    def work(item):
        begun.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(in_order(work, range(50), 1, halt))
    assert begun == [0]


def test_closing_halts_what_runs_and_begins_nothing_more(halt):
    begun = []

    def work(item):
        begun.append(item)
        if item:
            assert halt.wait(PATIENCE)
        return item

    with closing(in_order(work, range(50), 2, halt)) as results:
        assert next(results) == 0
    assert halt.is_set()
    assert len(begun) <= 3


def test_ctrl_c_halts_what_runs(halt):
    def work(item):
        if item == 1:
            signal.raise_signal(signal.SIGINT)
        assert halt.wait(PATIENCE)

    with pytest.raises(KeyboardInterrupt):
        list(in_order(work, range(9), 2, halt))
    assert halt.is_set()
