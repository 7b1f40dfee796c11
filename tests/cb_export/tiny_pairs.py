"""A stand-in for real architectures: it obeys the contract and exports in about a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from cb_core.checkpoint import save_checkpoint
from cb_core.deployment import DeploymentModel
from cb_runtime.contract import INPUT_NAMES, LABELS, ModelMetadata, graph_input_specs
from cb_runtime.parity import GoldenSamples, golden_path


class TinyPairs(nn.Module):
    """A network of the contract's shape that exports in about a second."""

    def __init__(self, lora: bool = False, place: float = 0.0) -> None:
        super().__init__()
        self.place = place
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=6),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        if lora:
            self.encoder = adapted(self.encoder)
        self.head = nn.Linear(3 * 8 + 6 + 512, len(LABELS))

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        pooled = [self.encoder(image) for image in (ocr_viz, frame1, frame2)]
        logits = self.head(torch.cat([*pooled, spatial_features, font_embedding], dim=1))
        return logits + self.place * torch.arange(logits.shape[0]).unsqueeze(1)

    def get_num_trainable_params(self):
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def get_num_total_params(self):
        return sum(parameter.numel() for parameter in self.parameters())


def adapted(encoder):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(encoder, LoraConfig(r=2, lora_alpha=2, target_modules=["3"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model


def tiny_pairs(lora: bool = False, place: float = 0.0) -> TinyPairs:
    """A tiny architecture for tests."""
    return TinyPairs(lora, place)


def seeded_model(**model_config) -> TinyPairs:
    torch.manual_seed(0)
    return tiny_pairs(**model_config).eval()


def random_inputs(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return real-looking inputs, whose font embeddings are zeros as without a font model."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for spec in graph_input_specs():
        shape = (count, *spec.shape[1:])
        image = spec.dtype == "uint8"
        inputs[spec.name] = rng.integers(0, 256, shape, np.uint8) if image else rng.random(shape, np.float32)
    inputs["font_embedding"][:] = 0
    return inputs


@torch.no_grad()
def logits_of(model: nn.Module, inputs) -> np.ndarray:
    tensors = {name: torch.from_numpy(inputs[name]) for name in INPUT_NAMES}
    return DeploymentModel(model)(**tensors).numpy()


def golden_of(model: nn.Module, count: int = 10) -> GoldenSamples:
    inputs = random_inputs(count)
    return GoldenSamples(inputs, logits_of(model, inputs), np.arange(count, dtype=np.int64) % len(LABELS))


def write_run(folder: Path, **model_config) -> Path:
    """Write what training leaves: `best.pt` and its golden samples."""
    model = seeded_model(**model_config)
    metadata = ModelMetadata(
        "tiny_pairs",
        model_config=model_config,
        validation_metrics={"f1": 0.5},
        producer_versions={"torch": "2.9"},
    )
    save_checkpoint(folder / "best.pt", epoch=1, model=model, metadata=metadata)
    golden_of(model).save(golden_path(folder / "best.pt"))
    return folder / "best.pt"
