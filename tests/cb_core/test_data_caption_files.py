from fractions import Fraction
from pathlib import Path

import pytest

from cb_core.data.caption_files import find_captions
from cb_runtime.errors import InputError
from cb_runtime.outputs import write_track
from cb_runtime.results import CaptionTrack
from cb_runtime.spans import Span
from cb_runtime.video.types import VideoInfo

ANNOTATION = '{"segments": [{"start": 1, "end": 2, "text": "Hello"}]}'
SRT = "1\n00:00:01,000 --> 00:00:02,000\nHello\n"


@pytest.fixture
def video(tmp_path):
    return tmp_path / "clip.one.mp4"


def written(video, suffix, text):
    path = video.with_suffix(suffix)
    path.write_text(text, encoding="utf-8")
    return path


def infer(video, *formats, frames=((7, 40), (55, 90))):
    """Write what `cb infer` writes for a model that found captions at these frames of 1001/24000 s."""
    time_base = Fraction(1001, 24000)
    info = VideoInfo(Path(video), 160, 96, time_base, 1 / time_base, 100, float(100 * time_base))
    spans = tuple(Span(start, end, time_base, start, end, None, 0.9) for start, end in frames)
    track = CaptionTrack(info, spans, None, False, (), {"name": "best.onnx"}, {})
    paths = [video.with_suffix(f".{name}") for name in formats]
    for path, name in zip(paths, formats, strict=True):
        write_track(track, path, name)
    return paths


def test_the_most_exact_caption_file_is_found(video, tmp_path):
    assert find_captions(video) is None
    srt = written(video, ".srt", SRT)
    assert find_captions(video) == srt
    document = written(video, ".json", ANNOTATION)
    assert find_captions(video) == document
    truth = written(video, ".truth.json", "{}")
    assert find_captions(video) == truth
    assert find_captions(video, tmp_path / "elsewhere") is None
    assert find_captions(tmp_path / "elsewhere" / video.name, tmp_path) == truth


def test_results_of_an_inference_beside_an_annotation_are_passed_over(video):
    (results,) = infer(video, "json")
    srt = written(video, ".srt", SRT)
    assert find_captions(video) == srt
    truth = written(video, ".truth.json", "{}")
    assert find_captions(video) == truth
    assert results.exists()


def test_results_of_an_inference_alone_are_refused_with_the_ways_out(video):
    infer(video, "json")
    with pytest.raises(InputError, match=r"clip\.one\.json is no annotation.*--captions.*take the key 'model' out"):
        find_captions(video)


@pytest.mark.parametrize("subtitles", ["srt", "vtt", "ass"])
@pytest.mark.parametrize("frames", [((7, 40), (55, 90)), ((3, 4), (4, 5)), ()])
def test_subtitles_of_the_same_inference_are_refused_too(video, subtitles, frames):
    infer(video, "json", subtitles, frames=frames)
    with pytest.raises(InputError, match=rf"clip\.one\.{subtitles} says the same"):
        find_captions(video)


def test_subtitles_that_people_corrected_are_used_beside_the_results(video):
    _, srt = infer(video, "json", "srt")
    infer(video, "srt", frames=((7, 40), (56, 90)))
    assert find_captions(video) == srt


def test_subtitles_that_people_transcribed_are_used_beside_the_results(video):
    _, srt = infer(video, "json", "srt")
    srt.write_text(srt.read_text().replace("[caption 1]", "Hello"))
    assert find_captions(video) == srt


def test_results_that_people_checked_are_used_once_they_say_so(video):
    (document,) = infer(video, "json")
    document.write_text(document.read_text().replace('"model":', '"corrected_from":'))
    assert find_captions(video) == document


@pytest.mark.parametrize("text", ['{"title": "A film"}', "[1, 2]", '"words"', '{"model": "camera 7"}'])
def test_an_unrelated_json_does_not_hide_the_subtitles(video, text):
    document = written(video, ".json", text)
    assert find_captions(video) == document  # alone it is tried, and its reader says what is missing
    srt = written(video, ".srt", SRT)
    assert find_captions(video) == srt


def test_a_damaged_json_is_not_silently_passed_over(video):
    document = written(video, ".json", ANNOTATION[:-2])
    written(video, ".srt", SRT)
    assert find_captions(video) == document
