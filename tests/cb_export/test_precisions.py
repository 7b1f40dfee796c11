"""Reduced precisions: fp16 and int8 artifacts, whole and in stages."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from tiny_late_fusions import ROLES, seeded_late_fusion, tiny_late_fusion
from tiny_pairs import golden_of, random_inputs, seeded_model, write_run
from torch import nn

from cb_core import registry
from cb_core.checkpoint import save_checkpoint
from cb_core.deployment import DeploymentModel
from cb_core.models import load_starting_checkpoint
from cb_export.cli.export import export
from cb_export.gate import probe_tolerances
from cb_export.graph import trace, trace_part
from cb_export.half import fold_batch_norm, half_model
from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_export.quantize import quantized_weight
from cb_export.source import read_source
from cb_export.stages import EncoderStage, _encoder_samples
from cb_export.targets import TargetOptions
from cb_export.targets import onnx as onnx_target
from cb_runtime.contract import INPUT_NAMES, Decoding, ModelMetadata
from cb_runtime.errors import ModelError, ParityError, UsageError
from cb_runtime.golden import golden_path
from cb_runtime.models import default_model_path
from cb_runtime.onnx_artifact import metadata_of_file
from cb_runtime.parity import TOLERANCES
from cb_runtime.session import open_session
from cb_runtime.stages import encoder_specs, stages_path


def tensors(count=4):
    return {name: torch.from_numpy(values) for name, values in random_inputs(count).items()}


def write_pairs(folder, count=40):
    checkpoint = write_run(folder)
    golden_of(seeded_model(), count).save(golden_path(checkpoint))
    return checkpoint


def test_golden_samples_part_into_halves_that_share_none_and_have_every_label():
    golden = golden_of(seeded_model(), 20)
    one, other = golden.halves()
    assert len(one) == len(other) == 10
    assert set(one.labels) == set(other.labels) == set(range(5))
    together = np.concatenate([one.logits, other.logits])
    assert len(np.unique(together, axis=0)) == len(np.unique(golden.logits, axis=0)) == 20


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_reduced_precision_is_published_with_its_name(tmp_path, precision):
    checkpoint = write_pairs(tmp_path)
    result = export_checkpoint(checkpoint, options=ExportOptions(precision=precision, allow_parity_failure=True))
    session = open_session(result.path)
    assert session.metadata.precision == result.report.golden.precision == precision
    assert session.run(random_inputs(3)).dtype == np.float32
    assert result.report.golden.argmax_agreement > 0.9
    assert (session.metadata.calibration is not None) == (precision == "int8")


def test_what_int8_was_calibrated_on_is_recorded_and_not_judged(tmp_path):
    result = export_checkpoint(
        write_pairs(tmp_path), options=ExportOptions(precision="int8", allow_parity_failure=True)
    )
    record = result.metadata.calibration
    assert record["samples"] == 20
    assert record["overlaps_parity"] is False
    assert len(record["sha256"]) == 64
    assert result.report.golden.samples == 20


def test_int8_is_symmetric_with_a_scale_for_each_channel_and_float_biases_and_head(tmp_path):
    result = export_checkpoint(
        write_pairs(tmp_path), options=ExportOptions(precision="int8", allow_parity_failure=True)
    )
    graph = onnx.load(result.path).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert all(not values[node.input[2]].any() for node in pairs)
    assert all(values[node.input[2]].dtype == np.int8 for node in pairs)
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 6
    assert {values[made[node.input[1]].input[1]].shape for node in convolutions} == {(8,)}
    assert len({made[node.input[1]].input[0] for node in convolutions}) == 2, "shared weights are in the file once"
    assert all(values[node.input[2]].dtype == np.float32 for node in convolutions)
    (head,) = [node for node in graph.node if node.op_type == "Gemm"]
    assert values[head.input[1]].dtype == np.float32


def test_weights_come_back_within_half_a_step_of_their_channel():
    values = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    values[2] = 0
    scales, integers = quantized_weight(values, 0)
    back = integers * scales[:, None, None, None]
    assert (np.abs(back - values) <= scales[:, None, None, None] * 0.5001).all()
    assert not back[2].any()


def test_two_products_of_a_weight_and_an_activation_fit_into_16_bits():
    _, integers = quantized_weight(np.linspace(-3, 3, 64, dtype=np.float32).reshape(4, 4, 2, 2), 0)
    assert 2 * 255 * int(np.abs(integers).max()) < 2**15
    assert int(np.abs(integers).max()) > 2**15 // (2 * 255) - 2, "no more room is left than needed"


@pytest.mark.parametrize("kind", sorted(ROLES))
def test_integer_kernels_compute_what_the_pairs_in_the_file_say(tmp_path, kind):
    ort = pytest.importorskip("onnxruntime")
    inputs = random_inputs(4, seed=1)
    path = deeper_int8(tmp_path, kind)
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # computes the pairs in float
    literal = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (wanted,) = literal.run(None, dict(inputs))
    np.testing.assert_allclose(open_session(path).run(inputs), wanted, atol=0.02 * np.abs(wanted).max())


def test_int8_with_too_few_samples_is_refused(tmp_path):
    with pytest.raises(UsageError, match="at least 8 calibration samples"):
        export_checkpoint(write_run(tmp_path), options=ExportOptions(precision="int8"))
    assert not (tmp_path / "best.onnx").exists()


def test_a_graph_with_nothing_to_quantise_is_refused(tmp_path):
    metadata = ModelMetadata("tiny_pairs", precision="int8")
    graph = trace(fold_batch_norm(DeploymentModel(seeded_model()).eval(), tensors()))
    options = TargetOptions(precision="int8", calibration=random_inputs(8), keep_float=("encoder",))
    with pytest.raises(ModelError, match="nothing to quantise besides what --keep-float names"):
        onnx_target.build(graph, metadata, options, tmp_path / "a.onnx")
    head = trace(DeploymentModel(OnlyHead()).eval())
    with pytest.raises(ModelError, match=r"nothing to quantise\."):
        onnx_target.calibrated_graph(head, TargetOptions(precision="int8", calibration=random_inputs(8)))


class OnlyHead(nn.Module):
    """Nothing but what int8 leaves in float."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(518, 5)

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        pictures = (ocr_viz + frame1 + frame2).mean(dim=(1, 2, 3)).unsqueeze(1)
        return self.head(torch.cat([spatial_features, font_embedding], dim=1)) + pictures


