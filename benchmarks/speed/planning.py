"""What a batch of a new size costs ONNX Runtime on an NVIDIA GPU: cuDNN plans each convolution anew.

    python -m benchmarks.speed.planning cb_runtime/models/default.onnx cb_runtime/models/default.staged/*.onnx

For each graph, way of planning and batch size: milliseconds of the first run, and of one of those that follow, with
inputs and output on the GPU. `cb_runtime` plans by rules (`HEURISTIC`) and fills batches up to the size of the last.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

WAYS = ("EXHAUSTIVE", "HEURISTIC")
"""ONNX Runtime's default, and ours."""
SIZES = (1, 16, 256)
RUNS = 5


def measure(path: Path, way: str, size: int) -> tuple[float, float]:
    """Return the milliseconds of the first run of a new session's graph at a batch size, and of a later one."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    provider = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": way})
    session = ort.InferenceSession(path, settings, providers=[provider])
    if session.get_providers()[0] != provider[0]:
        raise SystemExit("This needs an NVIDIA GPU and onnxruntime-gpu; see `cb doctor`.")
    binding, random = session.io_binding(), np.random.default_rng(0)
    for node in session.get_inputs():
        shape = [size if isinstance(axis, str) else axis for axis in node.shape]
        values = random.integers(0, 256, shape).astype(np.uint8 if "uint8" in node.type else np.float32)
        binding.bind_ortvalue_input(node.name, ort.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
    binding.bind_output(session.get_outputs()[0].name, "cuda", 0)
    taken = []
    for _ in range(1 + RUNS):
        began = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        taken.append(1000 * (time.perf_counter() - began))
    return taken[0], float(np.median(taken[1:]))


def main() -> None:
    """Measure and print a line for each graph, way and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+", type=Path, help="ONNX files with float32 or uint8 inputs")
    arguments = parser.parse_args()
    ort.preload_dlls()
    for path in arguments.graphs:
        for way in WAYS:
            for size in SIZES:
                first, later = measure(path, way, size)
                print(f"{path.name:24} {way:10} batch {size:3}  first {first:6.1f} ms  later {later:6.2f} ms")


if __name__ == "__main__":
    main()
