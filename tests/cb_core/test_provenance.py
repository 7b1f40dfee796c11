"""Where a model comes from is known, or said to be unknown."""

import platform
import subprocess

import numpy as np

from cb_core import provenance
from cb_core.provenance import TRAINING_PACKAGES, code_commit, installed_versions


def test_the_commit_of_the_code_is_known_inside_a_repository(monkeypatch):
    answers = {"ls-files": "provenance.py", "rev-parse": "abc", "status": " M provenance.py"}
    monkeypatch.setattr(provenance, "_git", lambda _, verb, *__: answers.get(verb))
    assert code_commit() == "abc-dirty"
    answers["status"] = ""
    assert code_commit() == "abc"
    del answers["ls-files"]
    assert code_commit() is None


def test_a_machine_without_git_trains_all_the_same(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert code_commit() is None


def test_versions_are_of_python_and_of_installed_packages_alone():
    found = installed_versions((*TRAINING_PACKAGES, "no-such-package"))
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert set(found) == {"python", *TRAINING_PACKAGES}
