"""Device and arithmetic of a run, carried by accelerate."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration

from cb_core.training.config import Hyperparameters
from cb_runtime.errors import UsageError


def make_accelerator(settings: Hyperparameters, device: str) -> Accelerator:
    """Return accelerate's accelerator for this run.

    Raises UsageError when a GPU is asked for and there is none, or when the precision cannot be had on the device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device cuda was asked for, but torch {torch.__version__} sees no GPU. Use --device cpu.")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    precision = resolve_precision(settings.precision, on_cpu=on_cpu)
    if "WORLD_SIZE" not in os.environ:
        # accelerate keeps the first accelerator's precision and device for the whole process.
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=settings.accumulation,
        cpu=on_cpu,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
    )


def resolve_precision(wanted: str, *, on_cpu: bool) -> str:
    """Return `no`, `bf16` or `fp16`: what is wanted, or for `auto` the fastest that keeps training stable.

    Raises UsageError for fp16 on a CPU and for bf16 on a GPU that cannot.
    """
    if wanted == "fp16" and on_cpu:
        raise UsageError("--precision fp16 needs a GPU. On a CPU use bf16 or no.")
    if wanted == "bf16" and not on_cpu and not torch.cuda.is_bf16_supported():
        raise UsageError("--precision bf16 is not supported by this GPU. Use fp16 or no.")
    if wanted != "auto":
        return wanted
    if on_cpu:
        return "bf16" if cpu_has_bf16() else "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def cpu_has_bf16() -> bool:
    """Tell whether the CPU multiplies bf16 itself (AMX or AVX-512 BF16); emulated bf16 would be slower than float32."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
