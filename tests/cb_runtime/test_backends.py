"""Conformance of all backends, and ONNX files that cannot be used."""

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pretended_cuda import FakeRuntime
from tiny_models import strips_of, tiny_model

from cb_runtime import backends
from cb_runtime.arrays import DeviceArray
from cb_runtime.backends import (
    OWN,
    SHARED,
    OpenOptions,
    backend_for,
    backend_names,
    backends_for,
    device_from_text,
    load_backend,
)
from cb_runtime.backends import onnxruntime as ort_backend
from cb_runtime.contract import INPUT_NAMES, ModelMetadata
from cb_runtime.errors import CbError, ContractError, MissingPackageError, ModelError, UsageError
from cb_runtime.golden import golden_path, load_golden_samples
from cb_runtime.installed import installed_version
from cb_runtime.models import default_model_path
from cb_runtime.session import open_session


@pytest.mark.parametrize("name", backend_names())
class TestEveryBackend:
    def test_names_the_files_it_opens(self, name):
        suffixes = load_backend(name).SUFFIXES
        assert suffixes
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)

    def test_is_found_by_its_suffix_and_its_name(self, name):
        for suffix in load_backend(name).SUFFIXES:
            path = Path(f"model{suffix.upper()}")
            assert backend_for(path, name) == (name, load_backend(name))
            assert name in dict(backends_for(path))

    def test_says_whether_it_can_run_and_what_to_do_otherwise(self, name):
        availability = load_backend(name).available()
        assert availability.detail
        assert availability.ok or availability.fix

    def test_refuses_garbage_naming_the_file(self, name, tmp_path):
        for suffix in load_backend(name).SUFFIXES:
            path = tmp_path / f"garbage{suffix}"
            path.write_bytes(b"this is no model" * 100)
            with pytest.raises(ModelError, match="garbage"):
                load_backend(name).open_artifact(path, OpenOptions(device="cpu"))

    def test_refuses_an_empty_file(self, name, tmp_path):
        for suffix in load_backend(name).SUFFIXES:
            path = tmp_path / f"empty{suffix}"
            path.touch()
            with pytest.raises(ModelError):
                load_backend(name).open_artifact(path, OpenOptions(device="cpu"))


def test_the_table_names_the_backends_of_every_kind_of_file_that_several_open_the_plain_one_first():
    suffixes = Counter(suffix for name in backend_names() for suffix in load_backend(name).SUFFIXES)
    assert {suffix for suffix, backends in suffixes.items() if backends > 1} == set(SHARED)
    for suffix, names in SHARED.items():
        assert set(names) == {name for name in backend_names() if suffix in load_backend(name).SUFFIXES}
        assert backend_for(Path(f"model{suffix}"))[0] == names[0]


def test_opening_an_onnx_file_imports_no_module_for_others(tmp_path):
    path = tiny_model(tmp_path / "m.onnx")
    code = (
        f"import sys, cb_runtime\ncb_runtime.open_session({str(path)!r})\n"
        "others = {'cb_core', 'cb_runtime.backends.tensorrt', 'cb_runtime.backends.package'} & sys.modules.keys()\n"
        "assert not others, others\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_backend_for_other_files_is_answered_with_those_for_this_one(tmp_path):
    with pytest.raises(UsageError, match=r"--backend torch does not open \.onnx files.*onnxruntime, openvino"):
        open_session(tiny_model(tmp_path / "m.onnx"), backend="torch")


def test_modules_in_the_folder_are_all_named():
    folder = Path(backends.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == set(OWN)


def test_an_unknown_backend_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="onnxruntime"):
        load_backend("abacus")


def test_a_gpu_is_named_by_its_number():
    assert str(device_from_text("cuda")) == "cuda:0"
    assert str(device_from_text("cuda:3")) == "cuda:3"


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request):
    pytest.importorskip(request.param)
    return request.param


