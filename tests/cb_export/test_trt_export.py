"""`cb export --format trt`: what is published, what is refused, and what is said of an engine nobody could run here."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_export_command import wrong_bias
from test_stages import moving_strips, own_inputs, wrong_classifier
from tiny_late_fusions import tiny_late_fusion, write_late_fusion
from tiny_pairs import golden_of, logits_of, seeded_model, write_run

from cb_core import registry
from cb_core.checkpoint import save_checkpoint
from cb_core.registry import create_model
from cb_export.cli.export import export
from cb_export.proof import Network, gate_source
from cb_export.targets import TargetOptions
from cb_export.targets import onnx as onnx_target
from cb_export.targets import tensorrt as target
from cb_export.trt.choice import choose
from cb_export.trt.options import EngineOptions
from cb_runtime.contract import ModelMetadata
from cb_runtime.errors import MissingPackageError, ModelError
from cb_runtime.files import sha256_of_file
from cb_runtime.golden import golden_path
from cb_runtime.scoring import score_strips
from cb_runtime.session import open_session
from cb_runtime.stages import read_manifest, stages_path
from cb_runtime.trt.sidecar import read_sidecar, sidecar_path

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'cb-toolkit[rtx]'")


def engine_runs_here():
    return choose(EngineOptions(flavour="rtx")).runs_here().ok


def skip_unless_engines_run(options):
    """Leave a test for a GPU out where this flavour is not installed, or its engines cannot run; say which."""
    try:
        status = target.runs_here(TargetOptions(engine=options))
    except MissingPackageError as error:
        pytest.skip(str(error))
    if not status.ok:
        pytest.skip(status.detail)


blind = pytest.mark.skipif(engine_runs_here(), reason="the engine can be run here")


def run(*arguments, format_name="trt"):
    fixed = ["--format", format_name] + (["--flavor", "rtx"] if format_name == "trt" else [])
    return CliRunner().invoke(export, [*fixed, *(str(argument) for argument in arguments)])


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@blind
class TestWithoutAGpu:
    def test_an_engine_nobody_ran_is_not_published_unless_that_is_agreed_to(self, checkpoint):
        done = run("--checkpoint", checkpoint, "--json")
        assert done.exit_code == 7
        message = json.loads(done.stdout)["error"]["message"]
        assert "cannot run .engine files here" in message
        assert "--unverified" in message
        assert "cb verify" in message
        assert names(checkpoint.parent) == ["best.golden.npz", "best.pt"]

    def test_unverified_it_is_published_with_all_that_is_known(self, checkpoint):
        done = run("--checkpoint", checkpoint, "--unverified", "--batch", "1:2:4", "--workspace", "64")
        assert done.exit_code == 0, done.output
        assert "NOT RUN here" in done.stderr
        assert "cb verify" in done.stderr
        assert "Layers with weights: 100% Float" in done.stdout
        assert "Built by TensorRT for RTX" in done.stdout
        assert names(checkpoint.parent) == ["best.engine", "best.engine.json", "best.golden.npz", "best.pt"]

        engine = checkpoint.with_suffix(".engine")
        record = read_sidecar(engine)
        assert record.plan_sha256 == sha256_of_file(engine)
        assert (str(record.profile), record.build["workspace_mib"]) == ("1:2:4", 64)
        metadata = record.metadata
        assert metadata.parity["ok"] is None
        assert metadata.parity["reason"].startswith("not run: ")
        assert metadata.parity["onnx"]["ok"] is True
        assert metadata.checkpoint_sha256 == sha256_of_file(checkpoint)
        assert metadata.producer_versions.keys() >= {"cb-toolkit", "torch", "onnx", "tensorrt_rtx"}
        assert metadata.replace(parity=None).to_compact_json().encode() in engine.read_bytes()

    def test_json_says_that_nobody_knows(self, checkpoint):
        page = checkpoint.with_name("report.json")
        document = json.loads(run("--checkpoint", checkpoint, "--unverified", "--json", "--report", page).stdout)
        (graph,) = json.loads(page.read_text())["graphs"]
        assert (graph["title"], graph["ok"]) == ("ONNX that the artifact was built from", True)
        assert document["parity"]["ok"] is document["metadata"]["parity"]["ok"] is None
        assert document["artifact"].endswith("best.engine")

    def test_an_onnx_that_does_not_agree_is_never_built_from(self, checkpoint, monkeypatch):
        monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_bias)
        monkeypatch.setattr(target, "engine_from_onnx", None)
        done = run("--checkpoint", checkpoint, "--unverified")
        assert done.exit_code == 7
        assert "does not agree" in done.stderr
        assert names(checkpoint.parent) == ["best.golden.npz", "best.pt"]

    def test_on_request_even_that_is_published_and_told(self, checkpoint, monkeypatch):
        monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_bias)
        done = run("--checkpoint", checkpoint, "--unverified", "--allow-parity-failure")
        assert done.exit_code == 0, done.output
        assert "FAILED" in done.stderr
        assert read_sidecar(checkpoint.with_suffix(".engine")).metadata.parity["onnx"]["ok"] is False

    def test_the_staged_graph_of_an_onnx_beside_it_stays(self, checkpoint):
        staged = stages_path(checkpoint)
        staged.mkdir()
        (staged / "classifier.onnx").touch()
        assert run("--checkpoint", checkpoint, "--unverified").exit_code == 0
        assert names(staged) == ["classifier.onnx"]

    def test_an_engine_cut_off_by_a_full_disk_leaves_the_older_one(self, checkpoint, monkeypatch):
        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        assert run("--checkpoint", checkpoint, "--unverified").exit_code == 0
        before = [sha256_of_file(file) for file in sorted(checkpoint.parent.iterdir())]
        monkeypatch.setattr(target, "write_metadata", full)
        done = run("--checkpoint", checkpoint, "--unverified")
        assert done.exit_code == 3
        assert "disk is full" in done.stderr
        assert [sha256_of_file(file) for file in sorted(checkpoint.parent.iterdir())] == before

    def test_aligned_comparison_the_architecture_in_the_box_is_built(self, tmp_path):
        model = create_model("aligned_comparison").eval()
        metadata = ModelMetadata("aligned_comparison")
        save_checkpoint(tmp_path / "best.pt", epoch=1, model=model, metadata=metadata)
        golden_of(model, count=5).save(golden_path(tmp_path / "best.pt"))
        done = run(
            "--checkpoint", tmp_path / "best.pt", "--unverified", "--batches", "1,2", "--compute-capability", "8.9"
        )
        assert done.exit_code == 0, done.output
        record = read_sidecar(tmp_path / "best.engine")
        assert record.precision_proof["shares"] == {"Float": 1.0}
        assert record.compute_capabilities == ("8.9",)
        manifest = read_manifest(tmp_path / "best.engine")
        assert set(manifest.members) == {"encoder_ocr.engine", "encoder_frame.engine", "classifier.engine"}


@blind
@pytest.mark.parametrize(
    ("precision", "layers", "compared"),
    [("fp16", "Half", "onnx"), ("bf16", "BFloat16", "network"), ("int8", "Int8", "onnx")],
)
def test_an_engine_computes_in_the_precision_asked_for(tmp_path, precision, layers, compared):
    checkpoint = write_run(tmp_path)
    golden_of(seeded_model(), 40).save(golden_path(checkpoint))
    done = run("--checkpoint", checkpoint, "--precision", precision, "--unverified", "--allow-parity-failure")
    assert done.exit_code == 0, done.output
    record = read_sidecar(checkpoint.with_suffix(".engine"))
    assert record.metadata.precision == precision
    assert record.precision_proof["shares"][layers] >= 0.5
    assert record.metadata.parity[compared]["golden"]["precision"] == precision
    assert record.metadata.opset == (22 if precision == "bf16" else 20)
    assert (record.metadata.calibration is not None) == (precision == "int8")


@pytest.mark.gpu
@pytest.mark.parametrize("flavour", ["auto", "rtx", "tensorrt"])
def test_with_a_gpu_the_engine_itself_passes_the_gate(checkpoint, flavour):
    skip_unless_engines_run(EngineOptions(flavour=flavour))
    done = CliRunner().invoke(
        export, ["--checkpoint", str(checkpoint), "--format", "trt", "--flavor", flavour, "--batch", "1:4:8"]
    )
    assert done.exit_code == 0, done.output
    record = read_sidecar(checkpoint.with_suffix(".engine"))
    assert record.metadata.parity["ok"] is True
    assert {4, 7, 8} <= set(record.metadata.parity["golden"]["batches"])
    assert record.precision_proof["source"] == "engine inspector"


@pytest.mark.gpu
@pytest.mark.parametrize("flavour", ["rtx", "tensorrt"])
def test_with_a_gpu_a_staged_graph_passes_the_gate_and_scores_as_the_onnx_does(late_fusion, flavour):
    skip_unless_engines_run(EngineOptions(flavour=flavour))
    # The last --flavor counts.
    assert run("--checkpoint", late_fusion, "--flavor", flavour, "--batch", "1:4:8").exit_code == 0
    assert run("--checkpoint", late_fusion, format_name="onnx").exit_code == 0
    there = open_session(late_fusion.with_suffix(".engine"))
    assert there.describe()["features_stay"]
    assert read_manifest(late_fusion.with_suffix(".engine")).parity["ok"] is True
    here = open_session(late_fusion.with_suffix(".onnx"), device="cpu", measure=False)
    strips = moving_strips(40)
    one, other = (score_strips(session, iter(strips), own_inputs(), batch_size=16) for session in (there, here))
    np.testing.assert_allclose(one.forward, other.forward, atol=1e-3)
    np.testing.assert_allclose(one.backward, other.backward, atol=1e-3)


@pytest.mark.gpu
def test_with_a_gpu_an_engine_for_later_releases_is_built_opened_and_proven(checkpoint):
    skip_unless_engines_run(EngineOptions(flavour="tensorrt", version_compatible=True))
    arguments = ["--checkpoint", str(checkpoint), "--format", "trt", "--version-compatible", "--batch", "1:4:8"]
    done = CliRunner().invoke(export, arguments)
    assert done.exit_code == 0, done.output
    assert "for later releases too" in done.stdout
    record = read_sidecar(checkpoint.with_suffix(".engine"))
    assert record.version_compatible
    assert record.metadata.parity["ok"] is True


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import tiny_pairs
from cb_core import registry
registry.register_model("tiny_pairs")(tiny_pairs.tiny_pairs)
from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_export.trt.options import EngineOptions
def killed(phase, done, total=None):
    if phase == "Building engine" and done > 100:
        os.kill(os.getpid(), signal.SIGKILL)
options = ExportOptions(format="trt", unverified=True, engine=EngineOptions(flavour="rtx"))
export_checkpoint({checkpoint!r}, options=options, progress=killed)
"""


