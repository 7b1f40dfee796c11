"""`cb export --triton`: a repository as Triton's own schema has it, with what was proven and nothing else."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from test_export_command import wrong_bias
from tiny_pairs import logits_of, random_inputs, seeded_model, tiny_pairs, write_run

from cb_core import registry
from cb_export.cli.export import export
from cb_export.targets import TargetOptions
from cb_export.targets import onnx as onnx_target
from cb_export.targets import tensorrt as trt_target
from cb_export.triton import check_place, config, write_model
from cb_export.triton import export as triton_export
from cb_export.trt.choice import Choice
from cb_export.trt.options import EngineOptions
from cb_runtime.contract import LABELS, ModelMetadata, TensorSpec, metadata_from_json
from cb_runtime.errors import MissingPackageError, ModelError, ParityError, StorageError, UsageError
from cb_runtime.session import open_session
from cb_runtime.trt.flavours import RTX
from cb_runtime.trt.sidecar import BatchProfile, EngineRecord, read_sidecar, this_platform

messages = pytest.importorskip(
    "tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed: pip install 'cb-toolkit[triton]'"
)
text_format = pytest.importorskip("google.protobuf.text_format")


def run(*arguments):
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def config_of(folder):
    """Read a model's configuration with Triton's schema, and nothing of ours."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), messages.ModelConfig())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the folder of a model that was exported as ONNX; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    registry.list_architectures()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_factories", {**registry._factories, "tiny_pairs": tiny_pairs})
        done = run("--checkpoint", write_run(folder), "--triton", folder / "models", "--batches", "1,2,7")
    assert done.exit_code == 0, done.output
    assert "up to 7 pairs" in done.stdout
    return folder / "models" / "best"


