from fractions import Fraction

import pytest

from cb_core.data.captions import read_captions
from cb_runtime.errors import InputError

SRT = "1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:03,000 --> 00:00:04,500\n<i>Good</i>\nbye\n"
VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n\n00:03.000 --> 00:04.500\n<i>Good</i>\nbye\n"
ASS = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,20\n\n"
    "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,Hello\n"
    "Comment: 0,0:00:01.00,0:00:09.00,Default,,0,0,0,,to do\n"
    "Dialogue: 0,0:00:03.00,0:00:04.50,Default,,0,0,0,,{\\i1}Good{\\i0}\\Nbye\n"
)
JSON = """{"segments": [
    {"id": 1, "start": 1.0, "end": 2.0, "text": "Hello"}, {"start": 3, "end": 4.5, "text": "Good\\nbye"}
]}"""


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "text"), [("a.srt", SRT), ("a.vtt", VTT), ("a.ass", ASS), ("a.json", JSON)])
def test_every_format_gives_the_same_captions(tmp_path, name, text):
    captions = read_captions(written(tmp_path, name, text)).captions
    assert [(caption.start, caption.end, caption.text) for caption in captions] == [
        (1, 2, "Hello"),
        (3, Fraction(9, 2), "Good\nbye"),
    ]


def test_pts_in_json_are_taken_exactly(tmp_path):
    text = '{"time_base": [1001, 24000], "captions": [{"start_pts": 7, "end_pts": 9, "start": 0.3, "text": "a"}]}'
    (caption,) = read_captions(written(tmp_path, "a.truth.json", text)).captions
    assert (caption.start, caption.end) == (Fraction(7007, 24000), Fraction(9009, 24000))


def test_a_time_base_may_stand_in_each_segment_as_text(tmp_path):
    text = '{"segments": [{"start_pts": 40, "end_pts": 80, "time_base": "1/1000", "text": null}]}'
    (caption,) = read_captions(written(tmp_path, "a.json", text)).captions
    assert (caption.start, caption.text) == (Fraction(1, 25), None)


def pts_json(start):
    return f'{{"time_base": [1, 25], "segments": [{{"start_pts": {start}, "end_pts": 20, "text": "a"}}]}}'


def test_whole_pts_may_be_written_with_a_decimal_point(tmp_path):
    (caption,) = read_captions(written(tmp_path, "a.json", pts_json("5.0"))).captions
    assert caption.start == Fraction(1, 5)


def test_captions_may_be_given_in_frames(tmp_path):
    text = '{"segments": [{"start_frame": 5, "end_frame": 9, "text": "a"}]}'
    (caption,) = read_captions(written(tmp_path, "a.json", text)).captions
    assert (caption.start_frame, caption.end_frame, caption.start) == (5, 9, None)


def test_not_transcribed_and_confirmed_empty_are_kept_apart(tmp_path):
    said = ('"text": null,', '"text": "",', "")
    segments = ", ".join(f'{{{text} "start": {n}, "end": {n + 1}}}' for n, text in enumerate(said))
    text = f'{{"segments": [{segments}]}}'
    captions = read_captions(written(tmp_path, "a.json", text)).captions
    assert [caption.text for caption in captions] == [None, "", None]


@pytest.mark.parametrize("text", ["", "[caption 3]"])
def test_a_timed_cue_without_words_counts_as_not_transcribed(tmp_path, text):
    path = written(
        tmp_path, "a.srt", f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n\n2\n00:00:03,000 --> 00:00:04,000\nb\n"
    )
    assert [caption.text for caption in read_captions(path).captions] == [None, "b"]


def test_two_cues_at_the_same_times_are_one_caption_of_two_lines(tmp_path):
    path = written(tmp_path, "a.ass", ASS + "Dialogue: 1,0:00:01.00,0:00:02.00,Default,,0,0,0,,world\n")
    assert [caption.text for caption in read_captions(path).captions] == ["Hello\nworld", "Good\nbye"]


@pytest.mark.parametrize(("name", "text"), [("a.srt", ""), ("a.srt", "\n \n"), ("a.vtt", "WEBVTT\n")])
def test_a_file_without_cues_says_that_there_are_no_captions(tmp_path, name, text):
    assert read_captions(written(tmp_path, name, text)).captions == ()


def test_annotated_stretches_are_read(tmp_path):
    file = read_captions(written(tmp_path, "a.json", '{"segments": [], "annotated": [[0, 2.5], [4, 5]]}'))
    assert file.annotated == ((0, Fraction(5, 2)), (4, 5))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.txt", "", "expected .json, .srt"),
        ("a.srt", "just some words\n", "not valid SRT"),
        ("a.srt", SRT.replace("00:00:03,000", "00:00:xx"), "2 cues seen, 1 understood"),
        ("a.vtt", "00:01.000 --> 00:02.000\nHello\n", "not valid VTT"),
        ("a.ass", "nothing of the kind\n", "not valid ASS"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[]", "list 'segments' or 'captions'"),
        ("a.json", '{"segments": [{"text": "a"}]}', "caption 1 must have"),
        ("a.json", '{"segments": ["a"]}', "caption 1 must have"),
        ("a.json", '{"segments": [{"start": 0, "end": 1, "text": 5}]}', "text is int"),
        ("a.json", '{"segments": [{"start": null, "end": 1, "text": "a"}]}', "not a number"),
        ("a.json", '{"segments": [{"start_frame": -4, "end_frame": 1, "text": "a"}]}', "count from 0"),
        ("a.json", '{"segments": [], "annotated": [1]}', "'annotated' must be"),
        ("a.json", '{"segments": [], "annotated": [["1/0", 2]]}', "'annotated' must be"),
        ("a.json", pts_json("1e400"), "caption 1 must have"),
        ("a.json", pts_json("-1e400"), "caption 1 must have"),
        ("a.json", pts_json("NaN"), "caption 1 must have"),
        ("a.json", pts_json("0.5"), "0.5 is not a whole number"),
        ("a.json", pts_json("true"), "True is not a whole number"),
        ("a.json", pts_json('"3"'), "'3' is not a whole number"),
        ("a.json", pts_json("1" + "0" * 400), "caption 1 must have"),
        ("a.json", '{"segments": [{"start_frame": 0, "end_frame": 1e400}]}', "caption 1 must have"),
        ("a.json", '{"segments": [{"start": 0, "end": 1, "region": [0, 0, 1e400, 9]}]}', "caption 1 must have"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_with_its_name(tmp_path, name, text, complaint):
    path = written(tmp_path, name, text)
    with pytest.raises(InputError, match="a\\.") as caught:
        read_captions(path)
    assert complaint in str(caught.value)


def test_another_encoding_than_utf_8_is_refused(tmp_path):
    path = tmp_path / "a.srt"
    path.write_bytes(SRT.replace("Hello", "Grüße").encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_captions(path)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_captions(tmp_path / "a.srt")
