import json
from fractions import Fraction

import pysubs2
import pytest

from cb_core.synth.script import CaptionEvent
from cb_core.synth.truth import opacities, read_truth, srt_text
from cb_runtime.errors import InputError


def test_subtitle_times_select_exactly_the_frames_of_the_truth():
    base = Fraction(1001, 24000)
    captions = [{"start_pts": start, "end_pts": start + 7, "text": "a\nb"} for start in range(0, 700, 7)]
    cues = pysubs2.SSAFile.from_string(srt_text(captions, base))
    assert len(cues) == len(captions)
    for cue, caption in zip(cues, captions, strict=True):
        shown = [pts for pts in range(800) if cue.start <= pts * base * 1000 < cue.end]
        assert shown == list(range(caption["start_pts"], caption["end_pts"]))
        assert cue.plaintext == "a\nb"


def test_opacity_is_that_of_the_most_visible_caption():
    events = [CaptionEvent(("a",), 0, 2, 8, 0, 4), CaptionEvent(("b",), 0, 8, 12, 4, 0)]
    values = opacities(events, 14)
    assert values[:2] == [0.0, 0.0]
    assert values[2:6] == [1.0] * 4
    assert min(values[6:10]) > 0.5
    assert values[12:] == [0.0, 0.0]


def test_a_damaged_ground_truth_is_refused(tmp_path):
    path = tmp_path / "x.truth.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not a readable ground truth"):
        read_truth(path)
    with pytest.raises(InputError, match="not a readable ground truth"):
        read_truth(tmp_path / "missing.truth.json")


@pytest.mark.parametrize("document", [{"schema": 99, "captions": []}, {"schema": 1}, []])
def test_a_ground_truth_of_another_schema_is_refused(tmp_path, document):
    path = tmp_path / "x.truth.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match="schema"):
        read_truth(path)
