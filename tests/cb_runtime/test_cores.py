"""How many cores a process may use."""

import os

import pytest

from cb_runtime import cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Make a machine with so many cores, of which the process may run on some, and a container's quota."""

    def make(count, allowed, quota):
        monkeypatch.setattr(os, "cpu_count", lambda: count)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
        monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
        if quota is not None:
            (tmp_path / "cpu.max").write_text(quota)

    return make


@pytest.mark.parametrize(
    ("allowed", "quota", "wanted"),
    [
        (16, None, 16),
        (4, None, 4),
        (16, "max 100000\n", 16),
        (16, "200000 100000\n", 2),
        (16, "150000 100000\n", 2),
        (2, "800000 100000\n", 2),
        (16, "1000 100000\n", 1),
        (16, "of another kind\n", 16),
    ],
)
def test_are_those_it_may_run_on_and_is_given_time_for(machine, allowed, quota, wanted):
    machine(16, allowed, quota)
    assert cores.usable_cores() == wanted


def test_are_the_machine_s_where_the_system_says_no_more(machine, monkeypatch):
    machine(6, 6, None)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.usable_cores() == 6