class TestEveryEngineForOnnxFiles:
    def test_refuses_a_truncated_file_with_what_to_do(self, tmp_path, engine):
        path = tiny_model(tmp_path / "cut.onnx")
        path.write_bytes(path.read_bytes()[:-700])
        with pytest.raises(ModelError, match=r"cut\.onnx.*cb export"):
            open_session(path, backend=engine, measure=False)

    def test_refuses_a_file_without_our_metadata(self, tmp_path, engine):
        with pytest.raises(ContractError, match="not exported by"):
            open_session(tiny_model(tmp_path / "m.onnx", with_metadata=False), backend=engine, measure=False)

    def test_refuses_an_unknown_schema_with_what_to_do(self, tmp_path, engine):
        plain = json.dumps({**ModelMetadata("tiny").to_dict(), "schema": 99})
        with pytest.raises(ContractError, match=r"m\.onnx: .*schema 99.*Install"):
            open_session(tiny_model(tmp_path / "m.onnx", metadata_json=plain), backend=engine, measure=False)

    def test_refuses_broken_metadata(self, tmp_path, engine):
        with pytest.raises(ContractError, match=r"m\.onnx: .*not JSON"):
            open_session(tiny_model(tmp_path / "m.onnx", metadata_json="{"), backend=engine, measure=False)

    def test_refuses_a_fixed_batch_axis(self, tmp_path, engine):
        with pytest.raises(ContractError, match="no free batch axis"):
            open_session(tiny_model(tmp_path / "m.onnx", batch="2"), backend=engine, measure=False)

    def test_refuses_a_graph_that_does_not_fit_its_metadata(self, tmp_path, engine):
        with pytest.raises(ContractError, match="does not fit its own metadata"):
            open_session(tiny_model(tmp_path / "m.onnx", spatial=7), backend=engine, measure=False)

    def test_reports_a_failure_with_device_and_batch(self, tmp_path, engine):
        executor = open_session(tiny_model(tmp_path / "m.onnx"), backend=engine, measure=False)._executor
        with pytest.raises(ModelError, match="failed on cpu at batch 1"):
            executor.run({"frame1": np.zeros((1, 47, 480, 3), np.uint8)})

    def test_uses_the_threads_asked_for(self, tmp_path, engine):
        session = open_session(tiny_model(tmp_path / "m.onnx"), backend=engine, measure=False, device="cpu", threads=1)
        assert session.describe()["threads"] == 1

    def test_answers_every_batch_size_as_the_same_pairs_alone(self, engine):
        session = open_session(default_model_path(), backend=engine, measure=False, device="cpu", threads=1)
        inputs = load_golden_samples(golden_path(default_model_path())).sample(17).inputs
        together = session.run(inputs)
        for size in (1, 2, 3, 16):
            parts = [
                session.run({name: array[at : at + size] for name, array in inputs.items()})
                for at in range(0, 17, size)
            ]
            np.testing.assert_allclose(np.concatenate(parts), together, atol=1e-3)

    def test_keeps_an_answer_as_it_was_when_it_gives_the_next(self, engine):
        session = open_session(default_model_path(), backend=engine, measure=False, device="cpu", threads=1)
        golden = load_golden_samples(golden_path(default_model_path()))
        one, other = golden.inputs["frame1"][:4], golden.inputs["frame1"][4:8]
        features = session.stages.encode("frame1", one)
        kept = features.copy()
        assert np.abs(session.stages.encode("frame1", other) - kept).max() > 0.1
        np.testing.assert_array_equal(features, kept)

    def test_answers_calls_that_overlap_each_with_its_own(self, tmp_path, engine):
        session = open_session(tiny_model(tmp_path / "m.onnx"), backend=engine, measure=False, device="cpu")
        levels = [20 + 2 * number for number in range(100)]
        alone = [session.run(flat_pairs(level)) for level in levels]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda level: session.run(flat_pairs(level)), levels))
        np.testing.assert_array_equal(np.concatenate(together), np.concatenate(alone))


