"""What captions are put on, as ffmpeg's filter graph: shots with hard cuts, and things that are not captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from numpy.random import Generator
from plan import VideoPlan
from sources import Clip, Library
from subtitles import TICKER_SHARE

_TICKER = (
    "Markets close higher after a quiet session   +++   Ferry service resumes on Thursday   +++   Rain in the north   "
    "+++   Museum extends opening hours   +++   Two goals in the last minute decide the final   +++   "
)


@dataclass(frozen=True)
class Graph:
    """Part of an ffmpeg command."""

    inputs: tuple[str, ...]
    """Input options and files."""
    filters: str
    """Filter graph that ends in `[background]`, one frame per `1 / rate` seconds."""


@dataclass(frozen=True)
class _Shot:
    inputs: tuple[str, ...]
    filters: str
    """Chain behind the input, without its frame count."""


def background(plan: VideoPlan, library: Library) -> Graph:
    """Return the background of a video, distractor included, captions not."""
    rng = plan.rng("background")
    lengths = _shot_lengths(rng, plan)
    make = _SHOTS[plan.cards["background"]]
    shots = [make(rng, plan, library, frames) for frames in lengths]
    inputs = [option for shot in shots for option in shot.inputs]
    chains = [
        _chain(plan, number, shot, frames) for number, (shot, frames) in enumerate(zip(shots, lengths, strict=True))
    ]
    joined = "".join(f"[s{number}]" for number in range(len(shots)))
    # libass rounds down to milliseconds from the time base it is given, so it must be that of the measured captions.
    chains.append(f"{joined}concat=n={len(shots)},settb={1 / plan.rate},setpts=N{_grain(rng)}[shots]")
    extra, distracted = _DISTRACTORS[plan.cards["distractor"]](plan, library, len(shots))
    return Graph((*inputs, *extra), ";".join((*chains, distracted)))


def _shot_lengths(rng: Generator, plan: VideoPlan) -> list[int]:
    left, lengths = plan.frames, []
    while left > 0:
        frames = round(float(rng.uniform(1.5, 8.0) * plan.rate))
        lengths.append(left if left - frames < plan.rate else frames)
        left -= lengths[-1]
    return lengths


def _chain(plan: VideoPlan, number: int, shot: _Shot, frames: int) -> str:
    width, height = plan.size
    fitted = f"scale={width}:{height},setsar=1,format=yuv420p"
    return (
        # Changing the frame rate may round a shot's last frame away, so it is held a little longer before it is cut.
        f"[{number}:v]{shot.filters},{fitted},fps={plan.rate}:start_time=0,tpad=stop=3:stop_mode=clone,"
        f"trim=end_frame={frames},settb={1 / plan.rate},setpts=N[s{number}]"
    )


def _grain(rng: Generator) -> str:
    return f",noise=alls={rng.integers(3, 9)}:allf=t" if rng.random() < 0.25 else ""


def _footage(rng: Generator, plan: VideoPlan, library: Library, frames: int) -> _Shot:
    clip: Clip = library.clips[int(rng.integers(len(library.clips)))]
    needed = float(frames / plan.rate)
    spare = max(0.0, float(clip.frames / clip.rate) - needed - 0.5)
    start = float(clip.skipped / clip.rate) + float(rng.uniform(0, spare))
    zoom = float(rng.uniform(0.7, 1.0))
    filters = [f"setpts=N/({clip.rate})/TB", f"trim=start={start:.3f}", "setpts=PTS-STARTPTS"]
    filters.append(_cropped(plan, zoom, f"{rng.random():.3f}", f"{rng.random():.3f}"))
    filters += ["hflip"] * bool(rng.random() < 0.5)
    filters.append(f"eq=brightness={rng.uniform(-0.08, 0.12):.3f}:saturation={rng.uniform(0.5, 1.4):.3f}")
    return _Shot(("-stream_loop", "-1", "-i", str(clip.path)), ",".join(filters))


def _photo(rng: Generator, plan: VideoPlan, library: Library, frames: int) -> _Shot:
    """Return a photo with camera motion: panned, zoomed into, or (some) held still."""
    photo = library.photos[int(rng.integers(len(library.photos)))]
    inputs = ("-i", str(photo))
    width, height = plan.size
    kind = rng.random()
    if kind < 0.3:
        speed, x, y = rng.uniform(0.02, 0.5) / frames, rng.random(), rng.random()
        grown = _cropped(plan, 1.0, "0.5", "0.5") + f",scale={2 * width}:{2 * height}"
        zoomed = f"zoompan=z='1+{speed:.6f}*on':x='{x:.3f}*(iw-iw/zoom)':y='{y:.3f}*(ih-ih/zoom)'"
        return _Shot(inputs, f"{grown},{zoomed}:d={frames}:s={width}x{height}:fps={plan.rate}")
    speed = 0.0 if kind < 0.45 else float(rng.uniform(0.05, 0.5))
    right, down = (f"0.5+0.5*sin({phase:.3f}+t*{speed:.3f})" for phase in rng.uniform(0, 6.3, 2))
    held = f"loop=loop={frames}:size=1,setpts=N/({plan.rate})/TB"
    # Scaled before it is held, so that each frame costs one crop.
    grown = f"scale={round(1.5 * width)}:{round(1.5 * height)}:force_original_aspect_ratio=increase"
    return _Shot(inputs, f"{grown},{held},crop={width}:{height}:x='(iw-ow)*({right})':y='(ih-oh)*({down})'")


def _generated(rng: Generator, plan: VideoPlan, library: Library, frames: int) -> _Shot:
    width, height = plan.size
    seed, rate = int(rng.integers(1, 10**6)), plan.rate
    small = f"{width // 2}x{height // 2}"
    sources = (
        f"mandelbrot=s={small}:r={rate}:start_scale={rng.uniform(0.01, 1.5):.3f}:start_x=-0.7436:start_y=-0.1318",
        f"life=s={width // 4}x{height // 4}:r={rate}:seed={seed}:mold=25:ratio=0.3"
        ":death_color=#402818:life_color=#908030",
        f"gradients=s={small}:r={rate}:seed={seed}:n={rng.integers(2, 8)}:speed={rng.uniform(0.005, 0.05):.4f}",
    )
    return _Shot(("-f", "lavfi", "-i", sources[int(rng.integers(len(sources)))]), "null")


_SHOTS: dict[str, Callable[[Generator, VideoPlan, Library, int], _Shot]] = {
    "footage": _footage,
    "photo": _photo,
    "generated": _generated,
}


def _cropped(plan: VideoPlan, zoom: float, x: str, y: str) -> str:
    width, height = plan.size
    aspect = width / height
    size = f"w='{zoom:.3f}*min(iw,ih*{aspect:.5f})':h='{zoom:.3f}*min(ih,iw/{aspect:.5f})'"
    return f"crop={size}:x='(iw-ow)*{x}':y='(ih-oh)*{y}'"


Distractor = tuple[Sequence[str], str]
"""Further inputs, and the filters from `[shots]` to `[background]`."""


def _none(plan: VideoPlan, library: Library, number: int) -> Distractor:
    return (), "[shots]null[background]"


def _logo(plan: VideoPlan, library: Library, number: int) -> Distractor:
    """A logo that drifts in its corner, or bounces over the whole picture and so through the captions."""
    rng, height = plan.rng("distractor"), plan.size[1]
    image = library.logos[int(rng.integers(len(library.logos)))]
    scaled = f"[{number}:v]scale=-1:{round(height * rng.uniform(0.09, 0.15))},format=rgba[logo]"
    fast, slow = rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.3)
    if rng.random() < 0.5:
        x, y = f"W*0.03+W*0.05*(1+sin(t*{fast:.3f}))", f"H*0.04+H*0.04*(1+cos(t*{slow:.3f}))"
    else:
        x, y = f"(W-w)*abs(mod(t*{fast:.3f},2)-1)", f"(H-h)*abs(mod(t*{slow:.3f},2)-1)"
    return ("-i", str(image)), f"{scaled};[shots][logo]overlay=x='{x}':y='{y}'[background]"


def _clock(plan: VideoPlan, library: Library, number: int) -> Distractor:
    """A clock in a corner, away from the captions; most count seconds, some milliseconds."""
    rng = plan.rng("distractor")
    text = (
        "%{pts\\:hms}"
        if rng.random() < 0.3
        else f"%{{pts\\:gmtime\\:{rng.integers(10**8, 10**9)}\\:%H\\\\\\:%M\\\\\\:%S}}"
    )
    y = "h*0.93-th" if plan.cards["position"] == "top" else "h*0.05"
    return (), f"[shots]{_drawn(plan, library, text, 0.05, 'w*0.96-tw', y)}[background]"


def _ticker(plan: VideoPlan, library: Library, number: int) -> Distractor:
    """Running text in a band at the bottom; captions at the bottom stand above it."""
    rng = plan.rng("distractor")
    x = f"w-mod(t*{round(plan.size[0] * rng.uniform(0.12, 0.3))}\\,w+tw)"
    band = f"drawbox=x=0:y=ih*{1 - TICKER_SHARE}:w=iw:h=ih*{TICKER_SHARE}:color=navy@0.8:t=fill"
    drawn = _drawn(plan, library, _TICKER, 0.052, x, f"h*{1 - TICKER_SHARE / 2}-th/2", boxed=False)
    return (), f"[shots]{band},{drawn}[background]"


def _drawn(plan: VideoPlan, library: Library, text: str, share: float, x: str, y: str, *, boxed: bool = True) -> str:
    size = max(11, round(share * plan.size[1]))
    box = ":box=1:boxcolor=black@0.5:boxborderw=4" if boxed else ""
    font = library.fonts / "Lato-Regular.ttf"
    return f"drawtext=fontfile='{font}':text='{text}':fontsize={size}:fontcolor=white:x='{x}':y='{y}'{box}"


_DISTRACTORS: dict[str, Callable[[VideoPlan, Library, int], Distractor]] = {
    "none": _none,
    "logo": _logo,
    "clock": _clock,
    "ticker": _ticker,
}


@dataclass(frozen=True)
class FrameTimes:
    """How frames are dropped or moved in time, behind everything that is drawn."""

    filters: str
    """Filter chain, `null` for a constant frame rate."""
    options: tuple[str, ...]
    """Options of the encoder."""


def frame_times(plan: VideoPlan) -> FrameTimes:
    """Return what makes a video's frame rate variable."""
    rng = plan.rng("timing")
    rate: Fraction = plan.rate
    kind = plan.cards["timing"]
    if kind == "dropped":
        return FrameTimes(f"select='gte(mod(n*7919+{rng.integers(97)},97),{rng.integers(8, 28)})'", ())
    if kind == "stretches":
        return FrameTimes(f"select='lt(mod(n+{rng.integers(90)},150),90)+not(mod(n,2))'", ())
    if kind == "jitter":
        moved = f"settb=1/30000,setpts='round((N+0.35*sin(N*2.39996))/({rate})/TB)'"
        return FrameTimes(moved, ("-enc_time_base", "1:30000"))
    return FrameTimes("null", ())
