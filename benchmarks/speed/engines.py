"""Engines as they are set, for peers, for us and for the ceiling alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.speed.figures import native_bf16

ORT, ORT_CUDA, OPENVINO = "ONNX Runtime", "ONNX Runtime CUDA", "OpenVINO"


@dataclass(frozen=True)
class Engine:
    """An engine as it is set for peers, for us and for the ceiling alike."""

    name: str
    precision: str
    threads: int
    streams: int = 1
    device: str = "cpu"

    @property
    def title(self) -> str:
        """What tables call it."""
        streams = f", {self.streams} streams" if self.streams > 1 else ""
        return f"{self.name} {self.precision}{streams}"

    @property
    def openvino(self) -> dict[str, Any]:
        """Its OpenVINO properties."""
        hint = "bf16" if self.precision == "bf16" else "f32"
        return {
            "INFERENCE_PRECISION_HINT": hint,
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": self.threads,
        }

    @property
    def file(self) -> str:
        """Precision of the file that it opens: OpenVINO's bf16 is its own arithmetic on a float32 one."""
        return "fp32" if self.precision == "bf16" else self.precision

    @property
    def ours(self) -> dict[str, Any]:
        """Its arguments of `open_session`."""
        if self.device != "cpu":
            return {"device": self.device, "backend": "onnxruntime", "precision": self.precision}
        options: dict[str, Any] = {"device": "cpu", "threads": self.threads, "precision": self.precision}
        if self.name == OPENVINO:
            return {**options, "backend": "openvino", "streams": self.streams}
        return {**options, "backend": "onnxruntime"}


def engines(threads: int) -> list[Engine]:
    """Return the engines that this machine runs natively."""
    precisions = ("fp32", *(["bf16"] if native_bf16() else []), "int8")
    streams = sorted({1, threads})
    return [
        *(Engine(ORT, precision, threads) for precision in ("fp32", "int8")),
        *(Engine(OPENVINO, precision, threads, count) for precision in precisions for count in streams),
    ]


def gpu_engines() -> list[Engine]:
    """Return the engines of an NVIDIA GPU that run the staged graph."""
    return [Engine(ORT_CUDA, precision, threads=1, device="cuda") for precision in ("fp32", "fp16")]
