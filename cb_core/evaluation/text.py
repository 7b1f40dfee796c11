"""An evaluation in a few lines for people; the table of the command and the page show the same."""

from __future__ import annotations

from cb_core.evaluation.boundaries import BoundaryScores
from cb_core.evaluation.metrics import ErrorStatistics
from cb_core.evaluation.outcomes import IOUS
from cb_core.evaluation.results import Evaluation


def summary_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return name and value of what is known over all videos."""
    overall, captions = evaluation.overall, evaluation.overall.captions
    assert captions is not None
    assert overall.span_f1 is not None
    rows = [("Videos", f"{overall.videos} ({evaluation.cost.frames} frames)")]
    rows += [(f"Boundaries, tolerance {one.tolerance}", _scores(one)) for one in overall.boundaries]
    rows += [(f"Hard cuts, tolerance {one.tolerance}", _scores(one)) for one in overall.hard_cuts]
    rows += [("Onset error", _errors(overall.onset)), ("Offset error", _errors(overall.offset))]
    rows += [
        (
            "Captions",
            f"{captions.true} true, {captions.predicted} predicted: {captions.matched} matched, {captions.missed} "
            f"missed, {captions.phantom} phantom ({overall.phantom_rate:.2%}), {captions.split} split, "
            f"{captions.merged} merged",
        )
    ]
    rows += [(f"Caption F1 at IoU {iou:g}", number(f1)) for iou, f1 in zip(IOUS, overall.span_f1, strict=True)]
    rows += [("Pair macro F1", number(overall.pair_macro_f1))]
    rows += [("Calibration error", number(overall.calibration.error))]
    return [*rows, ("Layout", _layout(evaluation)), ("Cost", _cost(evaluation))]


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many digits; a dash when there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _scores(scores: BoundaryScores) -> str:
    counts = f"{scores.hits} of {scores.true} found, {scores.predicted} predicted"
    return f"F1 {scores.f1:.4f}, precision {scores.precision:.4f}, recall {scores.recall:.4f} ({counts})"


def _errors(errors: ErrorStatistics) -> str:
    signed = "-" if errors.mean_ms is None else f"{errors.mean_ms:+.1f}"
    absolute, p95 = number(errors.mean_absolute_ms, 1), number(errors.p95_ms, 1)
    return f"{signed} ms mean, {absolute} ms mean absolute, {p95} ms 95th percentile ({errors.count} captions)"


def _layout(evaluation: Evaluation) -> str:
    layout = evaluation.layout_to_dict()
    found = f"captions' place found in {layout['found']} of {layout['videos_with_captions']} videos"
    coverage = f"{number(layout['mean_coverage'])} of their area covered (least {number(layout['least_coverage'])})"
    return f"{found}, {coverage}, {layout['found_without_captions']} found where there are none"


def _cost(evaluation: Evaluation) -> str:
    cost = evaluation.cost.to_dict()
    return (
        f"{number(cost['frames_per_second'], 1)} frames/s; CPU ms a frame: "
        f"{1000 * cost['layout_cpu_seconds_per_frame']:.1f} layout, "
        f"{1000 * cost['scoring_cpu_seconds_per_frame']:.1f} decoding and scoring"
    )
