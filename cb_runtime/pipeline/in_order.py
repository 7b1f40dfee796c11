"""Work on several things at once, with results in the order of the things."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cb_runtime.pipeline.stage import Halted

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, halt: threading.Event
) -> Generator[Result, None, None]:
    """Do work on each item, in up to `jobs` threads; give the results in the order of the items.

    Close the iterator to end early. Then, and when work raises, nothing more is begun, `halt` is set, which work should
    heed, and work that goes on is waited for. What was raised first is raised here, whichever item it was for.
    """
    raised: list[BaseException] = []

    def guarded(item: Item) -> Result:
        if halt.is_set():
            raise Halted
        try:
            return work(item)
        except BaseException as error:
            raised.append(error)
            halt.set()
            raise

    with ThreadPoolExecutor(jobs, thread_name_prefix="cb-video") as pool:
        waiting = deque(pool.submit(guarded, item) for item in items)
        try:
            while waiting:
                yield waiting.popleft().result()
        except Exception:
            # The result that was waited for may be missing only because another item's work raised.
            raise raised[0] from None
        finally:
            halt.set()
            pool.shutdown(wait=True, cancel_futures=True)