class TestOnnx:
    @pytest.fixture
    def folder(self, exported, tmp_path):
        return shutil.copytree(exported, tmp_path / "models" / "best")

    def test_the_repository_is_all_that_is_written_and_whole(self, exported):
        folder = exported
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        assert names == ["1", "1/model.onnx", "config.pbtxt", "contract.json", "labels.txt"]
        assert [path.name for path in folder.parent.iterdir()] == ["best"]
        beside = {path.name for path in folder.parent.parent.iterdir()}
        assert beside == {"models", "best.golden.npz", "best.pt"}

    def test_triton_is_told_the_tensors_that_stand_in_the_onnx_file(self, exported):
        found = config_of(exported)
        graph = onnx.load(exported / "1" / "model.onnx").graph
        for told, values in ((found.input, graph.input), (found.output, graph.output)):
            assert [tensor.name for tensor in told] == [value.name for value in values]
            for tensor, value in zip(told, values, strict=True):
                batch, *row = value.type.tensor_type.shape.dim
                assert batch.dim_param
                assert list(tensor.dims) == [axis.dim_value for axis in row]
                names = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
                assert messages.DataType.Name(tensor.data_type) == names[value.type.tensor_type.elem_type]

    def test_triton_is_told_what_runs_it_and_how_it_may_be_batched(self, exported):
        found = config_of(exported)
        assert (found.name, found.backend, found.platform) == ("best", "onnxruntime", "onnxruntime_onnx")
        assert found.default_model_filename == "model.onnx"
        assert found.HasField("dynamic_batching")
        assert found.max_batch_size == 7, "the largest batch that the gate proved"
        assert not found.cc_model_filenames

    def test_the_model_is_warmed_up_with_one_pair_and_with_the_largest_batch(self, exported):
        found = config_of(exported)
        assert [warm_up.batch_size for warm_up in found.model_warmup] == [1, 7]
        for warm_up in found.model_warmup:
            assert warm_up.inputs.keys() == {tensor.name for tensor in found.input}
            for tensor in found.input:
                sent = warm_up.inputs[tensor.name]
                assert (sent.data_type, list(sent.dims), sent.zero_data) == (tensor.data_type, list(tensor.dims), True)

    def test_labels_and_contract_stand_beside_it(self, exported):
        found = config_of(exported)
        assert (exported / found.output[0].label_filename).read_text().splitlines() == list(LABELS)
        metadata = open_session(exported / "1" / "model.onnx").metadata
        assert metadata_from_json((exported / "contract.json").read_text()) == metadata
        assert metadata_from_json(found.parameters["cb_contract"].string_value) == metadata

    def test_the_model_in_it_answers_as_the_checkpoint(self, exported):
        inputs = random_inputs(3)
        answer = open_session(exported / "1" / "model.onnx").run(inputs)
        np.testing.assert_allclose(answer, logits_of(seeded_model(), inputs), atol=1e-5)

    def test_another_export_replaces_it_and_leaves_other_models_alone(self, folder, checkpoint):
        other = folder.parent / "theirs" / "config.pbtxt"
        other.parent.mkdir()
        other.write_text("theirs")
        (folder / "1" / "old").write_text("x")
        done = run("--checkpoint", checkpoint, "--triton", folder.parent, "--batches", "1,2", "--json")
        document = json.loads(done.stdout)
        assert (document["model"], document["max_batch_size"]) == (str(folder), 2)
        assert document["parity"]["ok"] is True
        assert config_of(folder).max_batch_size == 2
        assert not (folder / "1" / "old").exists()
        assert other.read_text() == "theirs"

    def test_a_failed_gate_leaves_the_older_model_as_it_was(self, folder, checkpoint, monkeypatch):
        before = (folder / "contract.json").read_text()
        monkeypatch.setattr(onnx_target, "_onnx_from_graph", wrong_bias)
        assert run("--checkpoint", checkpoint, "--triton", folder.parent).exit_code == 7
        assert (folder / "contract.json").read_text() == before
        assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_the_name_of_the_model_can_be_chosen(checkpoint, tmp_path):
    where = ["--triton", tmp_path / "models", "--triton-name", "captions-2"]
    done = run("--checkpoint", checkpoint, *where, "--batches", "1", "--report", tmp_path / "gate.json")
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "models") in (tmp_path / "gate.json").read_text(), "the report says of what it is"
    tmp_path /= "models"
    assert config_of(tmp_path / "captions-2").name == "captions-2"
    assert [warm_up.batch_size for warm_up in config_of(tmp_path / "captions-2").model_warmup] == [1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--triton", "m", "--output", "a.onnx"], "Give either --output or --triton"),
        (["--triton", "m", "--package", "a.cbx"], "Give either --package or --triton"),
        (["--triton", "m", "--staged"], "--staged and --triton exclude each other"),
        (["--triton", "m", "--allow-parity-failure"], "--allow-parity-failure and --triton exclude each other"),
        (["--triton", "m", "--format", "trt", "--unverified"], "--unverified and --triton exclude each other"),
        (["--triton", "m", "--triton-name", "a/b"], "named by letters"),
        (["--triton", "m", "--triton-name", ""], "named by letters"),
        (["--triton-name", "m"], "give --triton too"),
    ],
)
def test_options_that_cannot_be_obeyed_end_with_exit_code_2(checkpoint, monkeypatch, options, says):
    monkeypatch.chdir(checkpoint.parent)
    done = run("--checkpoint", checkpoint, *options)
    assert done.exit_code == 2, done.output
    assert says in done.stderr
    assert not (checkpoint.parent / "m").exists()


def test_engines_of_tensorrt_for_rtx_are_refused_before_they_are_built(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("cb_export.trt.choice.choose", lambda options: Choice(RTX, "", None, ("8.9",)))
    done = run("--checkpoint", checkpoint, "--triton", tmp_path, "--format", "trt")
    assert done.exit_code == 2
    assert "Triton runs engines of standard TensorRT" in done.stderr


@pytest.mark.parametrize("content", [None, "{}", "\udcff", "theirs"])
def test_a_folder_that_is_not_ours_is_never_replaced(checkpoint, tmp_path, content):
    folder = tmp_path / "models" / "best"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "contract.json").write_bytes(content.encode(errors="surrogateescape"))
    (folder / "mine.txt").write_text("kept")
    done = run("--checkpoint", checkpoint, "--triton", folder.parent)
    assert done.exit_code == 2
    assert "so `cb export` did not write it and will not replace it" in done.stderr
    assert (folder / "mine.txt").read_text() == "kept"


