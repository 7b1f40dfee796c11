"""Write one video's content into a dataset, and take it out again; the caller owns the transaction."""

from __future__ import annotations

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from cb_core.data.content import VideoContent, VideoTask
from cb_core.data.pictures import bytes_from_vector, png_from_image
from cb_core.data.schema import FontEmbedding, Pair, Strip, Video, VideoCaption, VideoLayout

ROWS = 256
"""Strips written by one statement: some 10 MiB."""


def store_video(
    session: Session, task: VideoTask, content: VideoContent, inputs_digest: str, split: str | None
) -> Video:
    """Add a video with all that belongs to it."""
    video = _video(task, content, inputs_digest, split)
    video.layout = _layout(content)
    video.captions = _captions(content)
    session.add(video)
    session.flush()
    if task.font_encoder is not None:
        vector = bytes_from_vector(content.inputs.font_embedding)
        session.add(FontEmbedding(video_id=video.id, fontclip_model_version=task.font_encoder.version, vector=vector))
    _store_pairs(session, video.id, content, _store_strips(session, video.id, content))
    return video


def remove_video(session: Session, video_id: int) -> None:
    """Take a video out with all that belongs to it."""
    for table in (Pair, Strip, VideoCaption, VideoLayout, FontEmbedding):
        session.execute(delete(table).where(table.video_id == video_id))
    session.execute(delete(Video).where(Video.id == video_id))


def _video(task: VideoTask, content: VideoContent, inputs_digest: str, split: str | None) -> Video:
    info, rate = content.info, content.info.average_rate
    return Video(
        sha256=task.sha256,
        inputs_digest=inputs_digest,
        content_digest=content.digest(),
        path=str(task.path),
        size_bytes=task.path.stat().st_size,
        width=info.width,
        height=info.height,
        time_base_num=info.time_base.numerator,
        time_base_den=info.time_base.denominator,
        rate_num=rate.numerator if rate else None,
        rate_den=rate.denominator if rate else None,
        frame_count=len(content.timeline.pts),
        split=split,
        partial=content.partial,
        messages=list(content.messages),
    )


def _layout(content: VideoContent) -> VideoLayout:
    return VideoLayout(
        layout=content.layout.to_dict(),
        ocr_engine=content.layout.ocr_engine,
        ocr_engine_version=content.layout.ocr_engine_version,
        ocr_viz=png_from_image(content.inputs.ocr_viz),
        spatial_features=bytes_from_vector(content.inputs.spatial_features),
    )


def _captions(content: VideoContent) -> list[VideoCaption]:
    return [
        VideoCaption(
            number=number,
            start_frame=caption.start_frame,
            end_frame=caption.end_frame,
            start_pts=content.timeline.pts_at(caption.start_frame),
            end_pts=content.timeline.pts_at(caption.end_frame),
            text=caption.text,
            region=list(caption.region) if caption.region else None,
        )
        for number, caption in enumerate(content.annotation.captions, 1)
    ]


def _store_strips(session: Session, video_id: int, content: VideoContent) -> dict[int, int]:
    frames = content.frames
    for start in range(0, len(frames), ROWS):
        rows = [
            {
                "video_id": video_id,
                "frame": frame,
                "pts": int(content.timeline.pts[frame]),
                "image": content.strips.png(frame),
            }
            for frame in frames[start : start + ROWS]
        ]
        session.execute(insert(Strip), rows)
    found = session.execute(select(Strip.frame, Strip.id).where(Strip.video_id == video_id))
    return dict(found.all())


def _store_pairs(session: Session, video_id: int, content: VideoContent, strip_ids: dict[int, int]) -> None:
    rows = [
        {
            "video_id": video_id,
            "strip1_id": strip_ids[first],
            "strip2_id": strip_ids[second],
            "label": label,
            "distance": second - first,
        }
        for first, second, label in content.plan
    ]
    if rows:
        session.execute(insert(Pair), rows)
