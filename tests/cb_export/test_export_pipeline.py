from __future__ import annotations

import errno
import io
import json
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pairs import golden_of, random_inputs, seeded_model, write_run
from torch import nn

import cb_export
from cb_core.checkpoint import save_checkpoint
from cb_core.provenance import code_commit
from cb_export import pipeline
from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_export.targets import onnx as onnx_target
from cb_runtime.backends import Availability
from cb_runtime.backends import onnxruntime as ort_backend
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import InputError, ModelError, ParityError, UsageError
from cb_runtime.files import sha256_of_file
from cb_runtime.parity import golden_path, load_golden_samples, verify_session
from cb_runtime.session import open_session


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def miscompile(monkeypatch):
    """Make the exporter write one wrong weight."""
    right = onnx_target._onnx_from_graph

    def wrong(graph, opset):
        model = right(graph, opset)
        weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = np.frombuffer(weights.raw_data, np.float32).copy()
        values[: len(values) // 2] += 0.05
        weights.raw_data = values.tobytes()
        return model

    monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong)


def test_a_lora_checkpoint_becomes_a_proven_artifact_in_another_folder(tmp_path):
    checkpoint = write_run(tmp_path / "run", lora=True)
    seen = []
    result = export_checkpoint(
        checkpoint, tmp_path / "service" / "model.onnx", progress=lambda phase, done, total=None: seen.append(phase)
    )
    assert names(tmp_path / "service") == ["model.golden.npz", "model.onnx"]
    assert result.report
    assert [phase for phase in dict.fromkeys(seen) if phase in pipeline.PHASES] == list(pipeline.PHASES)

    session = open_session(tmp_path / "service" / "model.onnx")
    metadata = session.metadata
    assert metadata.to_dict() == result.metadata.to_dict()
    assert metadata.architecture_name == "tiny_pairs"
    assert metadata.checkpoint_sha256 == sha256_of_file(checkpoint)
    assert metadata.validation_metrics == {"f1": 0.5}
    assert metadata.precision == "fp32"
    assert metadata.opset == 20
    assert metadata.lora_merge["layers"] == 1
    assert metadata.producer_versions.keys() >= {"cb-toolkit", "python", "torch", "torchvision", "onnx", "onnxscript"}
    assert metadata.training_versions == {"torch": "2.9"}
    assert metadata.export_commit == code_commit()
    assert metadata.export_date.startswith("20")
    assert metadata.parity["ok"] is True
    assert metadata.parity["golden"]["tolerances"]["flip_margin"] > 0
    assert json.loads(json.dumps(result.to_dict()))["artifact"].endswith("model.onnx")
    assert verify_session(session, load_golden_samples(golden_path(tmp_path / "service" / "model.onnx")))


def test_beside_its_checkpoint_an_artifact_shares_the_golden_samples(checkpoint):
    before = golden_path(checkpoint).read_bytes()
    result = export_checkpoint(checkpoint)
    assert names(checkpoint.parent) == ["best.golden.npz", "best.onnx", "best.pt"]
    assert result.path == checkpoint.with_suffix(".onnx")
    assert golden_path(checkpoint).read_bytes() == before


def test_golden_samples_may_stand_anywhere(checkpoint, tmp_path):
    moved = golden_path(checkpoint).rename(tmp_path / "elsewhere.npz")
    result = export_checkpoint(checkpoint, options=ExportOptions(golden=moved))
    assert result.golden.read_bytes() == moved.read_bytes()
    assert result.golden == golden_path(checkpoint)


def test_the_gate_runs_at_the_batch_sizes_asked_for(checkpoint):
    result = export_checkpoint(checkpoint, options=ExportOptions(batches=(4, 1)))
    assert result.metadata.parity["golden"]["batches"] == [1, 4]


def test_a_miscompiled_graph_is_refused_and_an_older_artifact_stays(checkpoint, miscompile):
    older = checkpoint.with_suffix(".onnx")
    older.write_bytes(b"older")
    with pytest.raises(ParityError, match="nothing was published") as caught:
        export_checkpoint(checkpoint)
    assert "FAILED" in str(caught.value)
    assert caught.value.exit_code == 7
    assert older.read_bytes() == b"older"
    assert names(checkpoint.parent) == ["best.golden.npz", "best.onnx", "best.pt"]


def test_a_miscompiled_graph_may_be_published_on_request_and_its_metadata_says_so(checkpoint, miscompile):
    result = export_checkpoint(checkpoint, options=ExportOptions(allow_parity_failure=True))
    assert not result.report
    parity = open_session(result.path).metadata.parity
    assert parity["ok"] is False
    assert parity["golden"]["failures"]


