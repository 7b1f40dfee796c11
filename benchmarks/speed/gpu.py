"""Pairs per second on an NVIDIA GPU, from strips in host memory: what users would run, beside our runtime, by turns.

    python -m benchmarks.speed.gpu --output benchmarks/results/speed/gpu.json

What `throughput` measures on CPUs. PyTorch convolves in TF32 unless told otherwise, here too; ONNX Runtime and TensorRT
compute fp32 as fp32. Agreement is of labels with PyTorch's in float32 throughout. Of engines of TensorRT, `alone` is
the whole engine on pairs that lie on the GPU, which encodes every frame anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.precision_models import by_architecture
from benchmarks.speed.engines import ORT_CUDA
from benchmarks.speed.figures import command, machine
from benchmarks.speed.material import Material, Strips, kept_folder
from benchmarks.speed.peers import Answers, onnxruntime_pairs, pytorch_batched, pytorch_loop, session_pairs
from benchmarks.speed.raw import raw_onnxruntime_on_gpu, raw_session_on_gpu
from benchmarks.speed.throughput import (
    ARCHITECTURES,
    CEILING,
    LOOP,
    OURS,
    PEER,
    Entry,
    Row,
    by_turns,
    ours,
    save,
    table,
)
from cb_core.backend import full_float32
from cb_export.trt.options import EngineOptions
from cb_runtime.errors import CbError
from cb_runtime.gpus import list_gpus
from cb_runtime.session import open_session
from cb_runtime.trt.flavours import FLAVOURS, RTX, Flavour
from cb_runtime.trt.sidecar import BatchProfile

CUDA = "cuda"
PROVIDER = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
"""Planned as ours is: no slower, and new batch sizes cost less (`planning`)."""


def entries(material: Material, strips: Strips, batches: tuple[int, ...], flavour: Flavour | None) -> Iterator[Entry]:
    """Give all contenders on one architecture, the loop first; the greatest batch is the peers'."""
    yield Entry(LOOP, PEER, "PyTorch", "tf32", pytorch_loop(material.model, material.inputs, CUDA))
    yield from _pytorch(material, max(batches))
    for precision in ("fp32", "fp16"):
        yield from _onnxruntime(material, strips, precision, batches)
    if flavour is not None:
        for precision in ("fp32", "fp16", "bf16", "int8"):
            yield from _tensorrt(material, flavour, precision, batches)


def _pytorch(material: Material, batch: int) -> Iterator[Entry]:
    ways = {"eager": (None, False), "eager fp16": (torch.float16, False), "compiled fp16": (torch.float16, True)}
    for how, (autocast, compiled) in ways.items():
        run = pytorch_batched(material.model, material.inputs, batch, autocast=autocast, compiled=compiled, device=CUDA)
        yield Entry(f"PyTorch {how}, batches of {batch}", PEER, "PyTorch", "fp16" if autocast else "tf32", run)


def _onnxruntime(material: Material, strips: Strips, precision: str, batches: tuple[int, ...]) -> Iterator[Entry]:
    artifact, inputs, batch = material.artifact(precision), material.inputs, max(batches)
    name = f"{ORT_CUDA} {precision}"
    yield Entry(f"{name}, no reuse", PEER, name, precision, onnxruntime_pairs(artifact, inputs, batch, 1, PROVIDER))
    session = open_session(artifact, device=CUDA, backend="onnxruntime", measure=False)
    for size in batches:
        yield Entry(f"cb_runtime on {name}, batches of {size}", OURS, name, precision, ours(session, inputs, size))
    yield Entry(f"{name} alone", CEILING, name, precision, raw_onnxruntime_on_gpu(artifact, strips, batch, PROVIDER))


def _tensorrt(material: Material, flavour: Flavour, precision: str, batches: tuple[int, ...]) -> Iterator[Entry]:
    name, batch = f"{flavour.title} {precision}", max(batches)
    try:
        engine = EngineOptions(flavour=flavour.name, profile=BatchProfile(1, batch, batch))
        session = open_session(material.artifact(precision, engine))
    except CbError as error:
        print(f"{material.architecture}, {name}: {error}", flush=True)
        return
    whole = session_pairs(session, material.inputs, batch)
    yield Entry(f"{name} by cb_runtime, no reuse", PEER, name, precision, whole)
    if session.stages is not None:
        for size in batches:
            run = ours(session, material.inputs, size)
            yield Entry(f"cb_runtime on {name}, batches of {size}", OURS, name, precision, run)
    yield Entry(f"{name} alone", CEILING, name, precision, raw_session_on_gpu(session, batch))


def reference(material: Material, strips: Strips, batch: int) -> Answers:
    """Return PyTorch's answers in float32 throughout."""
    with full_float32():
        return pytorch_batched(material.model, material.inputs, batch, device=CUDA)(strips)


def measure(material: Material, arguments: argparse.Namespace) -> list[Row]:
    """Run all contenders by turns; return a row for each."""
    strips = material.strips(arguments.frames)
    truth = reference(material, strips, max(arguments.batch))
    flavour = FLAVOURS[arguments.flavor] if arguments.engines else None
    contenders = list(entries(material, strips, tuple(arguments.batch), flavour))
    return by_turns(material.architecture, contenders, strips, arguments.rounds, truth)


def main() -> None:
    """Measure, print tables, and write JSON and Markdown when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), help="registered names")
    parser.add_argument("--frames", type=int, default=257, help="strips that are scored")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 128, 256], help="pairs, and frames, per run")
    parser.add_argument("--no-engines", dest="engines", action="store_false", help="leave out TensorRT")
    parser.add_argument("--flavor", choices=FLAVOURS, default=RTX.name, help="which TensorRT")
    parser.add_argument("--seconds", type=float, default=20, help="length of the video that strips are of")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE", help="trained weights")
    parser.add_argument("--work", type=Path, help="folder that keeps exported models and the video")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON, and as Markdown beside it")
    arguments = parser.parse_args()
    gpus = list_gpus()
    if not gpus:
        raise SystemExit("No NVIDIA GPU here: see `cb doctor`.")
    rows: list[Row] = []
    trained = by_architecture(arguments.checkpoint)
    with kept_folder(arguments.work) as work:
        for architecture in arguments.architectures:
            measured = measure(Material(work, architecture, arguments.seconds, trained=trained), arguments)
            print(f"\n{architecture}\n\n{table(measured)}", flush=True)
            rows += measured
            if arguments.output:
                settings = {name: getattr(arguments, name) for name in ("frames", "rounds", "batch")}
                head = {"command": command("benchmarks.speed.gpu"), "gpu": str(gpus[0]), **machine(), **settings}
                save(arguments.output, head, rows)


if __name__ == "__main__":
    main()
