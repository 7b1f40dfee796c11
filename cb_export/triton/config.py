"""`config.pbtxt`, written and read by Triton's own protobuf schema, so that no field can be misspelt.

The schema comes from NVIDIA's `tritonclient`. Sources:
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto and
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cb_runtime.contract import ModelMetadata, TensorSpec
from cb_runtime.errors import MissingPackageError, ModelError, require

LABELS_FILE = "labels.txt"

CONTRACT_PARAMETER = "cb_contract"
"""Parameter of the model that holds its contract, so that a client can ask the server for it."""


@dataclass(frozen=True)
class Engine:
    """What runs a model in Triton, and in which files it looks for it."""

    backend: str
    """Triton's name of the backend."""
    platform: str
    """Triton's older name of backend and kind of file in one."""
    default_file: str | None
    """File in the version folder; None where each kind of GPU has its own."""
    file_by_compute_capability: Mapping[str, str] = field(default_factory=dict)
    """Compute capability, e.g. `8.9`, to file."""


def schema() -> Any:  # noqa: ANN401  (a module without types)
    """Return the module with Triton's messages. Raises MissingPackageError without `tritonclient` or what it needs."""
    try:
        return require("tritonclient.grpc.model_config_pb2", "triton")
    except RuntimeError as error:  # tritonclient's word for a missing grpcio
        raise MissingPackageError("grpc", "triton") from error


def model_config(name: str, metadata: ModelMetadata, engine: Engine, largest_batch: int) -> Any:  # noqa: ANN401
    """Return the `ModelConfig` of a model.

    Args:
        name: Of the model, and of its folder.
        metadata: Says names, types and shapes of the tensors.
        engine: What runs it.
        largest_batch: Pairs that Triton may put into one batch: the most at which the model was proven.

    Raises:
        ModelError: A tensor that Triton cannot batch.
        MissingPackageError: Triton's schema is not installed.
    """
    triton = schema()
    config = triton.ModelConfig(
        name=name,
        backend=engine.backend,
        platform=engine.platform,
        max_batch_size=largest_batch,
        input=[triton.ModelInput(**_tensor(spec)) for spec in metadata.inputs],
        output=[triton.ModelOutput(**_tensor(spec), label_filename=LABELS_FILE) for spec in metadata.outputs],
        default_model_filename=engine.default_file or "",
        cc_model_filenames=engine.file_by_compute_capability,
        model_warmup=[_warm_up(triton, metadata.inputs, batch) for batch in sorted({1, largest_batch})],
        parameters={CONTRACT_PARAMETER: triton.ModelParameter(string_value=metadata.to_json())},
    )
    # With its defaults: batches as large as what waits, and nobody waits for more.
    config.dynamic_batching.SetInParent()
    return config


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    """Return name, type and shape of one row: the batch axis goes without saying."""
    batch, *row = spec.shape
    if not isinstance(batch, str) or not all(isinstance(axis, int) for axis in row):
        raise ModelError(
            f"Triton can batch tensors whose first axis is free and whose others are fixed; '{spec.name}' is "
            f"{spec.shape}. Export the checkpoint again."
        )
    return {"name": spec.name, "data_type": _data_type(spec), "dims": row}


def _data_type(spec: TensorSpec) -> str:
    import numpy as np
    from tritonclient.utils import np_to_triton_dtype

    return f"TYPE_{np_to_triton_dtype(np.dtype(spec.dtype))}"


def _warm_up(triton: Any, specs: Iterable[TensorSpec], batch: int) -> Any:  # noqa: ANN401  (a module, a message)
    """Return a request of zeros that Triton sends before it says that the model is ready."""
    inputs = {}
    for spec in specs:
        described = _tensor(spec)
        name = described.pop("name")
        inputs[name] = triton.ModelWarmup.Input(**described, zero_data=True)
    return triton.ModelWarmup(name=f"batch {batch}", batch_size=batch, inputs=inputs)


def config_to_text(config: Any) -> str:  # noqa: ANN401  (a message)
    """Return the content of `config.pbtxt`."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))


def config_from_text(text: str) -> Any:  # noqa: ANN401  (a message)
    """Read `config.pbtxt` as Triton does. Raises ModelError for a field or value that Triton does not know."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, schema().ModelConfig())
    except text_format.ParseError as error:
        raise ModelError(
            f"Triton's schema does not take this configuration: {error}. Export the model again."
        ) from error