def test_a_model_whose_output_depends_on_the_place_in_the_batch_is_refused(tmp_path):
    checkpoint = write_run(tmp_path, place=0.1)
    with pytest.raises(ParityError, match="different places of a batch"):
        export_checkpoint(checkpoint)
    assert names(tmp_path) == ["best.golden.npz", "best.pt"]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import tiny_pairs
from cb_core import registry
registry.register_model("tiny_pairs")(tiny_pairs.tiny_pairs)
from cb_export import building, pipeline
def killed(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)
building.run_gate = killed
pipeline.export_checkpoint({checkpoint!r})
"""


def test_a_killed_export_leaves_nothing_under_the_final_name_and_can_be_repeated(checkpoint):
    code = KILLED.format(tests=str(Path(__file__).parent), checkpoint=str(checkpoint))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not checkpoint.with_suffix(".onnx").exists()
    assert export_checkpoint(checkpoint).report


KILLED_AMID_RENAMES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import tiny_pairs
from cb_core import registry
registry.register_model("tiny_pairs")(tiny_pairs.tiny_pairs)
from cb_export import pipeline
replace, done = Path.replace, []
def replace_or_die(self, target):
    if len(done) == {renames}:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(target)
    return replace(self, target)
Path.replace = replace_or_die
pipeline.export_checkpoint({checkpoint!r}, {output!r})
"""


def export_killed_after(renames, checkpoint, output):
    tests = str(Path(__file__).parent)
    code = KILLED_AMID_RENAMES.format(tests=tests, renames=renames, checkpoint=str(checkpoint), output=str(output))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("renames", [0, 1])
def test_an_export_killed_while_it_publishes_never_pairs_an_artifact_with_foreign_golden_samples(
    checkpoint, tmp_path, renames
):
    output = tmp_path / "service" / "model.onnx"
    export_checkpoint(write_run(tmp_path / "older", lora=True), output)
    before = sha256_of_file(output)
    export_killed_after(renames, checkpoint, output)
    assert (sha256_of_file(output) == before) == (renames == 0)
    assert open_session(output).metadata.parity["ok"]
    assert not golden_path(output).exists()
    export_checkpoint(checkpoint, output)
    assert verify_session(open_session(output), load_golden_samples(golden_path(output)))


def test_golden_samples_that_stand_already_survive_a_killed_repetition(checkpoint, tmp_path):
    output = tmp_path / "service" / "model.onnx"
    export_checkpoint(checkpoint, output)
    export_killed_after(0, checkpoint, output)
    assert verify_session(open_session(output), load_golden_samples(golden_path(output)))


def test_golden_samples_are_replaced_together_with_the_artifact(checkpoint, tmp_path):
    output = tmp_path / "service" / "model.onnx"
    export_checkpoint(write_run(tmp_path / "older", lora=True), output)
    export_checkpoint(checkpoint, output)
    assert golden_path(output).read_bytes() == golden_path(checkpoint).read_bytes()
    assert names(output.parent) == ["model.golden.npz", "model.onnx"]


@pytest.mark.parametrize("step", ["build", "write_metadata"])
def test_a_full_disk_leaves_the_older_artifact_and_says_so(checkpoint, monkeypatch, step):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx_target, step, full)
    checkpoint.with_suffix(".onnx").write_bytes(b"older")
    with pytest.raises(InputError, match=r"disk is full.*best\.onnx was not written"):
        export_checkpoint(checkpoint)
    assert checkpoint.with_suffix(".onnx").read_bytes() == b"older"
    assert names(checkpoint.parent) == ["best.golden.npz", "best.onnx", "best.pt"]


def test_a_disk_too_full_for_the_golden_samples_publishes_no_artifact(checkpoint, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(InputError, match="disk is full"):
        export_checkpoint(checkpoint, tmp_path / "out" / "a.onnx")
    assert names(tmp_path / "out") == []


def test_a_checkpoint_cut_in_half_is_refused(checkpoint):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"best\.pt"):
        export_checkpoint(checkpoint)
    assert names(checkpoint.parent) == ["best.golden.npz", "best.pt"]


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_malicious_checkpoint_is_refused_and_never_executed(checkpoint, tmp_path):
    torch.save({"model_state_dict": Payload(tmp_path / "executed")}, checkpoint)
    with pytest.raises(ModelError, match=r"best\.pt"):
        export_checkpoint(checkpoint)
    assert not (tmp_path / "executed").exists()


