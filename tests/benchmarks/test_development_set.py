"""The development set: what folders hold becomes clips, photos and logos."""

from fractions import Fraction

import av
import cv2
import development
import numpy as np
import pytest
from texts import SCRIPTS

from cb_runtime.errors import InputError


def write_clip(path, frames, rate=Fraction(25)):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 256, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@pytest.fixture
def folders(tmp_path):
    found = {name: tmp_path / name for name in ("footage", "photos", "logos", "fonts")}
    for folder in found.values():
        folder.mkdir()
    write_clip(found["footage"] / "long.mp4", 75, Fraction(30000, 1001))
    write_clip(found["footage"] / "short.mp4", 20)
    for name in ("photos", "logos"):
        cv2.imwrite(str(found[name] / "picture.png"), np.zeros((40, 60, 3), np.uint8))
    return found


def test_clips_keep_their_rate_and_number_of_frames_and_short_ones_are_left_out(folders):
    library = development.library_of(**folders)
    assert [(clip.name, clip.rate, clip.frames) for clip in library.clips] == [("long", Fraction(30000, 1001), 75)]
    assert [path.name for path in (*library.photos, *library.logos)] == ["picture.png", "picture.png"]


@pytest.mark.parametrize("missing", ["footage", "photos", "logos"])
def test_a_folder_without_anything_of_its_kind_is_named(folders, missing):
    for path in folders[missing].iterdir():
        path.unlink()
    with pytest.raises(InputError, match=str(folders[missing])):
        development.library_of(**folders)


def test_fonts_are_those_that_training_had_for_every_writing_system(monkeypatch):
    assert development.FAMILIES.keys() == SCRIPTS.keys()
    for name, script in SCRIPTS.items():
        monkeypatch.setitem(SCRIPTS, name, script)
        assert not set(script.fonts) & set(development.FAMILIES[name])
    development.use_training_fonts()
    assert {name: script.fonts for name, script in SCRIPTS.items()} == development.FAMILIES
