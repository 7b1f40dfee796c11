"""Keeps the tests from the user's cache: what they measure of engines goes to a folder of their own."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point `CB_CACHE` at a temporary folder, for child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