def flat_pairs(level, count=3):
    """Return inputs whose second frame has the brightness `level`."""
    (one,), (other,) = strips_of([20]), strips_of([level])
    return {
        "ocr_viz": np.zeros((count, 48, 480, 3), np.uint8),
        "frame1": np.repeat(one[None], count, axis=0),
        "frame2": np.repeat(other[None], count, axis=0),
        "spatial_features": np.zeros((count, 6), np.float32),
        "font_embedding": np.zeros((count, 512), np.float32),
    }


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    path = tiny_model(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(ort_backend.importlib.util, "find_spec", lambda name: None)
    assert "cb-toolkit[onnx]" in ort_backend.available().fix
    with pytest.raises(MissingPackageError, match=r"cb-toolkit\[onnx\]"):
        open_session(path, backend="onnxruntime")


def test_two_onnxruntime_packages_are_refused(tmp_path, monkeypatch):
    path = tiny_model(tmp_path / "m.onnx")
    monkeypatch.setattr(ort_backend, "installed_version", lambda name: "1.20")
    assert not ort_backend.available().ok
    with pytest.raises(UsageError, match="both installed"):
        open_session(path, backend="onnxruntime")
    open_session(path, backend="onnxruntime", device="cpu")  # which either runs as well


def test_only_installed_distributions_count():
    assert installed_version("a-package-nobody-has") is None


def test_nothing_that_is_installed_is_looked_through_for_a_session_on_the_cpu(tmp_path):
    path = tiny_model(tmp_path / "m.onnx")
    code = (
        "import sys, cb_runtime\n"
        f"cb_runtime.BoundaryPredictor({str(path)!r}, device='cpu', backend='onnxruntime')\n"
        "assert 'importlib.metadata' not in sys.modules\n"
    )
    # Isolated: what an environment starts Python with, editable installs for one, may import it before.
    subprocess.run([sys.executable, "-S", "-c", f"import sys\nsys.path[:0] = {sys.path!r}\n{code}"], check=True)


def use_runtime(monkeypatch, runtime):
    monkeypatch.setattr(ort_backend, "require", lambda module: runtime)


def test_cuda_without_a_cuda_build_says_what_is_there(tmp_path):
    with pytest.raises(ModelError, match=r"cuda:1 was asked for.*CPUExecutionProvider.*cb-toolkit\[gpu\]"):
        open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", device="cuda:1")


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("tf32", "1")])
def test_cuda_runs_on_the_gpu_asked_for_in_the_precision_of_the_model(tmp_path, monkeypatch, capsys, precision, tf32):
    runtime = FakeRuntime()
    use_runtime(monkeypatch, runtime)
    path = tiny_model(tmp_path / "m.onnx", ModelMetadata("tiny", precision=precision))
    session = open_session(path, backend="onnxruntime", device="cuda:2")
    assert session.device == "cuda:2"
    assert runtime.cuda_options == {"device_id": "2", "use_tf32": tf32, "cudnn_conv_algo_search": "HEURISTIC"}
    assert capsys.readouterr().out == "", "stdout belongs to the command's JSON document"


def on_gpu(values, index=2):
    """Return an array as the memory of a GPU would hold it."""
    return DeviceArray(values, values.ctypes.data, values.dtype, values.shape, index)


def test_cuda_takes_inputs_where_they_lie_and_waits_for_what_fills_them(tmp_path, monkeypatch):
    runtime = FakeRuntime()
    path = tiny_model(tmp_path / "m.onnx")
    wanted = open_session(path, backend="onnxruntime", device="cpu").run(flat_pairs(200))
    use_runtime(monkeypatch, runtime)
    session = open_session(path, backend="onnxruntime", device="cuda:2")
    feeds = flat_pairs(200)
    mixed = {**feeds, "frame1": on_gpu(feeds["frame1"]), "spatial_features": on_gpu(feeds["spatial_features"])}
    for given in (feeds, mixed):
        np.testing.assert_array_equal(session.run(given), wanted)
        assert runtime.bound[-1].waited == set(INPUT_NAMES)
    assert {name for name, place in runtime.bound[-1].places.items() if place == "cuda:2"} == {
        "frame1",
        "spatial_features",
    }
    assert set(runtime.bound[-2].places.values()) == {"host"}
    assert runtime.bound[-1] is not runtime.bound[-2], "calls may overlap"


