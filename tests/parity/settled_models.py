"""Every architecture that comes with cb, at its real size and as training might leave it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cb_core.checkpoint import save_checkpoint
from cb_core.deployment import DeploymentModel
from cb_core.registry import create_model_for_weights, example_inputs, get_model_info, list_architectures
from cb_export.gate import reference_from_model
from cb_runtime.contract import IMAGE_INPUTS, ModelMetadata, graph_input_specs
from cb_runtime.parity import GoldenSamples, golden_path

SAMPLES = 4

# Other tests register small architectures of their own while they are collected.
OWN = [name for name in list_architectures() if get_model_info(name).module.startswith("cb_core.architectures.")]


def random_inputs(seed, samples=SAMPLES):
    rng = np.random.default_rng(seed)
    pictures = {
        spec.name: rng.integers(0, 256, (samples, *spec.shape[1:]), np.uint8)
        for spec in graph_input_specs()
        if spec.dtype == "uint8"
    }
    vectors = {
        spec.name: rng.standard_normal((samples, *spec.shape[1:]), np.float32)
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


def saved(name, folder: Path, samples=SAMPLES):
    """Return a checkpoint of such a model, with golden samples, and what answers as it does."""
    model = model_with_settled_weights(name)
    reference = reference_from_model(DeploymentModel(model).eval())
    checkpoint, inputs = folder / "best.pt", random_inputs(0, samples)
    save_checkpoint(checkpoint, epoch=0, model=model, metadata=ModelMetadata(name))
    labels = np.arange(samples, dtype=np.int64) % 2
    GoldenSamples(inputs, reference(inputs), labels).save(golden_path(checkpoint))
    return checkpoint, reference
