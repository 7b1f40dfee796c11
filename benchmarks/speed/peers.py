"""What users would run in our place: each scores all consecutive pairs of strips in both directions.

All start from the same uint8 strips in host memory and end at label probabilities. None reuses features: every pair is
one run of the five-input graph, in batches where the engine gains by them. Engines are set as their documentation says.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.speed.material import Strips
from cb_core.deployment import DeploymentModel
from cb_runtime.contract import Preprocessing
from cb_runtime.features import VideoInputs
from cb_runtime.session import Session, softmax

Feeds = Mapping[str, NDArray[Any]]
Answers = NDArray[np.float32]
"""Label probabilities `(frames - 1, 2, 5)`: forward and backward."""
Contender = Callable[[Strips], Answers]


Provider = str | tuple[str, Mapping[str, str]]
"""An execution provider of ONNX Runtime, with its options."""
ON_CPU: Provider = "CPUExecutionProvider"


def pytorch_loop(model: torch.nn.Module, inputs: VideoInputs, device: str = "cpu") -> Contender:
    """Return the loop a user would write: one pair at a time, each direction, every picture prepared each time."""
    model = model.to(device)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (Preprocessing().mean, Preprocessing().std))
    vectors = [torch.from_numpy(vector)[None].to(device) for vector in (inputs.spatial_features, inputs.font_embedding)]

    def picture(image: NDArray[np.uint8]) -> torch.Tensor:
        return ((torch.from_numpy(image).permute(2, 0, 1).float() / 255 - mean) / std)[None].to(device)

    def one(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> torch.Tensor:
        logits: torch.Tensor = model(picture(inputs.ocr_viz), picture(first), picture(second), *vectors)
        return torch.softmax(logits, dim=1)[0]

    def run(strips: Strips) -> Answers:
        with torch.inference_mode():
            answers = [torch.stack((one(a, b), one(b, a))) for a, b in itertools.pairwise(strips)]
            return torch.stack(answers).cpu().numpy()

    return run


def pytorch_batched(
    model: torch.nn.Module,
    inputs: VideoInputs,
    batch: int,
    *,
    autocast: torch.dtype | None = None,
    compiled: bool = False,
    device: str = "cpu",
) -> Contender:
    """Return PyTorch on batches of pairs.

    Args:
        model: In evaluation mode.
        inputs: The video's own.
        batch: Pairs per run.
        autocast: Half precision in which PyTorch computes what it holds safe to; None: float32.
        compiled: By inductor, for one batch size.
        device: `cpu` or `cuda`.
    """
    deployed: Any = DeploymentModel(model).eval().to(device)
    if device != "cpu":
        deployed = deployed.to(memory_format=torch.channels_last)
    if compiled:
        deployed = torch.compile(deployed, dynamic=False)

    def answer(feeds: Feeds) -> Answers:
        with torch.inference_mode(), torch.autocast(device, autocast, enabled=autocast is not None):
            tensors = {name: torch.from_numpy(value).to(device) for name, value in feeds.items()}
            logits: torch.Tensor = deployed(**tensors)
        return logits.float().cpu().numpy()

    return _in_batches(answer, inputs, batch, padded=compiled)


def onnxruntime_pairs(
    artifact: Path, inputs: VideoInputs, batch: int, threads: int, provider: Provider = ON_CPU
) -> Contender:
    """Return ONNX Runtime on batches of pairs."""
    session = onnxruntime_session(artifact, threads, provider)
    return _in_batches(lambda feeds: session.run(None, dict(feeds))[0], inputs, batch)


def onnxruntime_session(graph: Path, threads: int, provider: Provider = ON_CPU) -> Any:  # noqa: ANN401  (no types)
    """Open a graph with ONNX Runtime, on the CPU unless a provider is given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(graph), options, providers=[provider])


def session_pairs(session: Session, inputs: VideoInputs, batch: int) -> Contender:
    """Return an open session on batches of pairs, for engines whose plain use would be our own code again."""
    return _in_batches(session.run, inputs, batch)


def openvino_pairs(artifact: Path, inputs: VideoInputs, batch: int, how: Mapping[str, Any]) -> Contender:
    """Return OpenVINO on batches of pairs, as many at a time as its throughput hint asks for."""
    compiled = openvino_model(artifact, how)

    def run(strips: Strips) -> Answers:
        import openvino

        pending: dict[int, Answers] = {}
        queue = openvino.AsyncInferQueue(compiled)
        queue.set_callback(lambda request, place: pending.update({place: request.get_output_tensor().data.copy()}))
        for place, feeds in enumerate(_batches(strips, inputs, batch)):
            queue.start_async(dict(feeds), place)
        queue.wait_all()
        return _answers([pending[place] for place in sorted(pending)])

    return run


def openvino_model(graph: Path, how: Mapping[str, Any]) -> Any:  # noqa: ANN401  (no types)
    """Compile a graph for the CPU."""
    import openvino

    core = openvino.Core()
    return core.compile_model(core.read_model(graph), "CPU", dict(how))


def _in_batches(
    answer: Callable[[Feeds], Answers], inputs: VideoInputs, batch: int, *, padded: bool = False
) -> Contender:
    def run(strips: Strips) -> Answers:
        logits = []
        for feeds in _batches(strips, inputs, batch):
            size = len(feeds["frame1"])
            if padded and size < batch:  # a compiled model knows one batch size
                feeds = {name: np.resize(value, (batch, *value.shape[1:])) for name, value in feeds.items()}
            logits.append(answer(feeds)[:size])
        return _answers(logits)

    return run


def _batches(strips: Strips, inputs: VideoInputs, batch: int) -> list[Feeds]:
    earlier, later = strips[:-1], strips[1:]
    first = np.stack((earlier, later), axis=1).reshape(-1, *strips.shape[1:])
    second = np.stack((later, earlier), axis=1).reshape(-1, *strips.shape[1:])
    constant = {
        "ocr_viz": inputs.ocr_viz,
        "spatial_features": inputs.spatial_features,
        "font_embedding": inputs.font_embedding,
    }
    repeated = {name: np.repeat(value[None], batch, axis=0) for name, value in constant.items()}
    feeds = []
    for start in range(0, len(first), batch):
        frame1, frame2 = first[start : start + batch], second[start : start + batch]
        rows = {name: value[: len(frame1)] for name, value in repeated.items()}
        feeds.append({"ocr_viz": rows["ocr_viz"], "frame1": frame1, "frame2": frame2, **rows})
    return feeds


def _answers(logits: list[Answers]) -> Answers:
    return softmax(np.concatenate(logits)).reshape(-1, 2, logits[0].shape[1])
