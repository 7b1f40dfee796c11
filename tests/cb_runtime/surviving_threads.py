"""A fixture for tests of what runs in threads: modules that import it check each of their tests."""

import threading

import pytest


@pytest.fixture(autouse=True)
def no_thread_survives():
    before = set(threading.enumerate())
    yield
    # Those of others are theirs: OpenVINO reports its use from a thread.
    assert {thread for thread in threading.enumerate() if thread.name.startswith("cb-")} <= before
