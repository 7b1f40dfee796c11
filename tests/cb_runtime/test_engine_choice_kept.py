"""Opening an artifact in the way that was measured, and keeping what was measured for the next time."""

import json
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from needed_cores import needs_two_cores
from test_engine_choice import golden
from tiny_models import tiny_model

from cb_runtime import doctor
from cb_runtime.backends import OpenOptions
from cb_runtime.backends import onnxruntime as ort_backend
from cb_runtime.contract import ModelMetadata
from cb_runtime.engine_choice import Choice, Trial, Way, cache, identity, opening
from cb_runtime.engine_choice.cache import cache_file, keep, keep_choice, kept_choice, kept_choices
from cb_runtime.engine_choice.choosing import TIE
from cb_runtime.errors import UsageError
from cb_runtime.golden import golden_path
from cb_runtime.models import default_model_path
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.session import open_session


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CB_CACHE", str(tmp_path / "cache"))


IDENTITY = {"artifact": "a" * 64, "asked": {"threads": None}}


def some_choice():
    way = Way("openvino", "fp32", streams=1)
    return Choice(way, "it is fast", "onnxruntime fp32", (Trial(str(way), 2.0),), "2026-01-01T00:00:00+00:00")


class TestKeeping:
    def test_a_choice_is_found_again_by_all_that_it_depends_on(self):
        assert kept_choice(IDENTITY) is None
        choice = some_choice()
        assert keep_choice(IDENTITY, choice) is None
        assert kept_choice(dict(reversed(IDENTITY.items()))) == choice
        assert kept_choice({**IDENTITY, "artifact": "b" * 64}) is None

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"schema": 99, "choices": {}}', b'{"schema": 1}'])
    def test_a_damaged_file_counts_as_empty_and_is_written_anew(self, content):
        cache_file().parent.mkdir(parents=True)
        cache_file().write_bytes(content)
        assert kept_choice(IDENTITY) is None
        assert keep_choice(IDENTITY, some_choice()) is None
        assert kept_choice(IDENTITY) is not None

    @pytest.mark.parametrize("change", [{"choice": 1}, {"choice": {"way": {"backend": "x"}}}, {}])
    def test_a_damaged_choice_counts_as_none(self, change):
        keep_choice(IDENTITY, some_choice())
        document = json.loads(cache_file().read_text())
        document["choices"] = dict.fromkeys(document["choices"], change)
        cache_file().write_text(json.dumps(document))
        assert kept_choice(IDENTITY) is None

    def test_a_place_that_cannot_be_written_is_told_and_no_error(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("CB_CACHE", str(tmp_path / "file"))
        assert "cannot be written" in keep_choice(IDENTITY, some_choice())

    def test_the_latest_choices_are_kept(self, monkeypatch):
        monkeypatch.setattr(cache, "MOST", 3)
        for number in (1, 2, 3, 1, 4):
            keep_choice({"artifact": number}, some_choice())
        assert [entry["identity"]["artifact"] for entry in kept_choices().values()] == [3, 1, 4]

    def test_sessions_that_keep_at_the_same_time_leave_a_whole_file(self):
        threads = [
            threading.Thread(target=partial(keep_choice, {"artifact": number}, some_choice())) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kept_choices()

    def test_the_place_is_the_users_cache_folder_unless_another_is_named(self, tmp_path, monkeypatch):
        assert cache_file() == tmp_path / "cache" / "engines.json"
        monkeypatch.delenv("CB_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_file() == tmp_path / "xdg" / "cb" / "engines.json"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("LOCALAPPDATA", raising=False)
        assert cache_file().parts[-3:] == (".cache", "cb", "engines.json")

    def test_it_depends_on_file_machine_engines_and_what_was_asked(self, tmp_path, monkeypatch):
        path = tiny_model(tmp_path / "m.onnx")
        options = OpenOptions()
        before = identity.identity_of(path, options, ("numpy",))
        assert before["engines"] == {"numpy": np.__version__}
        assert before["machine"]["cores"] >= 1
        assert before["machine"]["cpu"]
        assert identity.identity_of(path, OpenOptions(threads=1), ("numpy",)) != before
        golden().save(golden_path(path))
        assert identity.identity_of(path, options, ("numpy",)) != before
        golden_path(path).unlink()
        assert identity.identity_of(path, options, ("numpy",)) == before
        monkeypatch.setattr(identity, "list_gpus", lambda: ("a GPU",))
        assert identity.identity_of(path, options, ("numpy",)) != before

    def test_a_system_without_a_list_of_cpu_features_has_a_name_of_its_cpu(self, tmp_path, monkeypatch):
        monkeypatch.setattr(identity, "_CPU_INFO", tmp_path / "none")
        assert identity.machine()["cpu"]


@pytest.fixture
def slow_enough(monkeypatch):
    """Let the tiny model count as one whose engine matters."""
    monkeypatch.setattr("cb_runtime.engine_choice.choosing.QUICK_SECONDS", 0.0)


@pytest.fixture
def counted(monkeypatch):
    """Count what is timed; OpenVINO in one stream is twice as fast."""
    pytest.importorskip("openvino")
    timed = []

    def ratio(base, other):
        timed.append(other)
        return 2.0 if len(timed) == 1 else 1.0

    monkeypatch.setattr(opening, "speed_ratio", ratio)
    return timed


@pytest.mark.usefixtures("slow_enough")
class TestOpening:
    @pytest.fixture
    def artifact(self, tmp_path):
        return tiny_model(tmp_path / "best.onnx")

    def test_it_is_measured_once_and_then_known(self, artifact, counted):
        first = open_session(artifact).describe()
        tried = len(counted)
        assert tried >= 1
        assert (first["backend"], first["streams"]) == ("openvino", 1)
        assert first["engine_choice"]["from_cache"] is False
        assert "openvino fp32 is 2.00 times as fast as onnxruntime fp32" in first["reason"]
        again = BoundaryPredictor(artifact).model
        assert len(counted) == tried
        assert (again["backend"], again["engine_choice"]["from_cache"]) == ("openvino", True)
        assert again["reason"] == first["reason"]

    def test_another_model_is_measured_anew(self, artifact, counted):
        open_session(artifact)
        tried = len(counted)
        tiny_model(artifact, ModelMetadata("tiny", dataset_name="another"))
        open_session(artifact)
        assert len(counted) == 2 * tried

    def test_a_damaged_cache_is_measured_anew(self, artifact, counted):
        open_session(artifact)
        tried = len(counted)
        cache_file().write_text("{")
        assert open_session(artifact).describe()["engine_choice"]["from_cache"] is False
        assert len(counted) == 2 * tried

    def test_a_choice_that_cannot_be_opened_any_more_is_measured_anew(self, artifact, counted, monkeypatch):
        open_session(artifact)
        tried = len(counted)
        document = json.loads(cache_file().read_text())
        for entry in document["choices"].values():
            entry["choice"]["way"] |= {"precision": "bf16", "backend": "openvino"}
        cache_file().write_text(json.dumps(document))
        monkeypatch.setattr("cb_runtime.backends.openvino.capabilities", lambda core: ("FP32",))
        assert open_session(artifact).describe()["engine_choice"]["from_cache"] is False
        assert len(counted) == 2 * tried

    @pytest.mark.parametrize(
        "how",
        [{"measure": False}, {"backend": "onnxruntime"}, {"backend": "openvino", "streams": 1, "precision": "fp32"}],
    )
    def test_nothing_is_measured_where_there_is_nothing_to_choose(self, artifact, counted, how):
        described = open_session(artifact, **how).describe()
        assert (described["engine_choice"], counted) == (None, [])
        assert described["backend"] == how.get("backend", "onnxruntime")

    @needs_two_cores
    def test_what_only_one_engine_can_do_is_done_by_it(self, artifact, counted):
        described = open_session(artifact, threads=2, streams=2).describe()
        assert (described["backend"], described["streams"], counted) == ("openvino", 2, [])

    def test_a_precision_that_none_has_is_refused(self, artifact, counted, monkeypatch):
        monkeypatch.setattr("cb_runtime.backends.openvino.capabilities", lambda core: ("FP32",))
        with pytest.raises(UsageError, match="--precision bf16 cannot be had of best"):
            open_session(artifact, precision="bf16")

    def test_one_installed_engine_is_taken_without_a_look_at_the_cache(self, artifact, monkeypatch):
        monkeypatch.setattr(opening, "installed_version", lambda name: name in ort_backend.DISTRIBUTIONS and "1")
        monkeypatch.setattr(opening, "identity_of", None)
        described = open_session(artifact).describe()
        assert (described["backend"], described["engine_choice"]) == ("onnxruntime", None)

    def test_golden_samples_of_another_model_leave_the_plain_engine(self, artifact, counted):
        golden().save(golden_path(artifact))
        described = open_session(artifact).describe()
        assert (described["backend"], counted) == ("onnxruntime", [])
        assert "although none could be proven to answer rightly" in described["reason"]

    def test_golden_samples_that_cannot_be_read_do_not_stop_it(self, artifact, counted):
        golden_path(artifact).write_bytes(b"damaged")
        assert open_session(artifact).describe()["backend"] == "openvino"

    def test_a_cache_that_cannot_be_written_is_told(self, artifact, counted, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("CB_CACHE", str(tmp_path / "file"))
        described = open_session(artifact).describe()
        assert described["backend"] == "openvino"
        assert "could not be kept: " in described["reason"]


def test_a_model_as_small_as_the_tests_own_stays_with_the_plain_engine(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr("cb_runtime.engine_choice.choosing.QUICK_SECONDS", 3600.0)
    described = open_session(tiny_model(tmp_path / "m.onnx")).describe()
    assert described["backend"] == "onnxruntime"
    assert described["engine_choice"]["trials"] == []


def test_the_model_in_the_box_is_measured_for_real_and_decides_as_pytorch_did():
    pytest.importorskip("openvino")
    session = open_session(default_model_path())
    choice = session.describe()["engine_choice"]
    assert choice["base"] == "onnxruntime fp32"
    assert {trial["way"] for trial in choice["trials"]} >= {"openvino fp32"}
    right = [trial for trial in choice["trials"] if trial["refused"] is None]
    # Tried only where the CPU has it, bf16 alone may be refused: it rounds.
    assert all("bf16" in trial["way"] for trial in choice["trials"] if trial["refused"] is not None)
    assert all(trial["ratio"] > 0 for trial in right)
    fastest = max(right, key=lambda trial: trial["ratio"])
    taken = fastest["way"] if fastest["ratio"] > TIE else choice["base"]
    assert str(Way(**choice["way"])) == taken
    again = open_session(default_model_path()).describe()
    assert again["engine_choice"] == {**choice, "from_cache": True}
    assert again["backend"] == session.describe()["backend"] == choice["way"]["backend"]


def test_a_user_without_a_home_folder_measures_each_time_and_is_told(monkeypatch):
    for name in ("CB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert kept_choices() == {}
    assert "no home folder to keep choices in. Set CB_CACHE" in keep({"a": 1}, {"b": 2})
    assert not doctor._cache().ok