def test_a_precision_that_a_format_lacks_ends_with_exit_code_2(checkpoint):
    done = CliRunner().invoke(export, ["--checkpoint", str(checkpoint), "--precision", "bf16"])
    assert done.exit_code == 2
    assert "written in fp32, fp16, int8 or auto, not in 'bf16'" in done.stderr


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_stages_have_the_precision_of_their_artifact(tmp_path, monkeypatch, precision):
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "tiny_late_fusion": tiny_late_fusion})
    kind = next(iter(ROLES))
    model = seeded_late_fusion(kind)
    metadata = ModelMetadata("tiny_late_fusion", model_config={"kind": kind})
    save_checkpoint(tmp_path / "best.pt", epoch=1, model=model, metadata=metadata)
    golden_of(model, 40).save(golden_path(tmp_path / "best.pt"))
    options = ExportOptions(precision=precision, allow_parity_failure=True)
    result = export_checkpoint(tmp_path / "best.pt", options=options)
    assert result.staged.golden.precision == precision
    encoder = onnx.load(stages_path(result.path) / "encoder_image.onnx").graph
    kinds = {tensor.data_type for tensor in encoder.initializer}
    assert (onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.INT8) in kinds


def test_folding_leaves_no_batch_norm_and_the_model_as_it_was():
    model = DeploymentModel(seeded_model()).eval()
    model.architecture.encoder[1].running_var.fill_(3.0)
    folded = fold_batch_norm(model, tensors())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(folded(**tensors()), model(**tensors()), atol=1e-5, rtol=0)


