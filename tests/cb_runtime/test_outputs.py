import csv
import errno
import json
import pkgutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pysubs2
import pytest
from tiny_videos import FRAMES, make_video

from cb_runtime import outputs
from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.layout import layout_from_region
from cb_runtime.outputs import FORMATS, formats, read_spans_json, suffix_of, write_track
from cb_runtime.outputs._cues import CENTISECOND, MILLISECOND, cue_times
from cb_runtime.results import CaptionTrack
from cb_runtime.spans import Span
from cb_runtime.video import open_source
from cb_runtime.video.database import VideoDatabase, append_results, read_captions, read_results, write_video_database

SUBTITLES = ("srt", "vtt", "ass")
TEXTS = (None, "Tom & <Jerry> {run}\nC:\\Nowhere", "", "\u4f60\u597d")


@pytest.fixture
def track(tmp_path):
    """Four captions of five frames; the second follows the first without a gap."""
    info = open_source(make_video(tmp_path / "v.mp4")).info
    edges = [(0, 4), (4, 9), (10, 14), (15, 20)]
    spans = tuple(
        Span(512 * start, 512 * end, info.time_base, start, end, text, 0.75, ("contradiction",) if text is None else ())
        for (start, end), text in zip(edges, TEXTS, strict=True)
    )
    fade = {"start_score": 0.9, "end_score": 0.8, "fade_in": (3, 6), "fade_in_pts": (1536, 3072)}
    spans = (
        spans[0],
        replace(spans[1], **fade),
        replace(spans[2], fade_out=(13, 15), fade_out_pts=(6656, 7680)),
        spans[3],
    )
    layout = layout_from_region(info, Box(4, 20, 60, 44))
    model = {"name": "best.onnx", "sha256": "0" * 64, "batch": np.int64(8), "path": Path("best.onnx")}
    return CaptionTrack(info, spans, layout, True, ("one problem",), model, {"frames": FRAMES, "rate": np.float32(2.5)})


def written(track, tmp_path, format):
    path = tmp_path / "out" / f"v{suffix_of(format)}"
    write_track(track, path, format)
    return path


def test_the_table_of_formats_is_the_folder():
    modules = {module.name for module in pkgutil.iter_modules(outputs.__path__) if not module.name.startswith("_")}
    assert set(FORMATS) == set(formats()) == modules


def test_suffixes_are_told_apart():
    suffixes = [suffix_of(format) for format in formats()]
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix.startswith(".") for suffix in suffixes)


def test_an_unknown_format_is_answered_with_the_known_ones(track, tmp_path):
    with pytest.raises(UsageError, match="srt, vtt, ass, json, csv, video_db"):
        write_track(track, tmp_path / "v.sub", "sub")


@pytest.mark.parametrize("format", formats())
class TestEveryFormat:
    """The conformance suite: what a user may expect of any output format."""

    def test_a_file_is_written_into_a_new_folder_and_nothing_beside_it(self, track, tmp_path, format):
        path = written(track, tmp_path, format)
        assert path.stat().st_size > 0
        assert list(path.parent.iterdir()) == [path]

    def test_a_video_without_captions_gives_a_file_too(self, track, tmp_path, format):
        assert written(replace(track, spans=(), layout=None), tmp_path, format).exists()

    def test_a_full_disk_is_told_and_leaves_no_half_file(self, track, tmp_path, format, monkeypatch):
        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("cb_runtime.files.os.fsync", full)
        with pytest.raises(InputError, match="The disk is full"):
            written(track, tmp_path, format)
        assert list((tmp_path / "out").iterdir()) == []

    def test_an_older_file_stays_whole_when_writing_fails(self, track, tmp_path, format, monkeypatch):
        path = written(track, tmp_path, format)
        before = path.read_bytes()

        class Broken(tuple):
            def __iter__(self):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            written(replace(track, spans=Broken()), tmp_path, format)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_a_place_that_is_no_folder_is_refused(self, track, tmp_path, format):
        (tmp_path / "file").touch()
        with pytest.raises(InputError):
            write_track(track, tmp_path / "file" / "sub" / "v.out", format)


