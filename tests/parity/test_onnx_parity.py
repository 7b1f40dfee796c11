"""Every architecture that comes with cb, at its real size: PyTorch against the exported ONNX in each engine for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cb_core.checkpoint import save_checkpoint
from cb_core.deployment import DeploymentModel
from cb_core.registry import create_model_for_weights, example_inputs, get_model_info, list_architectures
from cb_export.gate import reference_from_model
from cb_export.pipeline import ExportOptions, export_checkpoint
from cb_runtime.backends import backends_for
from cb_runtime.contract import IMAGE_INPUTS, ModelMetadata, graph_input_specs
from cb_runtime.parity import TOLERANCES, GoldenSamples, golden_path
from cb_runtime.session import open_session

SAMPLES = 4
BATCHES = (1, 2, 3)

# Other tests register small architectures of their own while they are collected.
OWN = [name for name in list_architectures() if get_model_info(name).module.startswith("cb_core.architectures.")]


def random_inputs(seed):
    rng = np.random.default_rng(seed)
    pictures = {
        spec.name: rng.integers(0, 256, (SAMPLES, *spec.shape[1:]), np.uint8)
        for spec in graph_input_specs()
        if spec.dtype == "uint8"
    }
    vectors = {
        spec.name: rng.standard_normal((SAMPLES, *spec.shape[1:]), np.float32)
        for spec in graph_input_specs()
        if spec.dtype == "float32"
    }
    return {**pictures, **vectors}


def fades(model):
    """Tell whether a new model's pictures change nothing: with BatchNorm's first statistics, deep ones fade away."""
    inputs = example_inputs(1)
    with torch.inference_mode():
        return torch.allclose(model(**inputs), model(**{**inputs, "frame1": -inputs["frame1"]}), rtol=0, atol=1e-6)


def settle_statistics(model):
    """Give BatchNorm the statistics of pictures between flat and noisy, as the gate's own are."""
    settled = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in settled:
        module.momentum = 1.0
    inputs = {name: torch.from_numpy(values) for name, values in random_inputs(2).items()}
    contrast = torch.linspace(0, 1, SAMPLES).view(-1, 1, 1, 1)
    for name in IMAGE_INPUTS:
        inputs[name] = (inputs[name] * contrast + 255 * (1 - contrast) * torch.rand(SAMPLES, 1, 1, 1)).byte()
    with torch.no_grad():
        DeploymentModel(model).train()(**inputs)
        for module in settled:
            # Channels that hardly varied would make rounding errors of anything else large.
            module.running_var.clamp_(min=float(module.running_var.mean()))
    model.eval()


def model_with_settled_weights(name):
    """Return a model as training might leave it: adapters that do something, logits of a real network's size."""
    torch.manual_seed(0)
    model = create_model_for_weights(name, {}).eval()
    if fades(model):
        settle_statistics(model)
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.02)
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    torch.nn.init.normal_(last.weight, std=0.5)
    return model


def test_no_architecture_of_the_package_is_left_out():
    families = ("triple_backbone", "shared_backbone", "channel_fusion_lora", "compact_aligned", "cross_attention")
    assert all(any(name.startswith(family) for name in OWN) for family in families)


@pytest.mark.parametrize("name", OWN)
def test_an_architecture_decides_in_every_engine_as_in_pytorch(name, tmp_path):
    model = model_with_settled_weights(name)
    reference = reference_from_model(DeploymentModel(model).eval())
    inputs = random_inputs(0)
    checkpoint = tmp_path / "best.pt"
    save_checkpoint(checkpoint, epoch=0, model=model, metadata=ModelMetadata(name))
    logits = reference(inputs)
    GoldenSamples(inputs, logits, np.arange(SAMPLES, dtype=np.int64) % 2).save(golden_path(checkpoint))

    result = export_checkpoint(checkpoint, options=ExportOptions(batches=BATCHES))
    assert result.report, str(result.report)
    assert result.report.golden.batches == BATCHES
    assert result.report.golden.argmax_agreement == 1
    assert all(effect > 1e-3 for effect, _ in result.report.effects.values()), result.report.effects
    assert (result.metadata.lora_merge is not None) == ("lora" in name)

    unseen = random_inputs(1)
    wanted = reference(unseen)
    engines = [engine for engine, backend in backends_for(result.path) if backend.available().ok]
    assert "onnxruntime" in engines
    for engine in engines:
        session = open_session(result.path, device="cpu", backend=engine, measure=False)
        for graph in filter(None, (session, session.stages)):
            assert np.abs(graph.run(unseen) - wanted).max() <= TOLERANCES["fp32"].max_abs_difference, engine