def test_a_repository_that_cannot_be_written_is_named_before_anything_is_built(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(onnx_target, "build", None)
    done = run("--checkpoint", checkpoint, "--triton", tmp_path / "file")
    assert done.exit_code == StorageError.exit_code
    assert "file cannot be written" in done.stderr
    with pytest.raises(StorageError, match="cannot be written"):
        check_place(tmp_path / "file" / "models", "best")


@pytest.mark.parametrize("module", ["tritonclient", "grpc"])
def test_without_tritons_schema_the_extra_is_named_before_anything_is_built(checkpoint, tmp_path, monkeypatch, module):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tritonclient"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(triton_export, "check_place", None)
    with pytest.raises(MissingPackageError, match=r"cb-toolkit\[triton\]"):
        config.schema()
    done = run("--checkpoint", checkpoint, "--triton", tmp_path / "models")
    assert done.exit_code == 2
    assert f"{module}" in done.stderr


def test_what_triton_does_not_know_is_refused_by_its_own_schema():
    with pytest.raises(ModelError, match=r"does not take this configuration: .*max_batch"):
        config.config_from_text('name: "a" max_batch: 7')


@pytest.mark.parametrize("shape", [(2, 6), ("batch", "any")])
def test_tensors_that_triton_cannot_batch_are_refused(shape):
    metadata = ModelMetadata("x", inputs=(TensorSpec("spatial_features", "float32", shape),))
    with pytest.raises(ModelError, match="'spatial_features' is"):
        config.model_config("x", metadata, config.Engine("onnxruntime", "", "model.onnx"), 1)


def parity(*batches):
    return {"ok": True, "golden": {"batches": list(batches)}}


METADATA = ModelMetadata("x", checkpoint_sha256="a" * 64, parity=parity(1, 8, 16))


def engine(folder, capability="8.9", plan=b"plan", **changes):
    """Write an engine as a build on a GPU would leave it; returns its path and metadata."""
    path = folder / "model.engine"
    path.write_bytes(plan + capability.encode())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    profile = BatchProfile(1, 8, 16)
    record = EngineRecord(
        digest, "tensorrt", "11.4", this_platform(), (capability,), "none", profile, METADATA
    ).replace(**changes)
    record.save(path)
    return path, record.metadata


class TestEngines:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "models" / "captions"
        write_model(folder, *engine(tmp_path))
        return folder

    def test_an_engine_is_served_to_the_gpus_it_is_for(self, folder):
        found = config_of(folder)
        assert (found.backend, found.platform) == ("tensorrt", "tensorrt_plan")
        assert dict(found.cc_model_filenames) == {"8.9": "model_8.9.plan"}
        assert found.default_model_filename == ""
        assert (folder / "1" / "model_8.9.plan").read_bytes() == b"plan8.9"
        assert read_sidecar(folder / "1" / "model_8.9.plan").metadata == METADATA

    def test_engines_for_other_gpus_join_it_and_the_batch_fits_all(self, folder, tmp_path):
        smaller = METADATA.replace(parity=parity(1, 4, 6, 16))
        model = write_model(folder, *engine(tmp_path, "9.0", metadata=smaller, profile=BatchProfile(1, 4, 6)))
        assert model.files == ("model_9.0.plan", "model_8.9.plan")
        found = config_of(folder)
        assert dict(found.cc_model_filenames) == {"8.9": "model_8.9.plan", "9.0": "model_9.0.plan"}
        assert found.max_batch_size == model.largest_batch == 6
        assert (folder / "1" / "model_8.9.plan").read_bytes() == b"plan8.9"
        assert (folder / "1" / "model_9.0.plan.json").is_file()

    def test_an_engine_for_the_same_gpu_replaces_it(self, folder, tmp_path):
        model = write_model(folder, *engine(tmp_path, plan=b"new"))
        assert (model.files, model.left_out) == (("model_8.9.plan",), ())
        assert (folder / "1" / "model_8.9.plan").read_bytes() == b"new8.9"

    def test_an_engine_for_ampere_and_later_is_served_to_all_that_have_none_of_their_own(self, folder, tmp_path):
        write_model(folder, *engine(tmp_path, "8.0", hardware_compat="ampere+"))
        found = config_of(folder)
        assert found.default_model_filename == "model.plan"
        assert dict(found.cc_model_filenames) == {"8.9": "model_8.9.plan"}
        assert (folder / "1" / "model.plan").is_file()

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"metadata": METADATA.replace(checkpoint_sha256="b" * 64)}, r"another model \(checkpoint_sha256 differ\)"),
            ({"metadata": METADATA.replace(precision="fp16")}, "computes in fp32, the new engine in fp16"),
            ({"tensorrt_version": "11.5"}, "built by TensorRT 11.4, the new engine by 11.5"),
        ],
    )
    def test_engines_that_do_not_belong_to_the_new_one_are_left_out_and_told(self, folder, tmp_path, changes, says):
        model = write_model(folder, *engine(tmp_path, "9.0", **changes))
        assert model.files == ("model_9.0.plan",)
        (line,) = model.left_out
        assert line.startswith("model_8.9.plan was left out: ")
        assert re.search(says, line)
        assert not (folder / "1" / "model_8.9.plan").exists()

    def test_an_engine_that_was_changed_is_not_kept(self, folder, tmp_path):
        (folder / "1" / "model_8.9.plan").write_bytes(b"other")
        model = write_model(folder, *engine(tmp_path, "9.0"))
        assert model.files == ("model_9.0.plan",)
        assert "SHA-256 differs" in model.left_out[0]

    def test_an_onnx_model_is_replaced_by_an_engine_as_a_whole(self, exported, tmp_path):
        folder = shutil.copytree(exported, tmp_path / "models" / "best")
        model = write_model(folder, *engine(tmp_path))
        assert (model.files, model.left_out) == (("model_8.9.plan",), ())
        assert not (folder / "1" / "model.onnx").exists()

    def test_an_engine_that_takes_no_single_pair_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match=r"takes 4 or more\. Export with --batch 1:8:16"):
            write_model(tmp_path / "m", *engine(tmp_path, profile=BatchProfile(4, 8, 16)))

    def test_an_engine_of_tensorrt_for_rtx_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="Triton runs engines of standard TensorRT"):
            write_model(tmp_path / "m", *engine(tmp_path, flavour="rtx"))

    @pytest.mark.parametrize("outcome", [None, {"ok": None}, {"ok": False}])
    def test_an_engine_nobody_proved_is_refused(self, tmp_path, outcome):
        with pytest.raises(ParityError, match="has not passed the parity gate"):
            write_model(tmp_path / "m", *engine(tmp_path, metadata=METADATA.replace(parity=outcome)))

    def test_an_artifact_whose_gate_names_no_batch_is_refused(self, tmp_path):
        with pytest.raises(ModelError, match="at which batch sizes"):
            write_model(tmp_path / "m", *engine(tmp_path, metadata=METADATA.replace(parity={"ok": True})))


