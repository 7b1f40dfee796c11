from __future__ import annotations

from pathlib import Path

import pytest
from tiny_pairs import tiny_pairs, write_run

from cb_core import registry


@pytest.fixture(autouse=True)
def tiny_architecture(monkeypatch):
    """Register the tiny architecture, and forget it and any plugin after the test."""
    registry.list_architectures()
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "tiny_pairs": tiny_pairs})


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return write_run(tmp_path / "run")