def test_a_build_that_is_killed_leaves_nothing_under_the_final_name(checkpoint):
    code = KILLED.format(tests=str(Path(__file__).parent), checkpoint=str(checkpoint))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not checkpoint.with_suffix(".engine").exists()
    assert not sidecar_path(checkpoint.with_suffix(".engine")).exists()


@pytest.fixture
def late_fusion(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "tiny_late_fusion": tiny_late_fusion})
    return write_late_fusion(tmp_path / "fusion")


@blind
class TestStages:
    def test_are_engines_of_their_own_and_say_what_is_known_of_them(self, late_fusion):
        done = run("--checkpoint", late_fusion, "--unverified", "--json")
        assert done.exit_code == 0, done.output
        engine = late_fusion.with_suffix(".engine")
        assert json.loads(done.stdout)["staged"] == str(stages_path(engine))
        assert names(late_fusion.parent) == [
            "best.engine",
            "best.engine.json",
            "best.engine.staged",
            "best.golden.npz",
            "best.pt",
        ]
        manifest = read_manifest(engine)
        assert set(manifest.members) == {"encoder_ocr.engine", "encoder_frame.engine", "classifier.engine"}
        assert all((stages_path(engine) / name).read_bytes()[1:4] == b"trt" for name in manifest.members)
        assert (manifest.parity["ok"], manifest.parity["onnx"]["ok"]) == (None, True)
        assert manifest.parity["onnx"]["golden"]["batches"] == [1, 16]

    def test_the_command_says_that_they_were_not_run(self, late_fusion):
        done = run("--checkpoint", late_fusion, "--unverified")
        assert "best.engine.staged, not run here; the ONNX it was built from: Parity holds" in done.stdout

    def test_stand_beside_those_of_an_onnx_file(self, late_fusion):
        assert run("--checkpoint", late_fusion, format_name="onnx").exit_code == 0
        assert run("--checkpoint", late_fusion, "--unverified").exit_code == 0
        assert open_session(late_fusion.with_suffix(".onnx"), device="cpu").stages is not None
        assert read_manifest(late_fusion.with_suffix(".engine")) is not None

    def test_are_left_out_on_request_and_older_ones_go(self, late_fusion):
        assert run("--checkpoint", late_fusion, "--unverified").exit_code == 0
        assert run("--checkpoint", late_fusion, "--unverified", "--no-staged").exit_code == 0
        assert not stages_path(late_fusion.with_suffix(".engine")).exists()

    def test_whose_onnx_does_not_agree_are_not_published(self, late_fusion, monkeypatch):
        monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_classifier)
        page = late_fusion.with_name("report.json")
        done = run("--checkpoint", late_fusion, "--unverified", "--report", page)
        assert done.exit_code == 7
        assert "staged graph does not agree" in done.stderr
        titles = [(graph["title"], graph["ok"]) for graph in json.loads(page.read_text())["graphs"]]
        assert titles == [
            ("ONNX that the artifact was built from", True),
            ("ONNX that the staged graph was built from", False),
        ]
        assert names(late_fusion.parent) == ["best.golden.npz", "best.pt", "report.json"]

    def test_that_fail_are_published_on_request_with_a_warning(self, late_fusion, monkeypatch):
        monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_classifier)
        done = run("--checkpoint", late_fusion, "--unverified", "--allow-parity-failure")
        assert done.exit_code == 0, done.output
        assert "The staged graph was published although it failed" in done.stderr
        assert read_manifest(late_fusion.with_suffix(".engine")).parity["onnx"]["ok"] is False

    def test_of_which_no_cpu_computes_the_onnx_are_unknown(self, late_fusion):
        done = run("--checkpoint", late_fusion, "--unverified", "--precision", "bf16", "--allow-parity-failure")
        assert done.exit_code == 0, done.output
        assert "best.engine.staged, not run here\n" in done.stdout
        parity = read_manifest(late_fusion.with_suffix(".engine")).parity
        assert parity["onnx"]["ok"] is None
        assert "does not compute in bf16" in parity["onnx"]["reason"]

    def test_asked_for_where_frames_are_not_encoded_apart_are_refused(self, checkpoint):
        done = run("--checkpoint", checkpoint, "--unverified", "--staged")
        assert done.exit_code == 2
        assert "cannot be exported in stages" in done.stderr

    def test_what_a_killed_export_left_of_them_is_removed_later(self, late_fusion):
        left = late_fusion.with_name(".best.cb-tmp-abcdefgh.engine.staged")
        left.mkdir()
        os.utime(left, (0, 0))
        assert run("--checkpoint", late_fusion, "--unverified", "--no-staged").exit_code == 0
        assert not left.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--flavor", "rtx"),
        ("--batch", "1:2:4"),
        ("--workspace", "64"),
        ("--timing-cache", "off"),
        ("--hardware-compat", "same-cc"),
        ("--version-compatible", None),
        ("--compute-capability", "8.9"),
        ("--unverified", None),
    ],
)
def test_options_of_engines_are_refused_for_other_formats(checkpoint, option, value):
    done = run("--checkpoint", checkpoint, option, *filter(None, [value]), format_name="onnx")
    assert done.exit_code == 2
    assert f"{option} is for --format trt" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--batch", "8", "--batch takes MIN:OPT:MAX"),
        ("--compute-capability", "9.0", "does not build for compute capability 9.0"),
        ("--hardware-compat", "ampere+", "--hardware-compat is for --flavor tensorrt"),
        ("--version-compatible", None, "--version-compatible is for --flavor tensorrt"),
        ("--timing-cache", "folder", "--timing-cache is for --flavor tensorrt"),
        ("--output", "best.onnx", "must be a file *.engine"),
    ],
)
def test_options_that_cannot_be_obeyed_end_with_exit_code_2(checkpoint, option, value, told):
    done = run("--checkpoint", checkpoint, "--unverified", option, *filter(None, [value]))
    assert done.exit_code == 2, done.output
    assert told in done.stderr


