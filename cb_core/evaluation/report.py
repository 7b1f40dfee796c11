"""Write an evaluation into a folder: `report.json` for programs, `report.html` for people."""

from __future__ import annotations

from pathlib import Path

from cb_core.evaluation.page import page
from cb_core.evaluation.pictures import picture_cases
from cb_core.evaluation.results import Evaluation
from cb_runtime.errors import UsageError
from cb_runtime.files import atomic_path
from cb_runtime.results import json_text

JSON_NAME, PAGE_NAME = "report.json", "report.html"


def write_report(evaluation: Evaluation, folder: Path, worst: int = 24) -> list[Path]:
    """Write both files and return their paths.

    Args:
        evaluation: What is reported.
        folder: Where; made when missing.
        worst: How many boundaries are shown in pictures, 0 or more; their videos are read again.

    Raises:
        UsageError: A negative number of pictures.
        InputError: A video whose pictures are wanted is no longer there.
        StorageError: The folder cannot be written.
    """
    check_worst(worst)
    texts = {
        JSON_NAME: json_text(evaluation.to_dict(), indent=2),
        PAGE_NAME: page(evaluation, picture_cases(evaluation, worst)),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def check_worst(worst: int) -> None:
    """Raise UsageError for a number of pictures that cannot be obeyed."""
    if worst < 0:
        raise UsageError(f"--worst must be 0 or more, got {worst}.")
