"""The loop users write today: read the text of every frame, call frames with similar text one caption.

The rules are those of the tools people use (videocr, VideOCR, RapidVideOCR): words below a confidence are dropped,
texts are alike above a similarity, small gaps between alike texts are bridged, what lasts too short is dropped. The
numbers were chosen on `cb synth` videos by `tune_baselines.py`, never on the test set. The caption region is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import cv2

from cb_runtime.layout.ocr import LONGEST_SIDE
from cb_runtime.video.types import Image

Read = tuple[tuple[str, float], ...]
"""What OCR reads in one frame: texts from top to bottom with their confidence in [0, 1]."""


@dataclass(frozen=True)
class OcrRules:
    """How texts of frames become captions."""

    confidence: float = 0.3
    """Texts below it are dropped."""
    similarity: float = 0.5
    """Texts at least this alike are the same caption (1 is equal)."""
    bridged_seconds: float = 0.0
    """Gaps up to this between alike texts are closed."""
    shortest_seconds: float = 0.2
    """Captions shorter than this are dropped."""


class TextReader:
    """rapidocr with detection and recognition, on one thread."""

    def __init__(self) -> None:
        import rapidocr

        params = {
            "Global.log_level": "critical",
            "Global.use_cls": False,
            # Its own default enlarges pictures to a shortest side of 736: for a crop of two lines, ten times the cost.
            "Det.limit_type": "max",
            "Det.limit_side_len": LONGEST_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        self._rapidocr: Any = rapidocr.RapidOCR(params=params)

    def __call__(self, image: Image) -> Read:
        """Read a picture, uint8 RGB."""
        found = self._rapidocr(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), use_det=True, use_cls=False, use_rec=True)
        if found.txts is None:
            return ()
        return tuple(zip(found.txts, map(float, found.scores), strict=True))


def captions_from_reads(reads: Sequence[Read], rate: float, rules: OcrRules) -> list[tuple[int, int]]:
    """Return captions as `[start, end)` in frames, from what was read in each frame at `rate` frames per second."""
    texts = ["".join(text for text, score in read if score >= rules.confidence).replace(" ", "") for read in reads]
    runs = _bridged(_runs(texts, rules), round(rules.bridged_seconds * rate), rules)
    shortest = max(2, round(rules.shortest_seconds * rate))
    return [(start, end) for start, end, _ in runs if end - start >= shortest]


Run = tuple[int, int, str]
"""First frame, frame behind the last, and the text that was read."""


def _runs(texts: Sequence[str], rules: OcrRules) -> Iterator[Run]:
    start = 0
    for frame in range(1, len(texts) + 1):
        if frame < len(texts) and _alike(texts[frame - 1], texts[frame], rules):
            continue
        if texts[start]:
            yield start, frame, texts[start + (frame - start) // 2]
        start = frame


def _bridged(runs: Iterable[Run], longest_gap: int, rules: OcrRules) -> list[Run]:
    joined: list[Run] = []
    for start, end, text in runs:
        if joined and start - joined[-1][1] <= longest_gap and _alike(joined[-1][2], text, rules):
            longer = max((joined[-1], (start, end, text)), key=lambda run: run[1] - run[0])
            joined[-1] = (joined[-1][0], end, longer[2])
        else:
            joined.append((start, end, text))
    return joined


def _alike(first: str, second: str, rules: OcrRules) -> bool:
    if not first or not second:
        return first == second
    return SequenceMatcher(None, first, second, autojunk=False).ratio() >= rules.similarity
