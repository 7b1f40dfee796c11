"""Find the decoding that suits a model: videos are scored once and decoded in many ways.

What is best depends on how a model errs, so a model's own `Decoding` is tuned on long videos it was not trained on, and
travels with it. The scores of boundaries are calibrated on the same videos, each half by what the other half shows.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cb_core.evaluation.results import Evaluation
from cb_core.evaluation.run import ScoredTruth, evaluate_scored
from cb_runtime.calibration import calibrated, expected_calibration_error, fit_calibration
from cb_runtime.contract import Decoding, decoding_from_dict
from cb_runtime.decoding import DecodeOptions
from cb_runtime.errors import ContractError, InputError
from cb_runtime.files import atomic_path
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.progress import Progress, no_progress
from cb_runtime.results import CaptionTrack
from cb_runtime.scored_video import ScoredVideo
from cb_runtime.skipping import Skipping

FAR_DISTANCES = (0, 8)
DISTANCES = ((1,), (1, 2), (1, 3), (1, 2, 3))
MIN_FRAMES = (1, 3)
CHANGE_PENALTIES = (0.0, 1.0, 3.0, 5.0, 8.0, 11.0)
"""What is tried first, each with each. The shortest captions that are read last longer than three frames."""

FAR_MARGINS = (0.5, 1.0, 2.0)
BLINK_PENALTIES = (0.5, 2.0, 4.0)
"""What is tried then, with the best of these; blinks need pairs further apart than neighbours."""

SCORED = (1, 2, 3, 8)
"""Distances of the pairs that tuning needs."""


@dataclass(frozen=True)
class Trial:
    """One decoding and how well it does."""

    decoding: Decoding
    f1: tuple[float, ...]
    """Boundary F1 at tolerance 0, 1 and 2 frames."""

    @property
    def goal(self) -> float:
        """What is maximised: mean F1 at tolerances 0 and 1."""
        return (self.f1[0] + self.f1[1]) / 2

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"decoding": dataclasses.asdict(self.decoding), "f1": list(self.f1), "goal": self.goal}


@dataclass(frozen=True)
class Tuning:
    """The best decoding found, with calibrated scores, and all that was tried."""

    decoding: Decoding
    trials: tuple[Trial, ...]
    """Best first; those that do equally well in the order they were tried."""
    boundaries: int
    """Boundaries found by the best one: cases of the calibration."""
    error_before: float
    """Expected calibration error of its uncalibrated scores, in [0, 1]."""
    error_after: float
    """The same calibrated, each half of the videos by a fit on the other."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "decoding": dataclasses.asdict(self.decoding),
            "boundaries": self.boundaries,
            "calibration_error": {"before": self.error_before, "after": self.error_after},
            "trials": [trial.to_dict() for trial in self.trials],
        }

    def save(self, path: Path) -> None:
        """Write JSON that `decoding_from_file` reads."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


class _Decoded:
    """A predictor that decodes in one given way."""

    def __init__(self, predictor: BoundaryPredictor, decoding: Decoding) -> None:
        self._predictor, self._decoding = predictor, decoding

    @property
    def model(self) -> Mapping[str, Any]:
        return self._predictor.model

    @property
    def skipping(self) -> Skipping:
        return self._predictor.skipping

    def score_video(
        self, path: Path, *, layout_file: Path, distances: tuple[int, ...] | None, progress: Progress
    ) -> ScoredVideo:
        return self._predictor.score_video(path, layout_file=layout_file, distances=distances, progress=progress)

    def decode(self, scored: ScoredVideo, options: DecodeOptions | None = None) -> CaptionTrack:
        return self._predictor.decode(scored, self._decoding)


def tune_decoding(
    predictor: BoundaryPredictor, scored: Sequence[ScoredTruth], progress: Progress = no_progress
) -> Tuning:
    """Try decodings on videos scored by this predictor (`score_once` with distances `SCORED`); return the best.

    Its scores are calibrated. Raises InputError when no boundary is true or found: there is nothing to tune on.
    """
    own = dataclasses.replace(predictor.metadata.decoding, distance_weights=(), score_scale=1.0, score_offset=0.0)
    trials: list[Trial] = []
    for candidates in (_of_all_kinds, _around):
        chosen = list(candidates(trials[0].decoding if trials else own))
        for number, decoding in enumerate(chosen, 1):
            boundaries = _evaluated(predictor, scored, decoding).overall.boundaries
            trials.append(Trial(decoding, tuple(one.f1 for one in boundaries)))
            progress("Tuning", number, len(chosen))
        trials.sort(key=lambda trial: -trial.goal)
    return _calibrated(predictor, scored, trials)


def _of_all_kinds(own: Decoding) -> Iterator[Decoding]:
    """Give decodings, those that cost less first."""
    for far, distances, least, change in itertools.product(FAR_DISTANCES, DISTANCES, MIN_FRAMES, CHANGE_PENALTIES):
        yield dataclasses.replace(
            own, far_distance=far, distances=distances, min_frames=least, change_penalty=change, far_margin=1.0
        )


def _around(best: Decoding) -> Iterator[Decoding]:
    """Give the best decoding with other margins and other penalties of blinks, where it has any."""
    margins = FAR_MARGINS if best.far_distance else (best.far_margin,)
    blinks = BLINK_PENALTIES if len(best.distances) > 1 else (best.blink_penalty,)
    for margin, blink in itertools.product(margins, blinks):
        other = dataclasses.replace(best, far_margin=margin, blink_penalty=blink)
        if other != best:
            yield other


def _evaluated(predictor: BoundaryPredictor, scored: Sequence[ScoredTruth], decoding: Decoding) -> Evaluation:
    return evaluate_scored(_Decoded(predictor, decoding), scored)


def _calibrated(predictor: BoundaryPredictor, scored: Sequence[ScoredTruth], trials: list[Trial]) -> Tuning:
    best = trials[0].decoding
    halves = [_cases(_evaluated(predictor, scored[half::2], best)) for half in (0, 1)]
    scores, right = ([*halves[0][part], *halves[1][part]] for part in (0, 1))
    if not any(right) or not all(half[0] for half in halves):
        raise InputError(
            f"The model finds too few of the boundaries in {len(scored)} videos to tune on them. Give more videos, or "
            "a better model."
        )
    crossed = [
        value
        for half, other in ((0, 1), (1, 0))
        for value in calibrated(halves[half][0], *fit_calibration(*halves[other])).tolist()
    ]
    scale, offset = fit_calibration(scores, right)
    return Tuning(
        dataclasses.replace(best, score_scale=scale, score_offset=offset),
        tuple(trials),
        len(scores),
        expected_calibration_error(scores, right),
        expected_calibration_error(crossed, right),
    )


def _cases(evaluation: Evaluation) -> tuple[list[float], list[bool]]:
    """Return the score of each boundary found, and whether it is right to the frame."""
    outcomes = [one for video in evaluation.videos for one in video.outcomes if one.score is not None]
    return [one.score or 0.0 for one in outcomes], [one.distance == 0 for one in outcomes]


def decoding_from_file(path: Path) -> Decoding:
    """Read the decoding that `Tuning.save` wrote. Raises InputError when the file is something else."""
    try:
        return decoding_from_dict(json.loads(path.read_text(encoding="utf-8"))["decoding"])
    except (OSError, ValueError, KeyError, TypeError, ContractError) as error:
        raise InputError(f"{path} holds no decoding ({error}). Make it with: cb tune --output {path}") from error
