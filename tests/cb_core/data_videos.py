"""Small captioned videos for the tests of datasets."""

from fractions import Fraction

import av
import cv2
import numpy as np

from cb_runtime.geometry import Box

WIDTH, HEIGHT, RATE = 160, 96, 25
REGION = "0,64,160,96"
CAPTIONS = [(15, 35, "one"), (50, 65, "two"), (65, 85, "three")]


class CornerDetector:
    """Finds the caption where the tests draw it."""

    engine, version = "corner", "1.0"

    def __call__(self, image):
        rows, columns = np.nonzero(image.min(2) > 230)
        if not len(rows):
            return []
        return [(Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1), 0.9)]


def write_video(path, captions, frames=100, *, seed=0, pts=None):
    """Write a video that shows a word on frames `[start, end)` for every `(start, end, word)`."""
    rng = np.random.default_rng(seed)
    background = cv2.resize(rng.integers(0, 160, (6, 10, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(frames):
            image = np.roll(background, index, axis=1)
            for start, end, word in captions:
                if start <= index < end:
                    cv2.putText(image, word, (30, 86), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = (pts[index] if pts else index * 40), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def srt(captions, rate=RATE):
    """Return the SRT of captions given in frames."""
    return "".join(
        f"{number}\n{_clock(start / rate)} --> {_clock(end / rate)}\n{word}\n\n"
        for number, (start, end, word) in enumerate(captions, 1)
    )


def write_captioned(folder, name, captions, frames=100, *, seed=0):
    """Write a video and its SRT."""
    path = write_video(folder / f"{name}.mkv", captions, frames, seed=seed)
    path.with_suffix(".srt").write_text(srt(captions))
    return path


def write_three(folder):
    """Write three captioned videos of different backgrounds."""
    for number in range(3):
        write_captioned(folder, f"v{number}", CAPTIONS, seed=number)
    return folder


def _clock(seconds):
    ms = round(seconds * 1000)
    return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"
