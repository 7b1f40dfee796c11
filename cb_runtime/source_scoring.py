"""From an open video to the label probabilities of its pairs: decoding, strips and scoring, as stages of a pipeline."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator

from cb_runtime.closer_look import CloserLook, compared, pieces_of
from cb_runtime.contract import Decoding
from cb_runtime.doubts import doubtful_changes
from cb_runtime.fades import StripProducts
from cb_runtime.features import VideoInputs, strip
from cb_runtime.layout import CaptionLayout
from cb_runtime.limits import TimeLimit
from cb_runtime.pipeline import Pipeline
from cb_runtime.progress import Progress
from cb_runtime.scene_cuts import SceneCuts
from cb_runtime.scored_video import ScoredVideo, ocr_shift, shortness
from cb_runtime.scoring import score_strips
from cb_runtime.session import Session
from cb_runtime.skipping import Skipping
from cb_runtime.video.types import Frame, FrameSource, Image

FRAMES_AHEAD = 4
"""Decoded regions that wait to become strips; in full frames of 4K that is 100 MB."""


def score_source(
    session: Session,
    source: FrameSource,
    layout: CaptionLayout,
    inputs: VideoInputs,
    *,
    distances: tuple[int, ...],
    batch_size: int,
    skipping: Skipping,
    decoding: Decoding,
    limit: TimeLimit,
    pipeline: Pipeline,
    progress: Progress,
) -> ScoredVideo:
    """Score the pairs of an open video, up to its end or a time limit; the pipeline has ended then.

    `decoding` tells which changes are in doubt and looked at once more. The other arguments are those of
    `score_strips`, which says what is raised.
    """
    pts, durations, products, cuts = array("q"), array("q"), StripProducts(), SceneCuts()

    def strips(frames: Iterable[Frame]) -> Iterator[Image]:
        """Give a strip per frame as they are decoded, noting times and what decoding needs of the strips."""
        for frame in frames:
            pts.append(frame.pts)
            durations.append(frame.duration)
            picture = strip(frame.image, session.metadata.preprocessing, layout.anchor)
            products.add(picture)
            cuts.add(picture)
            yield picture

    began = time.perf_counter()
    with pipeline:
        frames = pipeline.ahead(source.frames(layout.region), "decode", depth=FRAMES_AHEAD)
        scores = score_strips(
            session,
            pipeline.ahead(strips(limit.until(frames)), "strips", depth=batch_size),
            inputs,
            distances=distances,
            batch_size=batch_size,
            skipping=skipping,
            total=source.info.frame_count,
            progress=progress,
            pipeline=pipeline,
        )
        late, partial = limit.ended_something, source.report.partial
        closer_is_more = skipping.closer and not late and len(pieces_of(layout)) > 1
        doubts = doubtful_changes(scores, decoding) if closer_is_more else []
        closer: dict[int, float] = {}
        if doubts:
            times = sorted({pts[number] for doubt in doubts for pair in compared(doubt) for number in pair})
            again = pipeline.ahead(limit.until(source.again(times, layout.region)), "seek", depth=FRAMES_AHEAD)
            look = CloserLook(session, layout, inputs.font_embedding, batch_size)
            with pipeline.working("closer look", unit="doubts"):
                for frame, surer in look.results(doubts, again, pts):
                    closer[frame] = surer
                    progress("Looking closer", len(closer), len(doubts))
    seconds = time.perf_counter() - began
    messages = (*source.report.messages, *([limit.message(len(pts))] if late else shortness(len(pts))))
    timed_out = limit.ended_something
    if timed_out and not late:
        messages += (limit.message_of_closer_looks(len(closer), len(doubts)),)
    messages += (*layout.doubts(), *ocr_shift(session.metadata, layout))
    return ScoredVideo(
        source.info,
        layout,
        pts,
        durations,
        scores,
        partial or timed_out,
        messages,
        seconds,
        products,
        cuts.staying,
        closer,
        timed_out=timed_out,
    )
