"""Where a model comes from, told from its contract in one place."""

from __future__ import annotations

from typing import Any

from cb_runtime.contract import ModelMetadata

_DIRTY = "-dirty"


def lineage_of(metadata: ModelMetadata) -> dict[str, Any]:
    """Return a model's lineage as plain JSON types; null where nothing was recorded."""
    return {
        "checkpoint_sha256": metadata.checkpoint_sha256,
        "training": {**_commit(metadata.git_commit), "versions": dict(metadata.training_versions) or None},
        "dataset": {"name": metadata.dataset_name, "digest": metadata.dataset_digest},
        "export": {
            **_commit(metadata.export_commit),
            "date": metadata.export_date,
            "versions": dict(metadata.producer_versions) or None,
        },
        "calibration": None if metadata.calibration is None else dict(metadata.calibration),
        "keep_float": list(metadata.keep_float),
        "lora_merge": None if metadata.lora_merge is None else dict(metadata.lora_merge),
    }


def _commit(recorded: str | None) -> dict[str, Any]:
    """Return the commit of some code, and whether it had changes that the commit does not hold."""
    if recorded is None:
        return {"commit": None, "dirty": None}
    return {"commit": recorded.removesuffix(_DIRTY), "dirty": recorded.endswith(_DIRTY)}