@pytest.mark.parametrize("format", SUBTITLES)
class TestSubtitles:
    def test_other_tools_read_the_same_times(self, track, tmp_path, format):
        cues = pysubs2.load(str(written(track, tmp_path, format)))
        assert [(cue.start, cue.end) for cue in cues] == [(0, 160), (160, 360), (600, 800)]

    def test_an_untranscribed_caption_shows_its_number_and_a_confirmed_empty_one_nothing(self, track, tmp_path, format):
        cues = pysubs2.load(str(written(track, tmp_path, format)))
        assert [cue.plaintext for cue in cues][0::2] == ["[caption 1]", "\u4f60\u597d"]

    def test_the_same_frames_are_selected_at_any_frame_rate(self, track, tmp_path, format):
        unit = CENTISECOND if format == "ass" else MILLISECOND
        for rate in (Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60000, 1001), Fraction(90)):
            times = [round(index / rate * 90000) for index in range(400)]
            spans = [
                Span(times[start], times[start + 1 + start % 7], Fraction(1, 90000), start, start + 1 + start % 7)
                for start in range(0, 390, 9)
            ]
            path = written(replace(track, spans=tuple(spans)), tmp_path, format)
            for cue, span in zip(pysubs2.load(str(path)), spans, strict=True):
                shown = [index for index, time in enumerate(times) if cue.start <= Fraction(time, 90) < cue.end]
                assert shown == list(range(span.start_frame, span.end_frame))
                assert cue.start % int(unit * 1000) == 0


def test_rounding_to_nearest_would_select_other_frames():
    """Why `cue_times` rounds down: the first frame of a caption at 23.976 fps would stay bare."""
    span = Span(3, 6, Fraction(1001, 24000), 3, 6)
    start, end = cue_times(span, CENTISECOND)
    assert Fraction(start, 100) <= 3 * span.time_base < Fraction(round(3 * span.time_base * 100), 100)
    assert 5 * span.time_base < Fraction(end, 100) <= 6 * span.time_base


def test_captions_shorter_than_the_unit_and_before_zero_still_get_a_cue():
    assert cue_times(Span(5, 6, Fraction(1, 1000), 0, 1), CENTISECOND) == (0, 1)
    assert cue_times(Span(-50, 20, Fraction(1, 1000), 0, 1), MILLISECOND) == (0, 20)


def test_srt_counts_from_one_and_keeps_texts_as_they_are(track, tmp_path):
    lines = written(track, tmp_path, "srt").read_text(encoding="utf-8").split("\n")
    assert lines[:4] == ["1", "00:00:00,000 --> 00:00:00,160", "[caption 1]", ""]
    assert lines[4:7] == ["2", "00:00:00,160 --> 00:00:00,360", "Tom & <Jerry> {run}"]


def test_vtt_has_header_points_and_escapes(track, tmp_path):
    text = written(track, tmp_path, "vtt").read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\n")
    assert "00:00:00.160 --> 00:00:00.360" in text
    assert "Tom &amp; &lt;Jerry&gt; {run}" in text


def test_ass_has_the_size_of_the_video_and_escapes(track, tmp_path):
    text = written(track, tmp_path, "ass").read_text(encoding="utf-8")
    assert "PlayResX: 64\nPlayResY: 48" in text
    assert "0:00:00.16,0:00:00.36," in text
    assert "Tom & <Jerry> \\{run\\}\\NC:\\\u2060Nowhere" in text


def test_json_has_the_keys_that_subtitle_tools_read_and_the_exact_times(track, tmp_path):
    document = json.loads(written(track, tmp_path, "json").read_text(encoding="utf-8"))
    assert document["segments"][1] == {
        "id": 2,
        "start": 0.16,
        "end": 0.36,
        "text": TEXTS[1],
        "start_pts": 2048,
        "end_pts": 4608,
        "time_base": [1, 12800],
        "start_frame": 4,
        "end_frame": 9,
        "score": 0.75,
        "start_score": 0.9,
        "end_score": 0.8,
        "flags": [],
        "fade_in": [3, 6],
        "fade_in_pts": [1536, 3072],
        "fade_in_seconds": [0.12, 0.24],
        "fade_out": None,
        "fade_out_pts": None,
        "fade_out_seconds": None,
    }
    assert [segment["text"] for segment in document["segments"]] == list(TEXTS)
    assert document["partial"] is True
    assert document["messages"] == ["one problem"]
    assert document["model"] == {"name": "best.onnx", "sha256": "0" * 64, "batch": 8, "path": "best.onnx"}
    assert document["statistics"] == {"frames": FRAMES, "rate": 2.5}
    assert document["layout"]["region"] == [4, 20, 60, 44]
    assert document["video"]["width"] == 64


def test_json_reads_back_to_the_same_captions(track, tmp_path):
    assert read_spans_json(written(track, tmp_path, "json")) == list(track.spans)


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"segments": [{"id": 1}]}', '{"segments": [3]}'])
def test_what_is_not_our_json_is_refused(tmp_path, text):
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(InputError, match="cb infer --format json"):
        read_spans_json(tmp_path / "v.json")


def test_a_missing_json_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        read_spans_json(tmp_path / "none.json")