def test_a_full_disk_leaves_the_older_model_and_nothing_else(tmp_path, monkeypatch):
    folder = tmp_path / "models" / "captions"
    write_model(folder, *engine(tmp_path))

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(StorageError, match=r"disk is full.*captions was not written"):
        write_model(folder, *engine(tmp_path, "9.0"))
    assert [path.name for path in folder.parent.iterdir()] == ["captions"]
    assert dict(config_of(folder).cc_model_filenames) == {"8.9": "model_8.9.plan"}


@pytest.mark.gpu
def test_with_a_gpu_the_engine_in_the_repository_passes_the_gate(checkpoint, tmp_path):
    arguments = ["--format", "trt", "--flavor", "tensorrt", "--batch", "1:4:8", "--json"]
    try:
        status = trt_target.runs_here(TargetOptions(engine=EngineOptions(flavour="tensorrt")))
    except MissingPackageError as error:
        pytest.skip(str(error))
    if not status.ok:
        pytest.skip(status.detail)
    done = run("--checkpoint", checkpoint, "--triton", tmp_path / "models", *arguments)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["max_batch_size"] == 8
    assert document["parity"]["ok"] is True
    (name,) = document["files"]
    assert config_of(tmp_path / "models" / "best").cc_model_filenames.values() == [name]
