"""Where does an artifact lose its agreement with PyTorch? Float32 first, then module by module.

All runs on the CPU, without the engine that failed: int8 in ONNX Runtime, half precision in PyTorch itself. What agrees
there and not in an engine is the engine's fault, and is told so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cb_export.building import build_and_gate
from cb_export.gate import GateReport, Run, reference_from_model, run_in_batches
from cb_export.options import ExportOptions
from cb_export.precision import PRECISIONS
from cb_export.search import Found, Score, Scorer, search
from cb_export.source import Merged
from cb_export.targets import load_target
from cb_export.targets import onnx as onnx_target
from cb_runtime.parity import compare
from cb_runtime.progress import Progress, no_progress
from cb_runtime.session import open_session

SHOWN = 5
"""Blocks of which a message tells how much they help."""


@dataclass(frozen=True)
class Localisation:
    """Where the agreement is lost."""

    precision: str
    float32: GateReport
    """Outcome of the gate for the same model as ONNX in float32."""
    whole: Score | None = None
    """How the precision does on the CPU; None when float32 failed already."""
    found: Found | None = None
    """Which modules help; None when there was nothing to search for."""

    def __str__(self) -> str:
        if not self.float32:
            return f"It does not agree in float32 either, so {self.precision} is not at fault:\n{self.float32}"
        if self.whole is not None and self.whole.passes:
            return f"In float32, and in {self.precision} on the CPU, it agrees: the engine that was built is at fault."
        return f"In float32 it agrees. {self._helpful()}\n{self._advice()}"

    def _helpful(self) -> str:
        assert self.found is not None  # or there would be nothing to tell
        assert self.whole is not None
        lines = [f"In {self.precision} {_told(self.whole)}; with one block of modules kept in float:"]
        return "\n".join([*lines, *(f"  {block}: {_told(score)}" for block, score in self.found.alone[:SHOWN])])

    def _advice(self) -> str:
        assert self.found is not None
        if not self.found.smallest:
            return "No set of blocks makes it agree. Export it with --precision fp32."
        return f"The smallest set found that agrees: --keep-float {','.join(self.found.smallest)}"


def _told(score: Score) -> str:
    return f"{score.agreement:.2%} decided alike, logits off by {score.difference:.3g} (root mean square)"


def localise(merged: Merged, options: ExportOptions, progress: Progress = no_progress) -> Localisation:
    """Find out where an artifact of a precision below float32 loses its agreement.

    Args:
        merged: The model.
        options: As for the export that failed.
        progress: Told how many sets of modules were tried.
    """
    with TemporaryDirectory(prefix="cb-localise-") as folder:
        plain = replace(options, precision="fp32", opset=None, keep_float=())
        report = build_and_gate(merged, load_target("onnx"), plain, Path(folder) / "float32.onnx").report
        if not report:
            return Localisation(options.precision, report)
        half = PRECISIONS[options.precision].half
        trial = HalfTrial(merged, options) if half else IntegerTrial(merged, options, Path(folder))
        judged = merged.judged(options.precision)

        def score(names: Sequence[str]) -> Score:
            logits = run_in_batches(trial.run(names), judged.inputs)
            root = float(np.sqrt(np.mean(np.square(logits - judged.logits, dtype=np.float64))))
            outcome = compare(judged.logits, logits, judged.labels, options.precision)
            return Score(bool(outcome), outcome.argmax_agreement, root if math.isfinite(root) else math.inf)

        whole = score(options.keep_float)
        if whole.passes:
            return Localisation(options.precision, report, whole)
        return Localisation(options.precision, report, whole, search(trial.modules, _counted(score, progress)))


def _counted(score: Scorer, progress: Progress) -> Scorer:
    tried = 0

    def scored(names: Sequence[str]) -> Score:
        nonlocal tried
        tried += 1
        progress("Localising", tried)
        return score(names)

    return scored


class HalfTrial:
    """A model in half precision, run by PyTorch."""

    def __init__(self, merged: Merged, options: ExportOptions) -> None:
        self._merged, self._options = merged, options
        architecture: Any = merged.model.architecture
        # Vectors are biases and the weights of BatchNorm, which is folded.
        matrices = [name for name, values in architecture.named_parameters() if values.dim() > 1]
        self.modules = [name.rpartition(".")[0] for name in matrices]

    def run(self, names: Sequence[str]) -> Run:
        """Return the logits of the model that keeps these modules in float."""
        return reference_from_model(self._merged.in_precision(replace(self._options, keep_float=tuple(names))))


class IntegerTrial:
    """A model in int8, run by ONNX Runtime; traced and calibrated once."""

    def __init__(self, merged: Merged, options: ExportOptions, folder: Path) -> None:
        self._calibrated = onnx_target.calibrated_graph(merged.graph(options), merged.target_options(options))
        self._metadata, self._file = merged.metadata(options), folder / "trial.onnx"
        self.modules = sorted(set(self._calibrated.modules.values()))

    def run(self, names: Sequence[str]) -> Run:
        """Return the logits of the model that keeps these modules in float."""
        onnx_target.write_model(self._calibrated.quantized(names), self._metadata, self._file)
        return open_session(self._file, device="cpu", reuse=False, measure=False).run
