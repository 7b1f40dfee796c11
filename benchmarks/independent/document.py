"""The ground truth of a video, in the JSON that `cb synth` writes too, and its subtitles as SRT."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from captions import SHORT_FRAMES
from measure import Shown
from plan import GENERATOR, VideoPlan
from proof import Proof

from cb_core.synth.truth import SCHEMA


def truth_document(
    plan: VideoPlan, video: Path, name: str, shown: Sequence[Shown], frames: int, proof: Proof | None
) -> dict[str, Any]:
    """Return the ground truth of an encoded video. Raises RuntimeError when it has other frames than were rendered."""
    pts, end_pts, base = _times(video, plan.rate)
    if len(pts) != frames:
        raise RuntimeError(f"{name} has {len(pts)} frames where {frames} were rendered.")
    times = [*pts, end_pts]
    return {
        "schema": SCHEMA,
        "generator": GENERATOR,
        "settings_digest": plan.digest(),
        "seed": plan.seed,
        "video": name,
        "width": plan.size[0],
        "height": plan.size[1],
        "time_base": [base.numerator, base.denominator],
        "frame_rate": [plan.rate.numerator, plan.rate.denominator],
        "variable_frame_rate": plan.cards["timing"] != "constant",
        "frames": frames,
        "region": _union(shown),
        "captions": [_caption(number, shown, times) for number in range(len(shown))],
        "details": _details(plan, proof),
        "end_pts": end_pts,
        "pts": pts,
        "opacity": _opacities(shown, frames),
    }


def _times(video: Path, rate: Fraction) -> tuple[list[int], int, Fraction]:
    """Return the PTS of all frames from the first on, when the last ends, and the time base."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        packets = sorted((packet.pts, packet.duration) for packet in container.demux(stream) if packet.pts is not None)
        base = stream.time_base
    assert base is not None, "every stream of a file has a time base"
    last = packets[-1][1] or round(1 / rate / base)
    pts = [at - packets[0][0] for at, _ in packets]
    return pts, pts[-1] + last, base


def _caption(number: int, shown: Sequence[Shown], times: Sequence[int]) -> dict[str, Any]:
    caption = shown[number]
    start_kind, end_kind = _kind(shown, number, number - 1), _kind(shown, number, number + 1)
    return {
        "id": number,
        "text": caption.event.text,
        "first_frame": caption.first_frame,
        "last_frame": caption.last_frame,
        "start_frame": caption.start_frame,
        "end_frame": caption.end_frame,
        "start_pts": times[caption.start_frame],
        "end_pts": times[caption.end_frame],
        "fade_in": list(caption.fade_in) if caption.fade_in else None,
        "fade_out": list(caption.fade_out) if caption.fade_out else None,
        "region": list(caption.region.as_tuple()),
        "kind": sorted({*start_kind, *end_kind} - {"normal"}) or ["normal"],
        "start_kind": start_kind,
        "end_kind": end_kind,
    }


def _kind(shown: Sequence[Shown], number: int, neighbour: int) -> list[str]:
    """Return what is special about a caption's boundary towards a neighbour, from measured frames."""
    caption, kinds = shown[number], []
    if caption.event.karaoke:
        kinds.append("karaoke")
    if caption.end_frame - caption.start_frame <= SHORT_FRAMES:
        kinds.append("short")
    if 0 <= neighbour < len(shown):
        first, second = sorted((caption, shown[neighbour]), key=lambda each: each.start_frame)
        gap = second.start_frame - first.end_frame
        kinds += [name for frames, name in ((0, "back_to_back"), (1, "one_frame_gap")) if gap == frames]
        if gap <= 1 and second.event.near_identical:
            kinds.append("near_identical")
    return kinds or ["normal"]


def _details(plan: VideoPlan, proof: Proof | None) -> dict[str, Any]:
    checked = {"agreeing": proof.agreeing, "inconclusive": proof.inconclusive} if proof else None
    return {"slices": plan.slices(), "encoding": list(plan.encoding), "font_size": plan.font_size, "proof": checked}


def _union(shown: Sequence[Shown]) -> list[int] | None:
    if not shown:
        return None
    boxes = [caption.region.as_tuple() for caption in shown]
    return [min(box[side] for box in boxes) for side in (0, 1)] + [max(box[side] for box in boxes) for side in (2, 3)]


def _opacities(shown: Sequence[Shown], frames: int) -> list[float]:
    values = [0.0] * frames
    for caption in shown:
        for frame, opacity in enumerate(caption.opacity, caption.first_frame):
            values[frame] = max(values[frame], round(float(opacity), 4))
    return values
