"""What each video of the set is like. Every property is dealt from a shuffled deck, so that none is left to luck."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.random import Generator
from texts import SCRIPTS

GENERATOR = "libass set 1"
"""Who rendered, with a number that rises whenever the same seed begins to give other videos."""

_RATES = {
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
    "60": Fraction(60),
}
_RESOLUTIONS = {
    "240p": ((320, 240), (426, 240)),
    "360p": ((640, 360),),
    "480p": ((854, 480), (640, 480)),
    "576p": ((720, 576),),
    "720p": ((1280, 720),),
    "1080p": ((1920, 1080),),
}
_DECKS: dict[str, dict[str, float]] = {
    "resolution": {"240p": 0.12, "360p": 0.3, "480p": 0.28, "576p": 0.06, "720p": 0.19, "1080p": 0.05},
    "frame_rate": {"23.976": 0.2, "25": 0.32, "29.97": 0.18, "30": 0.18, "50": 0.06, "60": 0.06},
    "codec": {"h264": 0.7, "vp9": 0.15, "mpeg4": 0.15},
    "quality": {"high": 0.3, "medium": 0.4, "low": 0.3},
    "script": {
        "latin": 0.42,
        "chinese": 0.11,
        "japanese": 0.08,
        "korean": 0.07,
        "cyrillic": 0.09,
        "greek": 0.05,
        "arabic": 0.07,
        "devanagari": 0.05,
        "thai": 0.06,
    },
    "lines": {"one": 0.4, "two": 0.2, "mixed": 0.4},
    "position": {"bottom": 0.72, "top": 0.14, "left": 0.14},
    "style": {"outline": 0.5, "shadow": 0.2, "box": 0.3},
    "transition": {"cut": 0.62, "fade": 0.14, "mixed": 0.24},
    "background": {"footage": 0.54, "photo": 0.3, "generated": 0.16},
    "distractor": {"none": 0.5, "logo": 0.17, "clock": 0.17, "ticker": 0.16},
    "timing": {"constant": 0.79, "dropped": 0.07, "stretches": 0.07, "jitter": 0.07},
    "karaoke": {"no": 0.88, "yes": 0.12},
    "captions": {"yes": 11 / 12, "no": 1 / 12},
}
_LARGER = {"Amiri": 2.1, "KacstOne": 1.35}
"""Families set larger: ASS counts the height of lines, and theirs is several times that of their letters."""
_COLOURS = ((255, 255, 255), (255, 255, 255), (255, 240, 60), (120, 240, 255), (170, 255, 150), (255, 190, 90))


@dataclass(frozen=True)
class VideoPlan:
    """Everything about one video but its captions, drawn from the seed."""

    seed: int
    index: int
    seconds: float
    size: tuple[int, int]
    rate: Fraction
    cards: Mapping[str, str]
    """The cards this video was dealt, by deck."""
    font: str
    font_size: int
    """In pixels, as ASS counts it."""
    colour: tuple[int, int, int]
    box_opacity: float
    encoding: tuple[str, ...]
    """Options of ffmpeg."""
    suffix: str

    @property
    def stem(self) -> str:
        """File name without its suffix."""
        return f"libass_{self.index:04d}"

    @property
    def frames(self) -> int:
        """How many frames are rendered, before any are dropped."""
        return round(self.seconds * self.rate)

    @property
    def captioned(self) -> bool:
        """False for the videos that show no caption at all."""
        return self.cards["captions"] == "yes"

    def rng(self, purpose: str) -> Generator:
        """Return this video's own random numbers for one purpose."""
        return np.random.default_rng([self.seed, self.index, *purpose.encode()])

    def digest(self) -> str:
        """Return a digest of the plan: what is on disk with another one is rendered again."""
        plain = {**asdict(self), "rate": str(self.rate), "generator": GENERATOR}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def slices(self) -> dict[str, Any]:
        """Return by what results are grouped; what only captions have is `none` in videos without."""
        own = {name: self.cards[name] for name in ("resolution", "frame_rate", "codec", "quality")}
        of_captions = {name: self.cards[name] for name in ("script", "lines", "position", "style", "transition")}
        of_captions["font"] = self.font
        if not self.captioned:
            of_captions = dict.fromkeys(of_captions, "none")
        rest = {name: self.cards[name] for name in ("background", "distractor", "timing")}
        return {**own, **of_captions, **rest, "vfr": self.cards["timing"] != "constant"}


def plan_videos(videos: int, seconds: float, seed: int) -> list[VideoPlan]:
    """Deal the properties of all videos of a set."""
    rng = np.random.default_rng([seed, videos])
    dealt = {name: _deal(rng, odds, videos) for name, odds in _DECKS.items()}
    fonts: dict[str, int] = {}
    plans = []
    for index in range(videos):
        cards = {name: cards[index] for name, cards in dealt.items()}
        families = SCRIPTS[cards["script"]].fonts
        turn = fonts.get(cards["script"], seed)
        fonts[cards["script"]] = turn + 1
        plans.append(_plan(seed, index, seconds, cards, families[turn % len(families)]))
    return plans


def _deal(rng: Generator, odds: Mapping[str, float], count: int) -> list[str]:
    bounds = np.cumsum(list(odds.values())) / sum(odds.values())
    places = np.searchsorted(bounds, (np.arange(count) + 0.5) / count)
    return [list(odds)[place] for place in rng.permutation(places)]


def _plan(seed: int, index: int, seconds: float, cards: Mapping[str, str], font: str) -> VideoPlan:
    rng = np.random.default_rng([seed, index])
    sizes = _RESOLUTIONS[cards["resolution"]]
    size = sizes[int(rng.integers(len(sizes)))]
    suffix = ".mkv" if cards["codec"] == "vp9" or rng.random() < 0.25 else ".mp4"
    share = rng.uniform(0.08, 0.11) if size[1] <= 240 else rng.uniform(0.06, 0.1)
    return VideoPlan(
        seed,
        index,
        seconds,
        size,
        _RATES[cards["frame_rate"]],
        dict(cards),
        font,
        round(share * size[1] * _LARGER.get(font, 1.0)),
        _COLOURS[int(rng.integers(len(_COLOURS)))],
        float(rng.choice([0.5, 0.7, 1.0])),
        _encoding(rng, cards["codec"], cards["quality"]),
        suffix,
    )


def _encoding(rng: Generator, codec: str, quality: str) -> tuple[str, ...]:
    third = ("high", "medium", "low").index(quality)
    if codec == "h264":
        crf = rng.integers(*((18, 23), (23, 29), (29, 35))[third])
        return ("-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf))
    if codec == "vp9":
        crf = rng.integers(*((24, 31), (31, 39), (39, 47))[third])
        return ("-c:v", "libvpx-vp9", "-crf", str(crf), "-b:v", "0", "-deadline", "realtime", "-cpu-used", "8")
    scale = rng.integers(*((2, 4), (4, 7), (7, 10))[third])
    return ("-c:v", "mpeg4", "-q:v", str(scale))
