"""The HTML page of a parity report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from cb_runtime.contract import LABELS, ModelMetadata
from cb_runtime.golden import UNLABELLED
from cb_runtime.html_page import html_page, html_picture, html_table
from cb_runtime.parity import NEAR_SAMPLES, ParityReport
from cb_runtime.parity_report.evidence import JudgedGraph, Stand
from cb_runtime.parity_report.plots import MOST_SAMPLES, logit_scatter, margin_scatter, place_grid
from cb_runtime.pictures import GAIN, brightened_difference, jpeg_base64

CASES = 12
"""Samples that are shown as pictures."""

FLIPS = 50
"""Flips that are listed; their number is always told."""

_HARDEST = (
    f"All samples ran at the largest size; at every size the {NEAR_SAMPLES} that are nearest to flipping ran, in both "
    "orders, so shares of the smaller sizes are of the hardest samples."
)

_STYLE = """
.holds, .failed { color: #fff; background: #2f8f5b; border-radius: 3px; padding: 0 6px } .failed { background: #c2402e }
.case table { margin-top: 4px; align-self: start } .flip th, .flip td { color: #c2402e }
"""


def parity_page(artifact: Path, graphs: Sequence[JudgedGraph]) -> str:
    """Return the page of an artifact and its graphs as HTML text."""
    title = f"Parity of {artifact.name}"
    body = f"<h1>{escape(title)}</h1>{_origin(graphs[0].metadata)}{''.join(map(_graph, graphs))}"
    return html_page(title, body, _STYLE)


def _origin(metadata: ModelMetadata) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in sorted(metadata.producer_versions.items()))
    rows = [
        ("architecture", metadata.architecture_name),
        ("precision", metadata.precision),
        ("checkpoint SHA-256", metadata.checkpoint_sha256),
        ("dataset", f"{metadata.dataset_name or 'not stated'}, digest {metadata.dataset_digest or 'not stated'}"),
        *([("calibrated on", str(metadata.calibration["source"]))] if metadata.calibration else []),
        *([("kept in float", ", ".join(metadata.keep_float))] if metadata.keep_float else []),
        ("exported", metadata.export_date),
        ("made with", versions),
    ]
    return html_table([(name, value or "not stated") for name, value in rows])


def _graph(graph: JudgedGraph) -> str:
    allowed = graph.report.tolerances.flip_margin
    word = "failed" if graph.problems else "holds"
    engine = ", ".join(f"{name} {value}" for name, value in graph.engine.items() if isinstance(value, str))
    parts = [
        f"<h2>{escape(graph.title)} <span class={word}>{word}</span></h2><small>{escape(engine)}</small>",
        f"<ul>{''.join(f'<li>{escape(problem)}</li>' for problem in graph.problems)}</ul>",
        "<h3>Thresholds</h3>" + _thresholds(graph.report),
        "<div class=side>",
        f"<div><h3>Logits</h3>{logit_scatter(graph)}</div>",
        f"<div><h3>Margins: below the line decisions flip</h3>{margin_scatter(graph, allowed)}</div>",
        "</div>",
        f"<small>{_plotted(graph)}</small>",
        _flips(graph),
        f"<h3>Batch sizes</h3><small>{_HARDEST}</small>" + _batches(graph.by_batch()),
        "<h3>Places in the batch, one row for each batch size</h3>" + place_grid(graph.by_place()),
        _probes(graph),
        _cases(graph),
    ]
    return "".join(parts)


def _plotted(graph: JudgedGraph) -> str:
    each = "Of each sample the answer that is furthest from PyTorch's, over all batch sizes and places."
    rest = len(graph.golden) - MOST_SAMPLES
    return f"{each} The {rest} samples with the smallest differences are left out." if rest > 0 else each


def _thresholds(report: ParityReport) -> str:
    allowed = report.tolerances
    surest = report.flips[0].margin if report.flips else None
    rows = [
        ("decided alike", f"{report.argmax_agreement:.2%} of {report.samples}", f"{allowed.argmax_agreement:.2%}"),
        ("margin of the surest flip", _number(surest, "no flips"), _number(allowed.flip_margin)),
        ("largest logit difference", _number(report.max_abs_difference), _number(allowed.max_abs_difference)),
        ("macro F1 lost, in points", _number(report.macro_f1_loss, "no labels"), _number(allowed.macro_f1_loss)),
    ]
    return html_table(rows, ("", "found, in the worst run", f"allowed at {report.precision}"))


def _number(value: float | None, absent: str = "only reported") -> str:
    return absent if value is None else f"{value:.3g}" if math.isfinite(value) else "not finite"


def _flips(graph: JudgedGraph) -> str:
    flips = graph.report.flips
    if not flips:
        return "<p>No decision differs in the worst run.</p>"
    rows = [
        (str(flip.sample), flip.reference, flip.candidate, _label(graph, flip.sample), f"{flip.margin:.4g}")
        for flip in flips[:FLIPS]
    ]
    heading = ("sample", "PyTorch", "artifact", "true label", "margin of PyTorch")
    return f"<h3>Flips ({len(rows)} of {len(flips)}, surest first)</h3>{html_table(rows, heading)}"


def _label(graph: JudgedGraph, sample: int) -> str:
    label = int(graph.golden.labels[sample])
    return "unknown" if label == UNLABELLED else LABELS[label]


def _batches(stands: Sequence[Stand]) -> str:
    rows = [
        (str(one.batch), str(one.answers), f"{one.agreement:.2%}", _number(one.max_abs_difference)) for one in stands
    ]
    return html_table(rows, ("batch", "answers", "decided alike", "largest logit difference"))


def _probes(graph: JudgedGraph) -> str:
    if graph.probes is None:
        return ""
    rows = [(name, *map(_number, pair)) for name, pair in graph.effects.items()]
    effects = html_table(rows, ("input", "its effect on PyTorch's logits", "on the artifact's"))
    return f"<h3>Probes: constants, and pairs with one input changed</h3><p>{escape(str(graph.probes))}</p>{effects}"


def _cases(graph: JudgedGraph) -> str:
    worst = graph.worst(CASES)
    hint = f"Surest flips first, then the largest differences. frame1, frame2, their difference {GAIN} times as bright."
    shown = "".join(_case(graph, sample) for sample in worst)
    return f"<h3>Worst samples ({len(worst)} of {len(graph.golden)})</h3><small>{hint}</small>{shown}"


def _case(graph: JudgedGraph, sample: int) -> str:
    one, other = (graph.golden.inputs[name][sample] for name in ("frame1", "frame2"))
    pictures = "<br>".join(
        html_picture(jpeg_base64(image), name)
        for name, image in (
            ("frame1", one),
            ("frame2", other),
            ("difference", brightened_difference(one, other)),
        )
    )
    wanted, got = graph.golden.logits[sample], graph.logits[sample]
    decided, found = LABELS[wanted.argmax()], LABELS[got.argmax()]
    difference = _number(float(graph.differences[sample]))
    where = f"Sample {sample}, true label {_label(graph, sample)}, batch {graph.batches[sample]}: "
    words = f"PyTorch {decided}, artifact {found}; margin {graph.margins[sample]:.4g}, largest difference {difference}"
    answers = html_table(
        [("PyTorch", *(f"{value:.4f}" for value in wanted)), ("artifact", *(f"{value:.4f}" for value in got))],
        ("", *LABELS),
    )
    kind = "case" if decided == found else '"case flip"'
    return f"<div class={kind}>{escape(where + words)}<div class=side><div>{pictures}</div>{answers}</div></div>"