def not_implemented(*given, **options):
    raise ModelError("NOT_IMPLEMENTED : Could not find an implementation for Conv")


def network(precision, run):
    return Network(ModelMetadata("tiny_pairs", precision=precision), run)


def test_an_onnx_that_no_cpu_computes_leaves_the_engine_unknown_and_others_are_broken(monkeypatch):
    monkeypatch.setattr("cb_export.proof.open_session", not_implemented)
    golden, reference = golden_of(seeded_model(), count=5), lambda inputs: logits_of(seeded_model(), inputs)
    given = ("no GPU", Path("a.onnx"), reference, golden, (1,), lambda *told: None)
    outcome = gate_source(*given, network("bf16", reference))
    assert not outcome
    assert outcome.network
    assert outcome.compared is outcome.network
    assert outcome.to_dict()["onnx"] == {"ok": None, "reason": outcome.onnx_reason}
    assert outcome.to_dict()["network"]["engine"]["engine"] == "PyTorch"
    assert "does not compute in bf16" in str(outcome)
    assert "run by PyTorch:\nGolden samples: Parity holds at bf16" in str(outcome)
    with pytest.raises(ModelError, match="NOT_IMPLEMENTED"):
        gate_source(*given, network("fp32", reference))


def test_a_lora_checkpoint_is_merged_on_its_way_into_an_engine(tmp_path):
    checkpoint = write_run(tmp_path, lora=True)
    agreed = [] if engine_runs_here() else ["--unverified"]
    assert run("--checkpoint", checkpoint, *agreed).exit_code == 0
    assert read_sidecar(checkpoint.with_suffix(".engine")).metadata.lora_merge["layers"] == 1