def test_an_array_on_another_gpu_is_refused_with_what_to_do(tmp_path, monkeypatch):
    use_runtime(monkeypatch, FakeRuntime())
    session = open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", device="cuda:2")
    feeds = flat_pairs(200)
    with pytest.raises(ContractError, match=r"'frame1' lies on cuda:1, and the model runs on cuda:2.*device='cuda:1'"):
        session.run({**feeds, "frame1": on_gpu(feeds["frame1"], 1)})


def test_the_cpu_takes_no_arrays_of_a_gpu(tmp_path):
    session = open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", device="cpu")
    feeds = flat_pairs(200)
    with pytest.raises(ContractError, match="takes arrays from main memory only"):
        session.run({**feeds, "frame1": on_gpu(feeds["frame1"], 0)})


@pytest.mark.parametrize(("reuse", "spins"), [(True, "0"), (False, "1")])
def test_threads_spin_only_where_a_model_has_one_graph(reuse, spins):
    session = open_session(default_model_path(), backend="onnxruntime", device="cpu", reuse=reuse)
    opened = [session._executor.session]
    if reuse:
        opened += [part.session for part in (*session.stages._encoders.values(), session.stages._classifier)]
        assert len(opened) == 4
    settings = [one.get_session_options() for one in opened]
    assert {one.get_session_config_entry("session.intra_op.allow_spinning") for one in settings} == {spins}


def test_cuda_that_ends_up_on_the_cpu_is_an_error(tmp_path, monkeypatch):
    use_runtime(monkeypatch, FakeRuntime(opens_with=ort_backend.CPU))
    with pytest.raises(ModelError, match="onnxruntime gave CPUExecutionProvider"):
        open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", device="cuda")


def test_cuda_that_fails_is_an_error_in_one_line(tmp_path, monkeypatch):
    use_runtime(monkeypatch, FakeRuntime(fails=True))
    with pytest.raises(ModelError, match="driver is too old") as caught:
        open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", device="cuda")
    assert "\n" not in str(caught.value)


def test_auto_takes_the_gpu_where_it_works(tmp_path, monkeypatch):
    use_runtime(monkeypatch, FakeRuntime())
    assert open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime").device == "cuda:0"


def test_auto_says_why_the_gpu_was_not_taken(tmp_path, monkeypatch):
    use_runtime(monkeypatch, FakeRuntime(fails=True))
    described = open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime").describe()
    assert described["device"] == "cpu"
    assert "driver is too old" in described["reason"]


def test_auto_does_not_hide_a_foreign_model(tmp_path, monkeypatch):
    use_runtime(monkeypatch, FakeRuntime())
    with pytest.raises(CbError, match="not exported by"):
        open_session(tiny_model(tmp_path / "m.onnx", with_metadata=False), backend="onnxruntime")


def test_threads_for_a_gpu_are_refused_because_they_would_have_no_effect(tmp_path):
    with pytest.raises(UsageError, match="--threads is for the CPU"):
        open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", device="cuda:1", threads=2)


def test_auto_says_when_the_gpu_leaves_threads_without_effect(tmp_path, monkeypatch):
    use_runtime(monkeypatch, FakeRuntime())
    session = open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", threads=2)
    assert session.device == "cuda:0"
    assert "--threads is for the CPU and has no effect" in session.describe()["reason"]


def test_auto_on_the_cpu_uses_the_threads_asked_for(tmp_path, monkeypatch):
    use_runtime(monkeypatch, FakeRuntime(fails=True))
    assert open_session(tiny_model(tmp_path / "m.onnx"), backend="onnxruntime", threads=2).describe()["threads"] == 2
