"""Which flavour of TensorRT builds an engine, for which GPUs, and with which timing cache."""

from __future__ import annotations

import types

import pytest

from cb_export.trt import choice, timing_cache
from cb_export.trt.choice import Choice, choose
from cb_export.trt.options import EngineOptions, compute_capabilities_from_text, profile_from_text
from cb_runtime.backends import Availability
from cb_runtime.backends import tensorrt as backend
from cb_runtime.errors import MissingPackageError, ModelError, UsageError
from cb_runtime.gpus import Gpu
from cb_runtime.trt import flavours
from cb_runtime.trt.flavours import RTX, STANDARD
from cb_runtime.trt.sidecar import BatchProfile

ADA = Gpu(0, "NVIDIA GeForce RTX 4090", "8.9")
HOPPER = Gpu(0, "NVIDIA H100", "9.0")
MODULE = types.SimpleNamespace(
    __version__="1.7",
    ComputeCapability=types.SimpleNamespace(__members__={"NONE": 0, "SM75": 1, "SM89": 2, "SM120": 3}),
)


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes this a machine with these packages and GPUs."""

    def make(*installed, gpus=(), broken=False):
        def load(name):
            if broken and name == "tensorrt":
                raise ImportError("libnvinfer.so.10 is missing")
            return MODULE

        monkeypatch.setattr(choice, "list_gpus", lambda: gpus)
        monkeypatch.setattr(flavours.importlib.util, "find_spec", lambda name: name if name in installed else None)
        monkeypatch.setattr(flavours.importlib, "import_module", load)

    return make


def test_auto_takes_standard_tensorrt_where_it_and_a_gpu_are(machine):
    machine("tensorrt", "tensorrt_rtx", gpus=(HOPPER,))
    found = choose(EngineOptions())
    assert (found.flavour, found.compute_capabilities, found.gpu) == (STANDARD, ("9.0",), HOPPER)
    assert found.reason == "standard TensorRT and NVIDIA H100 (compute capability 9.0) are here"


def test_auto_takes_rtx_without_a_gpu_and_says_why(machine):
    machine("tensorrt", "tensorrt_rtx")
    found = choose(EngineOptions())
    assert (found.flavour, found.compute_capabilities) == (RTX, ("8.9", "12.0"))
    assert "no NVIDIA GPU is here" in found.reason


@pytest.mark.parametrize(("installed", "broken"), [(["tensorrt_rtx"], False), (["tensorrt", "tensorrt_rtx"], True)])
def test_auto_takes_rtx_where_standard_tensorrt_is_missing_or_broken_and_says_which(machine, installed, broken):
    machine(*installed, gpus=(ADA,), broken=broken)
    found = choose(EngineOptions())
    assert found.flavour == RTX
    assert ("libnvinfer" if broken else "tensorrt is not installed") in found.reason


def test_options_of_one_flavour_choose_it(machine):
    machine("tensorrt", "tensorrt_rtx", gpus=(HOPPER,))
    assert choose(EngineOptions(compute_capabilities=("8.9",))).flavour == RTX
    assert choose(EngineOptions(hardware_compat="ampere+")).flavour == STANDARD
    found = choose(EngineOptions(version_compatible=True))
    assert (found.flavour, found.reason) == (STANDARD, "only standard TensorRT takes --version-compatible")


def test_the_flavour_asked_for_is_taken_or_refused(machine):
    machine("tensorrt_rtx", gpus=(ADA,))
    assert choose(EngineOptions(flavour="rtx")).reason == "as asked"
    with pytest.raises(MissingPackageError, match=r"cb-toolkit\[trt\]"):
        choose(EngineOptions(flavour="tensorrt"))
    machine("tensorrt", gpus=(ADA,), broken=True)
    with pytest.raises(ModelError, match="libnvinfer"):
        choose(EngineOptions(flavour="tensorrt"))


@pytest.mark.parametrize(("gpus", "extra"), [((), "rtx"), ((ADA,), "trt")])
def test_without_either_package_the_fitting_extra_is_named(machine, gpus, extra):
    machine(gpus=gpus)
    with pytest.raises(MissingPackageError, match=rf"cb-toolkit\[{extra}\]"):
        choose(EngineOptions())


def test_standard_tensorrt_without_a_gpu_is_refused_with_the_other_flavour(machine):
    machine("tensorrt")
    with pytest.raises(UsageError, match=r"builds engines only where an NVIDIA GPU is.*--flavor rtx"):
        choose(EngineOptions(flavour="tensorrt"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"flavour": "rtx", "hardware_compat": "same-cc"}, "--hardware-compat is for --flavor tensorrt"),
        ({"flavour": "rtx", "version_compatible": True}, "--version-compatible is for --flavor tensorrt"),
        ({"flavour": "tensorrt", "compute_capabilities": ("8.9",)}, "--compute-capability is for --flavor rtx"),
        ({"compute_capabilities": ("9.0",)}, r"does not build for compute capability 9\.0\. It builds for 7\.5, 8\.9"),
    ],
)
def test_options_of_the_other_flavour_are_refused(machine, options, told):
    machine("tensorrt", "tensorrt_rtx", gpus=(ADA,))
    with pytest.raises(UsageError, match=told):
        choose(EngineOptions(**options))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"flavour": "mint"}, "--flavor must be one of auto, tensorrt, rtx, got 'mint'"),
        ({"hardware_compat": "all"}, "--hardware-compat must be one of none, same-cc"),
        ({"profile": BatchProfile(0, 1, 2)}, "must ascend from 1 or more, got 0:1:2"),
        ({"profile": BatchProfile(1, 9, 2)}, "must ascend"),
        ({"workspace_mib": 0}, "--workspace must be 1 MiB or more"),
        ({"hardware_compat": "ampere+", "compute_capabilities": ("8.9",)}, "give one of them"),
        ({"version_compatible": True, "compute_capabilities": ("8.9",)}, "--version-compatible .* give one of them"),
    ],
)
def test_values_that_cannot_be_obeyed_are_refused(options, told):
    with pytest.raises(UsageError, match=told):
        EngineOptions(**options)


def test_texts_of_the_command_line_are_read():
    assert profile_from_text("1:32:256") == BatchProfile(1, 32, 256)
    assert compute_capabilities_from_text("8.6,12.0,8.6") == ("8.6", "12.0")


@pytest.mark.parametrize("text", ["", "8", "1:2", "1:2:3:4", "a:b:c", "1:2:-3"])
def test_a_profile_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="--batch takes MIN:OPT:MAX"):
        profile_from_text(text)


@pytest.mark.parametrize("text", ["89", "8.6;8.9", "ada", "8.6,"])
def test_a_compute_capability_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="--compute-capability takes numbers like"):
        compute_capabilities_from_text(text)


class TestRunsHere:
    @pytest.fixture(autouse=True)
    def available(self, monkeypatch):
        monkeypatch.setattr(backend, "available", lambda: Availability(True, "TensorRT 10.9"))

    def test_on_a_gpu_it_is_for(self):
        assert Choice(RTX, "", ADA, ("8.9",)).runs_here().ok

    def test_not_on_another(self):
        found = Choice(RTX, "", HOPPER, ("8.9",)).runs_here()
        assert not found.ok
        assert found.detail == "it is for compute capability 8.9, and cuda:0 is NVIDIA H100 (compute capability 9.0)"

    def test_not_where_nothing_runs(self, monkeypatch):
        missing = Availability(False, "no GPU", "buy one")
        monkeypatch.setattr(backend, "available", lambda: missing)
        assert Choice(RTX, "", ADA, ("8.9",)).runs_here() == missing


class Config:
    """What the timing cache needs of a builder's configuration."""

    def __init__(self, takes=True):
        self.takes, self.given, self.cache = takes, [], None

    def create_timing_cache(self, content):
        return types.SimpleNamespace(content=content, serialize=lambda: content + b"+measured")

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        self.given.append(cache.content)
        taken = self.takes or not cache.content
        self.cache = cache if taken else self.cache
        return taken

    def get_timing_cache(self):
        return self.cache


