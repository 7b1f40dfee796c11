"""What the text boxes of sampled frames say together: the caption region, other regions, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cb_runtime.geometry import Box
from cb_runtime.layout.layout import SERIOUS, OtherRegion
from cb_runtime.layout.overlays import MIN_RECURRENCES, without_overlays
from cb_runtime.layout.region import HIGH, LOW, CaptionRegion, caption_regions

ENOUGH_CAPTIONS = 5
"""Different captions after which more change the region little; among five, a line in two of them is rarely missed."""

UNSEEN = 0.2
"""Share of the captions' time that may have gone unseen. It is estimated by the share of samples whose caption no other
sample showed (I. J. Good, 1953)."""

LEAST_SCORE = 0.6
"""What scores less and was seen in fewer than `MIN_RECURRENCES` samples is too little to be captions: a word at a side.
A centred caption low in the frame, a fifth of it wide, scores 1.4 seen once."""


@dataclass(frozen=True)
class Survey:
    """What is known of a video's text regions."""

    main: CaptionRegion | None
    """Where captions are; None when no text looks like a caption's."""
    others: tuple[OtherRegion, ...]
    """Where other text is, the most caption-like first; empty without a main region."""

    @property
    def settled(self) -> bool:
        """True when further frames would hardly change the answer."""
        if self.main is None or any(other.score >= SERIOUS for other in self.others):
            return False
        all_seen = self.main.different > 1 and self.main.once <= UNSEEN * self.main.samples
        return all_seen or self.main.different >= ENOUGH_CAPTIONS


def survey(seen: Sequence[Sequence[Box]], frame_width: int, frame_height: int) -> Survey:
    """Judge the text boxes seen in each sampled frame."""
    samples, overlays = without_overlays(seen, frame_width, frame_height)
    regions = caption_regions(samples, frame_width, frame_height)
    if not regions or _too_little(regions[0], frame_height):
        return Survey(None, ())
    main, *rest = regions
    rivals = [
        OtherRegion(other.region, round(min(1.0, other.score / main.score), 3), _reason(other, main)) for other in rest
    ]
    return Survey(main, (*rivals, *(OtherRegion(overlay.box, 0.0, overlay.reason) for overlay in overlays)))


def _too_little(main: CaptionRegion, frame_height: int) -> bool:
    """Tell whether a text seen in few samples is no caption, as words in the middle of the frame, on signs, are not."""
    in_the_middle = HIGH < (main.region.top + main.region.bottom) / 2 / frame_height < LOW
    return main.samples < MIN_RECURRENCES and (in_the_middle or main.score < LEAST_SCORE)


def _reason(other: CaptionRegion, main: CaptionRegion) -> str:
    if other.different == 1 and other.samples >= MIN_RECURRENCES:
        return f"the text there is the same in {other.samples} sampled frames"
    if other.different < main.different:
        return f"different texts seen there: {other.different}, in the region chosen: {main.different}"
    return "its place, its width or its alignment is less like that of captions"
