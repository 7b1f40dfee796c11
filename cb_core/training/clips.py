"""Order pairs so that those which share frames come together: a batch then holds fewer different frames.

A clip is a few pairs of one video that hang together by the frames they share. Which pairs form a clip, and the order
of the clips, is drawn anew for every epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

CLIP_PAIRS = 8
"""Pairs of a clip. Both orders of a pair share both frames, so a clip has five frames at most where it hangs together.
Larger ones save little more, and leave fewer videos in a batch."""

Edges = Sequence[tuple[int, int]]


def clip_order(
    pairs: Sequence[int],
    video_ids: NDArray[np.int64],
    strip_ids: NDArray[np.int64],
    generator: torch.Generator,
    clip_pairs: int = CLIP_PAIRS,
    limit: int | None = None,
) -> list[int]:
    """Return the same pairs, or at least `limit` of them, clip after clip.

    Args:
        pairs: Pairs in random order; one may occur more than once.
        video_ids: Video of every pair of the split (pairs of the split,).
        strip_ids: The two strips of every pair of the split (pairs of the split, 2).
        generator: Decides the order of the clips.
        clip_pairs: Pairs of a clip; the last one of a video may have fewer.
        limit: Pairs wanted; each clip of the whole is as likely as any other to be among them.
    """
    clips: list[list[int]] = []
    groups = _by_video(np.asarray(pairs, np.int64), video_ids)
    for members, count in zip(groups, _clip_counts(groups, clip_pairs, limit, generator), strict=True):
        if count:
            edges = [(first, second) for first, second in strip_ids[members].tolist()]
            clips += [members[clip].tolist() for clip in islice(_clips(edges, clip_pairs), count)]
    order = torch.randperm(len(clips), generator=generator).tolist()
    return [pair for place in order for pair in clips[place]]


def _by_video(drawn: NDArray[np.int64], video_ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    videos = video_ids[drawn]
    order = np.argsort(videos, kind="stable")
    starts = np.flatnonzero(np.diff(videos[order])) + 1
    return [drawn[places] for places in np.split(order, starts)]


def _clip_counts(
    groups: Sequence[NDArray[np.int64]], clip_pairs: int, limit: int | None, generator: torch.Generator
) -> list[int]:
    """Return how many clips to take of each video."""
    sizes = np.array([len(members) for members in groups], np.int64)
    owners = np.repeat(np.arange(len(groups)), -(-sizes // clip_pairs))
    if limit is not None:
        lengths = np.full(len(owners), clip_pairs)
        lengths[np.cumsum(-(-sizes // clip_pairs)) - 1] = (sizes - 1) % clip_pairs + 1
        order = torch.randperm(len(owners), generator=generator).numpy()
        owners = owners[order[: 1 + int(np.searchsorted(np.cumsum(lengths[order]), limit))]]
    counts: list[int] = np.bincount(owners, minlength=len(groups)).tolist()
    return counts


def _clips(edges: Edges, size: int) -> Iterator[list[int]]:
    """Give clips of one video as places in `edges`, which come in random order."""
    walk = _Walk(edges)
    clip: list[int] = []
    for start in range(len(edges)):
        walk.start(start)
        while (found := walk.next()) is not None:
            clip.append(found)
            if len(clip) == size:
                yield clip
                clip = []
                walk.forget()
    if clip:
        yield clip


class _Walk:
    """Walk along pairs that share frames: first those both of whose frames were seen, then those with one new frame."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._taken = [False] * len(edges)
        self._at: dict[int, list[int]] = {}
        for place, edge in enumerate(edges):
            for strip in set(edge):
                self._at.setdefault(strip, []).append(place)
        self.forget()

    def forget(self) -> None:
        """Begin a new clip, in which no frame was seen."""
        self._seen: set[int] = set()
        self._closed: deque[int] = deque()
        self._open: deque[int] = deque()

    def start(self, place: int) -> None:
        """Go on from a pair, if it was not taken yet."""
        self._open.append(place)

    def next(self) -> int | None:
        """Take the next pair; None when no pair that is left shares a frame."""
        for waiting in (self._closed, self._open):
            while waiting:
                place = waiting.popleft()
                if not self._taken[place]:
                    self._take(place)
                    return place
        return None

    def _take(self, place: int) -> None:
        self._taken[place] = True
        for strip in self._edges[place]:
            if strip not in self._seen:
                self._see(strip)

    def _see(self, strip: int) -> None:
        self._seen.add(strip)
        left = [place for place in self._at[strip] if not self._taken[place]]
        self._at[strip] = left
        for place in left:
            waiting = self._closed if self._seen.issuperset(self._edges[place]) else self._open
            waiting.append(place)