def test_csv_has_frame_timecode_and_seconds_of_start_end_and_length(track, tmp_path):
    with written(track, tmp_path, "csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [rows[1][key] for key in ("id", "start_frame", "start_timecode", "start_seconds")] == [
        "2", "4", "00:00:00.160", "0.16",
    ]  # fmt: skip
    assert [rows[1][key] for key in ("end_frame", "end_timecode", "end_seconds")] == ["9", "00:00:00.360", "0.36"]
    assert [rows[1][key] for key in ("length_frame", "length_timecode", "length_seconds")] == [
        "5", "00:00:00.200", "0.2",
    ]  # fmt: skip
    assert [row["transcribed"] for row in rows] == ["no", "yes", "yes", "yes"]
    assert [row["text"] for row in rows] == ["", *TEXTS[1:]]
    assert rows[0]["flags"] == "contradiction"
    assert [rows[1][key] for key in ("start_score", "end_score")] == ["0.9", "0.8"]
    columns = ("fade_in_start_frame", "fade_in_end_frame", "fade_out_start_frame", "fade_out_end_frame")
    assert [[row[key] for key in columns] for row in rows[1:3]] == [["3", "6", "", ""], ["", "", "13", "15"]]


def test_json_from_before_boundaries_had_scores_and_fades_is_read(track, tmp_path):
    path = written(track, tmp_path, "json")
    document = json.loads(path.read_text(encoding="utf-8"))
    for segment in document["segments"]:
        for key in [key for key in segment if key.startswith("fade_") or key in ("start_score", "end_score")]:
            del segment[key]
    path.write_text(json.dumps(document), encoding="utf-8")
    span = read_spans_json(path)[1]
    assert (span.start_score, span.end_score, span.fade_in, span.fade_out) == (1.0, 1.0, None, None)


class TestVideoDatabaseOutput:
    def test_a_video_file_becomes_a_database_with_its_results(self, track, tmp_path):
        path = written(track, tmp_path, "video_db")
        source = VideoDatabase(path)
        assert len(list(source.frames(track.layout.region))) == FRAMES
        assert source.layout == track.layout
        assert read_results(path) == list(track.spans)

    def test_a_database_keeps_its_captions_and_gains_the_results(self, track, tmp_path):
        path = tmp_path / "v.db"
        confirmed = replace(track.spans[3], score=1.0)
        write_video_database(path, open_source(track.video.path), track.layout, [confirmed])
        of_database = replace(track, video=open_source(path).info)
        write_track(of_database, path, "video_db")
        assert read_captions(path) == [confirmed]
        assert read_results(path) == list(track.spans)

    def test_a_database_is_copied_to_another_folder_and_stays_as_it_was(self, track, tmp_path):
        path = tmp_path / "v.db"
        write_video_database(path, open_source(track.video.path), track.layout)
        before = path.read_bytes()
        of_database = replace(track, video=open_source(path).info)
        for _ in range(2):
            copy = written(of_database, tmp_path, "video_db")
        assert path.read_bytes() == before
        assert read_results(copy, 1) == read_results(copy, 2) == list(track.spans)

    def test_a_database_from_before_boundaries_had_scores_and_fades_is_read_and_gains_them(self, track, tmp_path):
        path = written(track, tmp_path, "video_db")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("ALTER TABLE results DROP COLUMN boundaries")
        assert [span.start_frame for span in read_results(path)] == [0, 4, 10, 15]
        assert {(span.start_score, span.fade_in) for span in read_results(path)} == {(1.0, None)}
        written(track, tmp_path, "video_db")
        assert read_results(path) == list(track.spans)

    def test_earlier_runs_are_kept(self, track, tmp_path):
        path = written(track, tmp_path, "video_db")
        written(replace(track, spans=track.spans[:1]), tmp_path, "video_db")
        assert (len(read_results(path, 1)), len(read_results(path, 2))) == (4, 1)

    def test_a_database_written_when_no_text_was_seen_gets_its_frames_later(self, track, tmp_path):
        path = written(replace(track, spans=(), layout=None), tmp_path, "video_db")
        written(track, tmp_path, "video_db")
        assert len(list(VideoDatabase(path).frames())) == FRAMES

    def test_the_database_of_another_video_is_never_overwritten(self, track, tmp_path):
        other = make_video(tmp_path / "other.mp4", frames=3)
        path = tmp_path / "out" / "v.db"
        write_video_database(path, open_source(other), None)
        append_results(path, [])
        before = path.read_bytes()
        with pytest.raises(InputError, match=r"holds another video \(other\.mp4"):
            write_track(track, path, "video_db")
        assert path.read_bytes() == before

    def test_a_file_that_is_no_video_database_is_never_overwritten(self, track, tmp_path):
        (tmp_path / "v.db").write_text("my notes")
        with pytest.raises(InputError, match="not a video database"):
            write_track(track, tmp_path / "v.db", "video_db")
        assert (tmp_path / "v.db").read_text() == "my notes"

    def test_a_video_that_is_gone_is_told(self, track, tmp_path):
        track.video.path.unlink()
        with pytest.raises(InputError, match="does not exist"):
            written(track, tmp_path, "video_db")
