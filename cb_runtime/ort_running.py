"""One call of a graph in ONNX Runtime: on the CPU, or on a GPU with inputs and output bound where they lie.

Docs: https://onnxruntime.ai/docs/api/python/api_summary.html#data-on-device
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cb_runtime.arrays import DeviceArray
from cb_runtime.backends import device_from_text
from cb_runtime.errors import ContractError, ModelError

HostOrDeviceFeeds = Mapping[str, NDArray[Any] | DeviceArray]


_TURN = threading.Lock()
"""Held while a GPU computes. While cuDNN tries out a convolution in one thread, CUDA refuses what others ask of it."""


def run_graph(session: Any, output: str, feeds: HostOrDeviceFeeds, device: str) -> NDArray[np.float32]:  # noqa: ANN401  (no types)
    """Return one output of a graph, in main memory.

    Args:
        session: `onnxruntime.InferenceSession`.
        output: Name of the output.
        feeds: Inputs by name; in the memory of `device` only where that is a GPU.
        device: `cpu` or `cuda:N`, what the session was opened on.

    Raises:
        ContractError: An input in the memory of another GPU.
        ModelError: The engine failed, e.g. out of memory.
    """
    _check_place(feeds, device)
    with _explained(feeds, device):
        if device == "cpu":
            (answer,) = session.run([output], dict(feeds))
        else:
            with _TURN:
                binding = _bound(session, feeds)
                binding.bind_output(output, "cpu")
                _run(session, binding)
                (answer,) = binding.copy_outputs_to_cpu()
    result: NDArray[np.float32] = answer
    return result


def run_graph_there(
    session: Any,  # noqa: ANN401  (no types)
    output: str,
    feeds: HostOrDeviceFeeds,
    device: str,
    into: DeviceArray | None = None,
) -> DeviceArray:
    """Return one output of a graph, float32, in the memory of the GPU that it runs on.

    ONNX Runtime returns when its stream is done, so that whoever reads the answer next has nothing to wait for.

    Args:
        session: `onnxruntime.InferenceSession`.
        output: Name of the output.
        feeds: Inputs by name.
        device: `cuda:N`, what the session was opened on.
        into: Where to write it, of its shape; None: in memory of ONNX Runtime's, which the answer keeps.

    Raises what `run_graph` raises.
    """
    _check_place(feeds, device)
    gpu = device_from_text(device).index
    with _explained(feeds, device), _TURN:
        binding = _bound(session, feeds)
        if into is None:
            binding.bind_output(output, "cuda", gpu)
        else:
            binding.bind_output(output, "cuda", gpu, into.dtype.type, list(into.shape), into.address)
        _run(session, binding)
        (value,) = binding.get_outputs()
        if into is not None:
            return into
        return DeviceArray(value, value.data_ptr(), np.dtype(np.float32), tuple(value.shape()), gpu)


@contextmanager
def _explained(feeds: HostOrDeviceFeeds, device: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's own errors have no common base below Exception
        batch = len(next(iter(feeds.values())))
        raise ModelError(
            f"ONNX Runtime failed on {device} at batch {batch}: {first_line(error)} When memory is short, "
            "try a smaller --batch."
        ) from error


def _check_place(feeds: HostOrDeviceFeeds, device: str) -> None:
    for name, values in feeds.items():
        if isinstance(values, DeviceArray) and values.device != device_from_text(device).index:
            raise ContractError(
                f"Input '{name}' lies on cuda:{values.device}, and the model runs on {device}. Copy it there, or open "
                f"the model with device='cuda:{values.device}'."
            )


def _bound(session: Any, feeds: HostOrDeviceFeeds) -> Any:  # noqa: ANN401  (no types)
    """Return what a call is bound to: its inputs, as yet."""
    binding = session.io_binding()  # one a call, so that calls may overlap
    for name, values in feeds.items():
        if isinstance(values, DeviceArray):
            place = ("cuda", values.device, values.dtype.type, list(values.shape), values.address)
            binding.bind_input(name, *place)
        else:
            binding.bind_cpu_input(name, np.ascontiguousarray(values))
    return binding


def _run(session: Any, binding: Any) -> None:  # noqa: ANN401  (no types)
    # ONNX Runtime computes on a stream of its own: first wait for whatever still fills the inputs, on any stream.
    binding.synchronize_inputs()
    session.run_with_iobinding(binding)


def first_line(error: Exception) -> str:
    """Return the first line of what ONNX Runtime says, as a sentence."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
