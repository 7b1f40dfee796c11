"""Makes the tests alike wherever they run: no cache of the user's, and Ctrl-C that interrupts."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point `CB_CACHE` at a temporary folder, for child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Let SIGINT raise KeyboardInterrupt: a shell that runs the tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