class UsedTwice(nn.Module):
    """A convolution whose output is read beside its BatchNorm."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)
        self.norm.running_var.fill_(9.0)

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        found = self.layer(frame1)
        return (self.norm(found) + found).mean(dim=(2, 3))


def test_folding_that_would_change_the_model_is_refused():
    with pytest.raises(ParityError, match="Folding BatchNorm changed a logit"):
        fold_batch_norm(DeploymentModel(UsedTwice()).eval(), tensors())


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_has_half_weights_and_float32_logits(precision, dtype):
    half = half_model(DeploymentModel(seeded_model()).eval(), precision, tensors())
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    assert half.mean.dtype == torch.float32
    assert half(**tensors()).dtype == torch.float32


def test_probes_are_judged_by_margin_below_float32_and_reported_for_int8():
    assert probe_tolerances("fp32") == TOLERANCES["fp32"]
    assert probe_tolerances("fp16").flip_margin == TOLERANCES["fp16"].flip_margin
    assert probe_tolerances("fp16").argmax_agreement == 0
    assert probe_tolerances("int8").flip_margin is None
    assert set(dataclasses.asdict(TOLERANCES["int8"])) >= {"macro_f1_loss"}
    assert list(random_inputs(1)) == list(INPUT_NAMES)


def test_a_vision_transformer_in_half_precision_opens_on_a_cpu(tmp_path):
    from cb_core.registry import create_model_for_weights

    model = DeploymentModel(create_model_for_weights("shared_backbone_vit", {})).eval()
    graph = trace(half_model(model, "fp16", tensors(2)))
    path = tmp_path / "vit.onnx"
    onnx_target.build(
        graph, ModelMetadata("shared_backbone_vit", precision="fp16"), TargetOptions(precision="fp16"), path
    )
    opened = (
        "import sys; from cb_runtime.session import open_session; "
        "open_session(sys.argv[1], device='cpu', backend='onnxruntime')"
    )
    # In a process of its own: ONNX Runtime used to die of it.
    done = subprocess.run([sys.executable, "-c", opened, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", sorted(ROLES))
def test_one_int8_file_decides_in_openvino_as_in_onnx_runtime(tmp_path, kind):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install 'cb-toolkit[openvino]'")
    path, inputs = deeper_int8(tmp_path, kind), random_inputs(4, seed=1)
    wanted = open_session(path).run(inputs)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = compiled([inputs[name] for name in INPUT_NAMES])[0]
    np.testing.assert_allclose(got, wanted, atol=0.05 * np.abs(wanted).max())


def deeper_int8(folder, kind):
    """Write a late fusion in int8 whose encoders are `deeper`."""
    model = seeded_late_fusion(kind)
    model.encoders = nn.ModuleDict({name: deeper() for name in model.encoders})
    graph = trace(fold_batch_norm(DeploymentModel(model).eval(), tensors()))
    options = TargetOptions(precision="int8", calibration=random_inputs(16))
    onnx_target.build(graph, ModelMetadata("tiny_late_fusion", precision="int8"), options, folder / "a.onnx")
    return folder / "a.onnx"


def deeper():
    """An encoder whose second convolution can be quantised: the first one reads a concatenation."""
    return nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def test_a_convolution_of_a_concatenation_stays_in_float():
    model = seeded_late_fusion("shared")
    model.encoders = nn.ModuleDict({"image": deeper()})
    graph = trace(fold_batch_norm(DeploymentModel(model).eval(), tensors()))
    calibrated = onnx_target.calibrated_graph(graph, TargetOptions(precision="int8", calibration=random_inputs(8)))
    assert set(calibrated.modules.values()) == {"encoders.image.2"}


def pooling():
    """An encoder that pools to one number for each channel, as ResNets do."""
    return nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_a_pooling_encoder_reads_no_batch_size_and_answers_in_openvino_as_in_onnx_runtime(tmp_path):
    """A graph that does makes OpenVINO, told nothing else, mix up the biases of quantised convolutions."""
    torch.manual_seed(0)
    metadata, encoder = ModelMetadata("tiny"), pooling().eval()
    pictures, features = encoder_specs(metadata, (8,))
    graph = trace_part(EncoderStage(encoder, metadata.preprocessing).eval(), (pictures,), (features,))
    given = random_inputs(16, seed=1)["frame1"]
    options = TargetOptions(precision="int8", calibration={"pictures": given})
    onnx_target.build_part(graph, options, tmp_path / "part.onnx")
    assert not {"Shape", "Gather"} & {node.op_type for node in onnx.load(tmp_path / "part.onnx").graph.node}
    ort, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    wanted = ort.InferenceSession(tmp_path / "part.onnx").run(None, {"pictures": given})[0]
    compiled = openvino.Core().compile_model(tmp_path / "part.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([given])[0], wanted, atol=0.02 * np.abs(wanted).max())


def test_an_installed_engine_that_answers_otherwise_in_int8_fails_the_gate_of_the_stages(tmp_path, monkeypatch):
    backend = pytest.importorskip("cb_runtime.backends.openvino")
    pytest.importorskip("openvino")
    monkeypatch.setattr(registry, "_factories", {**registry._factories, "tiny_late_fusion": tiny_late_fusion})
    save_checkpoint(
        tmp_path / "best.pt",
        epoch=1,
        model=(model := seeded_late_fusion("shared")),
        metadata=ModelMetadata("tiny_late_fusion", model_config={"kind": "shared"}),
    )
    golden_of(model, 40).save(golden_path(tmp_path / "best.pt"))
    options = ExportOptions(precision="int8", allow_parity_failure=True)
    assert not export_checkpoint(tmp_path / "best.pt", options=options).staged.failures
    right = backend.OpenVinoPart.run
    monkeypatch.setattr(backend.OpenVinoPart, "run", lambda self, feeds: right(self, feeds) * np.float32("nan"))
    staged = export_checkpoint(tmp_path / "best.pt", options=options).staged
    assert not staged
    assert staged.failures[-1].startswith("Run by openvino, it does not answer as PyTorch did: an answer is not")


def test_a_stage_keeps_in_float_what_the_artifact_does():
    options = TargetOptions(precision="int8", calibration=random_inputs(8))
    for names, kept in (
        (("encoders.frame.3",), ("3",)),
        (("encoders.frame",), ("",)),
        (("encoders",), ("",)),
        (("encoders.ocr.3", "classifier"), ()),
    ):
        stage = _encoder_samples(ROLES["frames"], "frame", dataclasses.replace(options, keep_float=names))
        assert stage.keep_float == kept
        assert len(stage.calibration["pictures"]) == 16


def test_the_model_in_the_box_is_a_checkpoint_too():
    source = read_source(Path("default"), ExportOptions())
    assert source.metadata.architecture_name == "aligned_comparison"
    assert source.golden_file.name == "default.golden.npz"
    tuned = metadata_of_file(default_model_path()).decoding
    assert source.metadata.decoding == tuned != Decoding(), "tuned after training, it stands in the artifact alone"
    assert load_starting_checkpoint("default").metadata.decoding == tuned
