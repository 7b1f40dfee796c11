"""The family of errors that are the user's to mend, and the one place where missing packages are explained.

A `CbError` is printed without a traceback and ends the command with its `exit_code`; every other exception is a bug
of ours and keeps its traceback (exit code 1).
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, ClassVar

EXTRA_OF_MODULE = {
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "rapidocr": "ocr",
    "torch": "train",
    "torchvision": "train",
    "peft": "train",
    "accelerate": "train",
    "torchmetrics": "train",
    "matplotlib": "train",
    "sqlalchemy": "train",
    "alembic": "train",
    "open_clip": "train",
    "PIL": "train",
    "onnx": "export",
    "onnxscript": "export",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "tensorboard": "tensorboard",
    "psycopg": "postgres",
    "cryptography": "sign",
    "tensorrt": "trt",
    "tensorrt_rtx": "rtx",
    "cuda": "rtx",
    "tritonclient": "triton",
}
"""Which extra of `cb-toolkit` brings which module."""


class CbError(Exception):
    """A problem the user can mend; the message says what was expected, what was found and what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(CbError):
    """An option or argument that cannot be obeyed."""

    exit_code = 2


class InputError(CbError):
    """A video, caption file, layout or dataset that cannot be read or used."""

    exit_code = 3


class StorageError(InputError):
    """A full disk, or a place that cannot be written: it concerns all that would be written there."""


class ModelError(CbError):
    """A model, checkpoint or artifact that cannot be used."""

    exit_code = 4


class ContractError(ModelError):
    """Metadata that breaks the contract, or tensors that do not match it."""


class NoCaptionsError(CbError):
    """No captions were found and `--fail-on-empty` was given."""

    exit_code = 5


class PartialResultError(CbError):
    """Only a part could be done; what was done is kept."""

    exit_code = 6


class ParityError(CbError):
    """An artifact does not agree with the PyTorch model it came from."""

    exit_code = 7


class MissingPackageError(CbError):
    """A package that an extra brings is not installed."""

    exit_code = 2

    def __init__(self, module: str, extra: str | None = None) -> None:
        extra = extra or EXTRA_OF_MODULE.get(module.partition(".")[0], "all")
        super().__init__(f"{module} is not installed. Install it with: pip install 'cb-toolkit[{extra}]'")
        self.module = module


def require(module: str, extra: str | None = None) -> ModuleType:
    """Import `module`, or raise `MissingPackageError` naming the extra that brings it: `extra`, where several do."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == module.partition(".")[0]:
            raise MissingPackageError(module, extra) from error
        raise


def error_to_dict(error: CbError) -> dict[str, Any]:
    """Return the JSON document that a command with `--json` prints when it fails."""
    return {"error": {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}}