def test_malicious_golden_samples_are_refused_and_never_executed(checkpoint, tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    buffer.write(pickle.dumps(Payload(tmp_path / "executed")))
    with zipfile.ZipFile(golden_path(checkpoint), "w") as archive:
        archive.writestr("logits.npy", buffer.getvalue())
    with pytest.raises(ModelError, match=r"best\.golden\.npz"):
        export_checkpoint(checkpoint)
    assert not (tmp_path / "executed").exists()


def test_missing_golden_samples_are_an_error_that_says_where_they_come_from(checkpoint):
    golden_path(checkpoint).unlink()
    with pytest.raises(ModelError, match=r"best\.golden\.npz are missing.*cb train.*--golden FILE"):
        export_checkpoint(checkpoint)
    assert names(checkpoint.parent) == ["best.pt"]


def test_golden_samples_of_another_checkpoint_are_refused(checkpoint):
    torch.manual_seed(7)
    other = seeded_model()
    nn.init.normal_(other.head.weight)
    golden_of(other).save(golden_path(checkpoint))
    with pytest.raises(ModelError, match="not written by this model"):
        export_checkpoint(checkpoint)


def test_an_unknown_architecture_is_answered_with_the_known_ones(checkpoint):
    save_checkpoint(checkpoint, epoch=1, model=seeded_model(), metadata=ModelMetadata("no_such_model"))
    with pytest.raises(ModelError, match=r"Unknown architecture 'no_such_model'.*tiny_pairs.*--plugin"):
        export_checkpoint(checkpoint)


@pytest.mark.parametrize("output", ["best.engine", "best", "folder.onnx"])
def test_an_output_that_is_not_a_file_of_the_format_is_refused(checkpoint, tmp_path, output):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UsageError, match=r"must be a file \*\.onnx"):
        export_checkpoint(checkpoint, tmp_path / output)


@pytest.mark.parametrize("batches", [(), (0, 1), (-1,)])
def test_batch_sizes_below_one_are_refused_before_any_work(checkpoint, batches):
    with pytest.raises(UsageError, match="Batch sizes"):
        export_checkpoint(checkpoint, options=ExportOptions(batches=batches))


def test_without_an_engine_for_the_gate_nothing_is_built(checkpoint, monkeypatch):
    missing = Availability(False, "onnxruntime is not installed", "pip install 'cb-toolkit[onnx]'")
    monkeypatch.setattr(ort_backend, "available", lambda: missing)
    with pytest.raises(
        UsageError, match=r"gate cannot run \.onnx files here: onnxruntime is not installed.*pip install"
    ):
        export_checkpoint(checkpoint)


def test_golden_samples_of_the_checkpoint_itself_are_never_replaced_by_others(checkpoint, tmp_path):
    golden_of(seeded_model(), count=7).save(tmp_path / "few.npz")
    kept = golden_path(checkpoint).read_bytes()
    with pytest.raises(UsageError, match=r"best\.golden\.npz belongs to .*; .*few\.npz would replace it"):
        export_checkpoint(checkpoint, options=ExportOptions(golden=tmp_path / "few.npz"))
    assert golden_path(checkpoint).read_bytes() == kept
    elsewhere = export_checkpoint(checkpoint, tmp_path / "out.onnx", ExportOptions(golden=tmp_path / "few.npz"))
    assert golden_path(elsewhere.path).read_bytes() == (tmp_path / "few.npz").read_bytes()


def test_golden_samples_of_a_foreign_checkpoint_are_never_overwritten(checkpoint, tmp_path):
    torch.manual_seed(3)
    foreign = write_run(tmp_path / "other")
    golden_of(seeded_model(), count=7).save(golden_path(foreign))
    kept = golden_path(foreign).read_bytes()
    with pytest.raises(UsageError, match=r"belongs to .*Choose another --output"):
        export_checkpoint(checkpoint, foreign.with_suffix(".onnx"))
    assert golden_path(foreign).read_bytes() == kept


def test_an_exported_artifact_computes_what_the_checkpoint_computes(checkpoint):
    inputs = random_inputs(3, seed=9)
    wanted = golden_of(seeded_model())
    result = export_checkpoint(checkpoint)
    session = open_session(result.path)
    np.testing.assert_allclose(session.run(dict(wanted.inputs)), wanted.logits, atol=1e-5)
    assert session.run(inputs).shape == (3, 5)


def test_the_facade_gives_the_functions_of_the_pipeline_and_nothing_else():
    assert cb_export.export_checkpoint is export_checkpoint
    with pytest.raises(AttributeError, match="no_such_name"):
        cb_export.no_such_name  # noqa: B018


def test_importing_the_facade_and_the_command_imports_nothing_heavy():
    code = (
        "import sys, cb_export, cb_export.cli.export, cb_export.targets;"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'peft', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
