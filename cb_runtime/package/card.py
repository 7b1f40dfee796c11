"""The model card of a package, Markdown: what a model is for, of what data, how good, how exact, which licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cb_runtime.contract import ModelMetadata


def model_card(artifacts: Sequence[tuple[str, int, ModelMetadata]], licence: str | None) -> str:
    """Return the model card of artifacts of one model.

    Args:
        artifacts: Name, bytes and metadata of each; what is said of the model is the first one's.
        licence: Under which the model may be used; None where nothing was said.
    """
    metadata = artifacts[0][2]
    metrics = "\n".join(f"| {name} | {value} |" for name, value in sorted(metadata.validation_metrics.items()))
    rows = "\n".join(_row(*artifact) for artifact in artifacts)
    return f"""# {metadata.architecture_name}

Decides whether the burned-in caption between two frames of a video stayed, changed, came or went.

## Intended use

Finding the first frame that shows a caption and the first that no longer does, with `cb infer`. It reads no text and
knows no speakers. It was measured on the data below; on videos of another kind measure it first (`cb evaluate`).

## Data

Dataset {metadata.dataset_name or "not stated"}, digest {metadata.dataset_digest or "not stated"}. Text regions by
{metadata.ocr_engine or "no OCR engine"} {metadata.ocr_engine_version or ""}

## Validation metrics

| metric | value |
| --- | --- |
{metrics or "| not stated | - |"}

## Precision

Against PyTorch in float32, on the golden samples of this package:

| artifact | arithmetic | bytes | decided alike | largest logit difference |
| --- | --- | --- | --- | --- |
{rows}

## Origin

Checkpoint SHA-256 {metadata.checkpoint_sha256}, training code {metadata.git_commit or "not stated"}, exporting
code {metadata.export_commit or "not stated"}, exported {metadata.export_date} by
{", ".join(f"{name} {value}" for name, value in sorted(metadata.producer_versions.items()))}.

## Licence

{licence or "Not stated by who made this package."}
"""


def _row(name: str, size: int, metadata: ModelMetadata) -> str:
    parity: Mapping[str, Any] = (metadata.parity or {}).get("golden", {})
    agreement, difference = parity.get("argmax_agreement"), parity.get("max_abs_difference")
    measured = f"{_percent(agreement)} | {_number(difference)}"
    return f"| {name} | {metadata.precision} | {size} | {measured} |"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
