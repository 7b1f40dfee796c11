"""The files of a report: which are written, and their JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cb_runtime.contract import LABELS
from cb_runtime.errors import UsageError
from cb_runtime.files import atomic_path, check_writable
from cb_runtime.parity_report.evidence import JudgedGraph, Stand, finite_or_none
from cb_runtime.parity_report.page import parity_page

SUFFIXES = (".html", ".json")
"""What a report can be written as."""

SCHEMA = 1
"""Version of the JSON."""


@dataclass
class ReportFiles:
    """Where a report goes; written anew with each graph that was judged, so that a failing one is in it too.

    Args:
        paths: `.html` for people, `.json` for programs.
        artifact: What was judged.

    Raises UsageError for a file of another kind, StorageError where one cannot be written.
    """

    paths: Sequence[Path]
    artifact: Path
    graphs: list[JudgedGraph] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        for path in self.paths:
            if path.suffix.lower() not in SUFFIXES or path.is_dir():
                raise UsageError(f"A report is a file *{' or *'.join(SUFFIXES)}, got {path}.")
            check_writable(path.parent)

    def add(self, graph: JudgedGraph) -> None:
        """Write the report with one more graph in it. Raises StorageError when that is not possible."""
        self.graphs.append(graph)
        for path in self.paths:
            html = path.suffix.lower() == ".html"
            text = parity_page(self.artifact, self.graphs) if html else _json(self.artifact, self.graphs)
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _json(artifact: Path, graphs: Sequence[JudgedGraph]) -> str:
    document = {
        "schema": SCHEMA,
        "artifact": str(artifact),
        "ok": not any(graph.problems for graph in graphs),
        "labels": list(LABELS),
        "graphs": [graph_to_dict(graph) for graph in graphs],
    }
    return json.dumps(document, indent=1) + "\n"


def graph_to_dict(graph: JudgedGraph) -> dict[str, Any]:
    """Return plain JSON types: outcome with all flips, every batch size and place, and every sample's logits."""
    return {
        "title": graph.title,
        "ok": not graph.problems,
        "problems": list(graph.problems),
        "engine": dict(graph.engine),
        "metadata": graph.metadata.replace(parity=None).to_dict(),
        "golden": graph.report.to_dict(flips=len(graph.report.flips)),
        "probes": None if graph.probes is None else graph.probes.to_dict(flips=len(graph.probes.flips)),
        "effects": {name: finite_or_none(pair) for name, pair in graph.effects.items()},
        "batches": [_stand_to_dict(stand) for stand in graph.by_batch()],
        "places": [_stand_to_dict(stand) for stand in graph.by_place()],
        "samples": {
            "labels": graph.golden.labels.tolist(),
            "reference_logits": [finite_or_none(row) for row in graph.golden.logits.tolist()],
            "logits": [finite_or_none(row) for row in graph.logits.tolist()],
            "batch": graph.batches.tolist(),
            "max_abs_difference": finite_or_none(graph.differences.tolist()),
            "worst": graph.worst(len(graph.golden)),
        },
    }


def _stand_to_dict(stand: Stand) -> dict[str, Any]:
    plain = dataclasses.asdict(stand)
    return {**plain, "max_abs_difference": finite_or_none([stand.max_abs_difference])[0]}
