"""TensorRT tells why it failed only in its log: keep what it says, and find the reason in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

_MEMORY = ("out of memory", "outofmemory", "out_of_memory", "insufficient memory", "memory allocation", "bad_alloc")
"""How TensorRT and CUDA say that memory ran out, in lower case."""

_CHECK = "catchCudaError"
"""Marks lines that any failure brings along where there is no GPU: they hide the cause."""

_SHOWN = 5
"""Most lines that are shown of one failure: the first ones tell the cause."""


_KEPT = 1000
"""Most messages of one gravity that are kept, the latest: a service runs for months."""


def _recent() -> deque[str]:
    return deque(maxlen=_KEPT)


@dataclass
class Messages:
    """What one TensorRT builder or runtime logged."""

    errors: deque[str] = field(default_factory=_recent)
    """Errors, in order."""
    warnings: deque[str] = field(default_factory=_recent)
    details: deque[str] = field(default_factory=_recent)
    """Informative and verbose messages."""

    @property
    def is_out_of_memory(self) -> bool:
        """Whether memory ran out."""
        return any(word in line.lower() for line in self.errors + self.warnings for word in _MEMORY)

    def clear(self) -> None:
        """Forget what was said: it was told, and must not explain the next failure."""
        for kept in (self.errors, self.warnings, self.details):
            kept.clear()

    def __str__(self) -> str:
        return reasons(self.errors) or "TensorRT gave no reason."


def reasons(texts: Iterable[str]) -> str:
    """Return the lines of some errors that tell a cause, each once, as far as they are worth showing."""
    lines = dict.fromkeys(line.strip() for text in texts for line in text.splitlines() if line.strip())
    telling = [line for line in lines if _CHECK not in line]
    return "\n".join((telling or list(lines))[:_SHOWN])


def logger_for(tensorrt: ModuleType, messages: Messages) -> Any:  # noqa: ANN401  (an ILogger of either module)
    """Return a logger that writes into `messages` and nowhere else.

    Args:
        tensorrt: Either flavour's module.
        messages: Filled as TensorRT works; it may log from several threads.
    """
    severity = tensorrt.ILogger.Severity
    kinds = {severity.INTERNAL_ERROR: messages.errors, severity.ERROR: messages.errors}
    kinds[severity.WARNING] = messages.warnings

    class Keep(tensorrt.ILogger):  # type: ignore[misc, name-defined]  # a class of the module that was loaded
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)

        def log(self, level: Any, text: str) -> None:  # noqa: ANN401  (a Severity)
            kinds.get(level, messages.details).append(text)

    return Keep()
