"""The HTML page of an evaluation: one file that needs nothing else, with plots and the worst cases as pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from cb_core.evaluation.metrics import Metrics
from cb_core.evaluation.outcomes import TOLERANCES, BoundaryOutcome
from cb_core.evaluation.pictures import Case, total_problems
from cb_core.evaluation.plots import bars, columns, reliability
from cb_core.evaluation.results import Evaluation
from cb_core.evaluation.text import number, summary_rows
from cb_runtime.contract import LABELS
from cb_runtime.html_page import html_page, html_picture, html_table

ERROR_EDGES_MS = (-200, -100, -50, -20, -5, 5, 20, 50, 100, 200)
"""Where the bins of the histogram of errors in time part."""

_STYLE = """
.matrix td, .matrix th { padding: 4px 10px; text-align: right }
.missed, .phantom, .shifted { color: #fff; background: #c2402e; border-radius: 3px; padding: 0 6px }
.shifted { background: #b57a17 }
"""


def page(evaluation: Evaluation, cases: Sequence[Case]) -> str:
    """Return the page as HTML text."""
    model = evaluation.model
    settings = ", ".join(f"{name} {value}" for name, value in evaluation.settings.items() if value is not None)
    title = f"Evaluation of {model.get('name', 'a model')}"
    architecture = f"{model.get('architecture', '')} on {model.get('device', '')}, sha256 {model.get('sha256', '')}"
    parts = [
        f"<h1>{escape(title)}</h1><small>{escape(architecture)}; {escape(settings)}</small>",
        html_table(summary_rows(evaluation)),
        _failures(evaluation),
        "<h2>Boundary F1 at tolerance 0, slice by slice, worst first</h2>" + bars(_slice_rows(evaluation)),
        "<div class=side>" + "".join(_plots(evaluation)) + "</div>",
        _cases(evaluation, cases),
    ]
    return html_page(title, "".join(parts), _STYLE)


def _failures(evaluation: Evaluation) -> str:
    if not evaluation.failed:
        return ""
    return "<h2>Videos that could not be evaluated</h2>" + html_table(list(evaluation.failed.items()))


def _slice_rows(evaluation: Evaluation) -> list[tuple[str, float, str]]:
    rows = []
    for name, metrics in evaluation.worst_slices():
        exact, near = metrics.boundaries[0], metrics.boundaries[1]
        note = f"{exact.f1:.3f} (at 1: {near.f1:.3f}; {exact.true} boundaries)"
        rows.append((name, exact.f1, note))
    return rows


def _plots(evaluation: Evaluation) -> list[str]:
    overall = evaluation.overall
    outcomes = [outcome for one in evaluation.videos for outcome in one.outcomes]
    errors = [edge.error_ms for one in evaluation.videos for edge in one.edges]
    calibration = f"Reliability of boundary scores (calibration error {number(overall.calibration.error)})"
    return [
        f"<div><h2>Boundaries by shift in frames</h2>{columns(_shifts(outcomes))}</div>",
        f"<div><h2>Onset and offset errors of matched captions in ms</h2>{columns(_histogram(errors))}</div>",
        f"<div><h2>{calibration}</h2>{reliability(overall.calibration)}</div>",
        f"<div><h2>Pairs of neighbouring frames, true label by predicted label</h2>{_matrix(overall)}</div>",
    ]


def _shifts(outcomes: Sequence[BoundaryOutcome]) -> list[tuple[str, int, bool]]:
    counts = Counter(_shift(outcome) for outcome in outcomes)
    shifts = [f"{shift:+d}" if shift else "0" for shift in range(-TOLERANCES[-1], TOLERANCES[-1] + 1)]
    return [(name, counts[name], name != "0") for name in (*shifts, "missed", "phantom")]


def _shift(outcome: BoundaryOutcome) -> str:
    if outcome.predicted_frame is None or outcome.true_frame is None:
        return str(outcome.problem)
    if not outcome.distance:
        return "0"
    return f"{outcome.distance if outcome.predicted_frame > outcome.true_frame else -outcome.distance:+d}"


def _histogram(errors: Sequence[float]) -> list[tuple[str, int, bool]]:
    bounds = (float("-inf"), *ERROR_EDGES_MS, float("inf"))
    rows = []
    for low, high in pairwise(bounds):
        count = sum(low <= error < high for error in errors)
        name = f"< {high:g}" if low == bounds[0] else f"\u2265 {low:g}"
        rows.append((name, count, not low < 0 < high))
    return rows


def _matrix(metrics: Metrics) -> str:
    assert metrics.confusion is not None
    head = "".join(f"<th>{label}</th>" for label in LABELS)
    rows = [f"<tr><th></th>{head}</tr>"]
    for label, row in zip(LABELS, metrics.confusion.tolist(), strict=True):
        total = sum(row) or 1
        shades = [f'<td style="background: rgba(53,114,176,{0.75 * count / total:.3f})">{count}</td>' for count in row]
        rows.append(f"<tr><th>{label}</th>{''.join(shades)}</tr>")
    return f"<table class=matrix>{''.join(rows)}</table>"


def _cases(evaluation: Evaluation, cases: Sequence[Case]) -> str:
    total = total_problems(evaluation.videos)
    shown = "".join(_case(case) for case in cases)
    hint = "Of each video the surest mistake first. Frame before, frame at the boundary, difference made brighter."
    return f"<h2>Worst boundaries ({len(cases)} of {total})</h2><small>{hint}</small>{shown}"


def _case(case: Case) -> str:
    outcome = case.outcome
    frames = f"true frame {outcome.true_frame}, predicted frame {outcome.predicted_frame}".replace("None", "none")
    score = f", score {outcome.score:.3f}" if outcome.score is not None else ""
    labels = ", ".join(f"{name} {value:.3f}" for name, value in zip(LABELS, outcome.probabilities or (), strict=False))
    where = f"{case.video.name} at {outcome.seconds:.3f} s: {frames}{score} ({', '.join(outcome.kinds) or 'no kind'})"
    pictures = "".join(
        html_picture(data, name)
        for name, data in (("before", case.before), ("after", case.after), ("difference", case.difference))
    )
    problem = f"<span class={outcome.problem}>{outcome.problem}</span>"
    return f"<div class=case>{problem} {escape(where)}<br><small>{labels or 'not scored'}</small><br>{pictures}</div>"
