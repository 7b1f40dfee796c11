"""Parity reports for people and for programs: how an artifact's answers compare with PyTorch's, in one file.

`cb export --report` and `cb verify --report` write the same. The page is HTML of one file, drawn as SVG by ourselves:
a machine that only runs inference can write it too, as nothing here needs more than the leaf has.
"""

from cb_runtime.parity_report.evidence import JudgedGraph
from cb_runtime.parity_report.files import ReportFiles

__all__ = ["JudgedGraph", "ReportFiles"]
