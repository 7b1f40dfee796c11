"""A real Triton server, as nvidia-pytriton brings it, with a stand-in for the one part that it lacks.

Its wheel holds the server and the Python backend, not the ONNX Runtime backend. Triton lets backends be written in
Python, so this one does with ONNX Runtime what that would: whatever else is tested is Triton's own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BACKEND = """
import json, sys
sys.path.insert(0, {packages!r})
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, arguments):
        config = json.loads(arguments["model_config"])
        self.names = [tensor["name"] for tensor in config["input"]]
        self.output = config["output"][0]["name"]
        folder = f"{{arguments['model_repository']}}/{{arguments['model_version']}}"
        path = f"{{folder}}/{{config['default_model_filename']}}"
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        # All through DLPack: the server's Python backend does not know the arrays of NumPy 2.
        rows = [
            {{name: np.from_dlpack(triton.get_input_tensor_by_name(request, name)) for name in self.names}}
            for request in requests
        ]
        batch = {{name: np.concatenate([row[name] for row in rows]) for name in self.names}}
        (answer,) = self.session.run([self.output], batch)
        ends = np.cumsum([len(row[self.names[0]]) for row in rows])[:-1]
        parts = np.split(answer, ends)
        tensors = [triton.Tensor.from_dlpack(self.output, np.ascontiguousarray(part)) for part in parts]
        return [triton.InferenceResponse([tensor]) for tensor in tensors]
"""

READY_SECONDS = 240


def installed() -> Path | None:
    """Return the folder of the server; None where nvidia-pytriton is not installed."""
    spec = importlib.util.find_spec("pytriton")
    return None if spec is None else Path(spec.origin).parent / "tritonserver"


@contextmanager
def serving(server: Path, repository: Path, folder: Path) -> Iterator[str]:
    """Serve a model repository on this machine; give the address for gRPC, once every model is ready."""
    import tritonclient.grpc as client

    backends, ports = _backends(server, folder), [_free_port(), _free_port()]
    program = folder / "tritonserver"
    shutil.copy(server / "bin" / "tritonserver", program)
    program.chmod(0o755)
    command = [program, "--model-repository", repository, "--backend-directory", backends, "--allow-metrics", "false"]
    for kind, port in zip(("http", "grpc"), ports, strict=True):
        command += [f"--{kind}-address", "127.0.0.1", f"--{kind}-port", str(port)]
    libraries = server.parents[1] / "nvidia_pytriton.libs"
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "LD_LIBRARY_PATH": str(libraries)}
        )
    address = f"127.0.0.1:{ports[1]}"
    try:
        _wait(client.InferenceServerClient(address), process, log)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _backends(server: Path, folder: Path) -> Path:
    backends = folder / "backends"
    shutil.copytree(server / "backends" / "python", backends / "python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = backends / "python" / "triton_python_backend_stub"
    shutil.copy(server / "python_backend_stubs" / version / stub.name, stub)
    stub.chmod(0o755)
    packages = Path(importlib.util.find_spec("onnxruntime").origin).parents[1]
    place = backends / "onnxruntime" / "model.py"
    place.parent.mkdir()
    place.write_text(BACKEND.format(packages=str(packages)))
    return backends


def _wait(client, process: subprocess.Popen, log: Path) -> None:
    from tritonclient.utils import InferenceServerException

    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.is_server_ready():
                return
        except InferenceServerException:
            pass  # it does not listen yet
        time.sleep(0.5)
    raise AssertionError(f"The server did not become ready:\n{log.read_text(errors='replace')[-5000:]}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