class TestTimingCache:
    standard = Choice(STANDARD, "", ADA, ("8.9",))

    def test_a_file_belongs_to_one_release_gpu_and_compute_capability(self, tmp_path):
        names = {
            timing_cache.cache_file(str(tmp_path), Choice(STANDARD, "", gpu, ()), version).name
            for gpu in (ADA, HOPPER)
            for version in ("10.9", "11.4")
        }
        assert len(names) == 4
        assert "tensorrt-11.4-NVIDIA-GeForce-RTX-4090-8.9.timing" in names

    def test_by_default_it_is_in_the_users_cache_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert timing_cache.cache_file("auto", self.standard, "10.9").parent == tmp_path / "cb-toolkit"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert timing_cache.default_folder().parent.name == ".cache"

    def test_it_can_be_switched_off_and_rtx_has_none(self):
        assert timing_cache.cache_file("off", self.standard, "10.9") is None
        assert timing_cache.cache_file("auto", Choice(RTX, "", None, ()), "1.7") is None
        with pytest.raises(UsageError, match="--timing-cache is for --flavor tensorrt"):
            timing_cache.cache_file("folder", Choice(RTX, "", ADA, ()), "1.7")

    def test_what_a_build_measures_the_next_one_knows(self, tmp_path):
        file, first, second = tmp_path / "new" / "a.timing", Config(), Config()
        timing_cache.attach(first, file)
        assert timing_cache.store(first, file) is None
        timing_cache.attach(second, file)
        assert (first.given, second.given) == ([b""], [b"+measured"])

    def test_one_that_tensorrt_does_not_take_is_begun_again(self, tmp_path):
        file = tmp_path / "a.timing"
        file.write_bytes(b"of another driver")
        config = Config(takes=False)
        timing_cache.attach(config, file)
        assert config.given == [b"of another driver", b""]
        assert timing_cache.store(config, file) is None
        assert file.read_bytes() == b"+measured"

    def test_a_cache_that_cannot_be_written_is_told_and_costs_no_engine(self, tmp_path):
        (tmp_path / "file").touch()
        config = Config()
        timing_cache.attach(config, tmp_path / "file" / "a.timing")
        assert "cannot be written" in timing_cache.store(config, tmp_path / "file" / "a.timing")

    def test_without_a_file_nothing_is_done(self):
        config = Config()
        timing_cache.attach(config, None)
        assert timing_cache.store(config, None) is None
        assert config.given == []
