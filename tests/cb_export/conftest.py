from __future__ import annotations

from pathlib import Path

import pytest
from tiny_pairs import tiny_pairs, write_run

from cb_core import registry
from cb_runtime.session import open_session


@pytest.fixture(autouse=True)
def same_arithmetic_everywhere(monkeypatch):
    """Measure no engine where a file is opened: on a CPU with bf16 that may be the fastest, and answers otherwise."""
    monkeypatch.setitem(open_session.__kwdefaults__, "measure", False)


@pytest.fixture(autouse=True)
def tiny_architecture(monkeypatch):
    """Register the tiny architecture, and forget it and any plugin after the test."""
    registry.list_architectures()
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "tiny_pairs": tiny_pairs})


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return write_run(tmp_path / "run")
