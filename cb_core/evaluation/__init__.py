"""How well a model's captions agree with the truth: boundaries, times, captions, pairs, layout, cost."""

from cb_core.evaluation.boundaries import (
    Boundary,
    BoundaryScores,
    boundaries_from_truth,
    boundary_scores,
    predicted_boundaries,
)
from cb_core.evaluation.metrics import Metrics
from cb_core.evaluation.outcomes import BoundaryOutcome, CaptionCounts
from cb_core.evaluation.report import write_report
from cb_core.evaluation.results import Evaluation, VideoEvaluation
from cb_core.evaluation.run import EvaluateOptions, ScoredTruth, evaluate_scored, evaluate_videos, score_once

__all__ = [
    "Boundary",
    "BoundaryOutcome",
    "BoundaryScores",
    "CaptionCounts",
    "EvaluateOptions",
    "Evaluation",
    "Metrics",
    "ScoredTruth",
    "VideoEvaluation",
    "boundaries_from_truth",
    "boundary_scores",
    "evaluate_scored",
    "evaluate_videos",
    "predicted_boundaries",
    "score_once",
    "write_report",
]
