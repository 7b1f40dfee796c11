import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiny_videos import FRAMES, HEIGHT, WIDTH, cut_off, make_video

from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.layout import layout_from_boxes, layout_from_region
from cb_runtime.spans import Span
from cb_runtime.video import database_write, open_source
from cb_runtime.video.database import (
    VideoDatabase,
    append_results,
    copy_video_database,
    read_captions,
    read_layout,
    read_results,
    write_video_database,
)

REGION = Box(7, 11, 50, 45)


def spans(time_base, *texts):
    return [
        Span(512 * 4 * n, 512 * (4 * n + 3), time_base, 4 * n, 4 * n + 3, text, 0.5, ("contradiction",))
        for n, text in enumerate(texts)
    ]


@pytest.fixture
def video(tmp_path):
    return open_source(make_video(tmp_path / "v.mp4"))


@pytest.fixture
def database(video, tmp_path):
    path = tmp_path / "v.db"
    write_video_database(path, video, layout_from_region(video.info, REGION))
    return path


def test_frames_come_back_with_exact_times_and_close_pixels(video, database):
    stored = open_source(database)
    for original, frame in zip(video.frames(REGION), stored.frames(REGION), strict=True):
        assert (frame.index, frame.pts, frame.duration) == (original.index, original.pts, original.duration)
        assert frame.image.shape == (REGION.height, REGION.width, 3)
        assert np.abs(frame.image.astype(int) - original.image).mean() < 3


def test_the_database_tells_of_the_video_what_the_video_told(video, database):
    info = open_source(database).info
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    assert info.time_base == video.info.time_base
    assert info.average_rate == video.info.average_rate
    assert info.duration_seconds == video.info.duration_seconds
    assert (info.frame_count, info.frame_count_exact) == (FRAMES, True)
    assert info.path == database
    assert open_source(database).name == "v.mp4"


def test_no_region_means_the_whole_stored_region_and_so_do_samples(database):
    source = VideoDatabase(database)
    shape = (REGION.height, REGION.width, 3)
    assert next(source.frames()).image.shape == shape
    assert {frame.image.shape for frame in source.sample(3)} == {shape}


def test_a_region_inside_the_stored_one_is_cut_from_it(database):
    source = VideoDatabase(database)
    whole, part = next(source.frames()).image, next(source.frames(Box(10, 12, 20, 40))).image
    assert np.array_equal(part, whole[1:29, 3:13])


@pytest.mark.parametrize("box", [Box(6, 11, 50, 45), Box(7, 10, 50, 45), Box(7, 11, 51, 45), Box(7, 11, 50, 46)])
def test_a_region_beyond_the_stored_one_is_refused(database, box):
    with pytest.raises(InputError, match="holds only the region"):
        VideoDatabase(database).frames(box)


def test_the_layout_comes_back_whole(video, tmp_path):
    layout = layout_from_boxes(video.info, [Box(10, 30, 50, 38), Box(12, 31, 48, 38)], 2)
    write_video_database(tmp_path / "v.db", video, layout)
    assert read_layout(tmp_path / "v.db") == layout
    assert VideoDatabase(tmp_path / "v.db").layout == layout


def test_untranscribed_and_confirmed_empty_captions_are_never_mixed_up(video, tmp_path):
    captions = spans(video.info.time_base, None, "", "Gr\u00fc\u00df dich")
    write_video_database(tmp_path / "v.db", video, layout_from_region(video.info, REGION), captions)
    assert [span.text for span in read_captions(tmp_path / "v.db")] == [None, "", "Gr\u00fc\u00df dich"]
    append_results(tmp_path / "v.db", captions)
    assert read_results(tmp_path / "v.db") == captions


def test_results_of_every_run_are_kept_beside_confirmed_captions(video, database):
    first = append_results(database, spans(video.info.time_base, "a"), model={"name": "m"}, partial=True)
    second = append_results(database, spans(video.info.time_base, "b", "c"), messages=["x"], statistics={"fps": 2.5})
    assert [span.text for span in read_results(database, first)] == ["a"]
    assert [span.text for span in read_results(database)] == ["b", "c"]
    assert read_captions(database) == []
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT id, partial, model, statistics, messages FROM runs").fetchall()
    assert rows == [(first, 1, '{"name": "m"}', "{}", "[]"), (second, 0, "{}", '{"fps": 2.5}', '["x"]')]


def test_a_run_without_captions_is_a_result_too(video, database):
    append_results(database, spans(video.info.time_base, "a"))
    append_results(database, [])
    assert read_results(database) == []


def test_captions_in_another_time_base_are_refused(video, database, tmp_path):
    wrong = [Span(0, 40, Fraction(1, 1000), 0, 1)]
    with pytest.raises(UsageError, match="time base 1/12800"):
        append_results(database, wrong)
    with pytest.raises(UsageError, match="time base 1/12800"):
        write_video_database(tmp_path / "w.db", video, None, wrong)


def test_a_video_without_text_is_stored_without_frames(video, tmp_path):
    write_video_database(tmp_path / "v.db", video, None)
    source = open_source(tmp_path / "v.db")
    assert source.layout is None
    assert list(source.frames()) == list(source.sample(5)) == []


def test_a_partial_video_gives_a_partial_database(tmp_path):
    path = make_video(tmp_path / "v.mp4", container_options={"movflags": "+faststart"})
    cut_off(path, 0.8)
    video = open_source(path)
    write_video_database(tmp_path / "v.db", video, layout_from_region(video.info, REGION))
    source = open_source(tmp_path / "v.db")
    assert 0 < len(list(source.frames())) < FRAMES
    assert source.report.truncated
    assert source.report.messages == video.report.messages


def test_quality_decides_over_size(video, tmp_path):
    layout = layout_from_region(video.info, Box(0, 0, WIDTH, HEIGHT))
    sizes = []
    for quality in (30, 95):
        write_video_database(tmp_path / "v.db", video, layout, quality=quality)
        sizes.append((tmp_path / "v.db").stat().st_size)
    assert sizes[0] < sizes[1]


def test_progress_is_told_after_each_frame(video, tmp_path):
    told = []
    write_video_database(
        tmp_path / "v.db", video, layout_from_region(video.info, REGION), progress=lambda *a: told.append(a)
    )
    assert told[-1] == ("frames", FRAMES, FRAMES)


def test_a_copy_is_the_same_database(video, database, tmp_path):
    append_results(database, spans(video.info.time_base, "a"))
    copy_video_database(database, tmp_path / "copy.db")
    assert read_results(tmp_path / "copy.db") == read_results(database)
    assert len(list(VideoDatabase(tmp_path / "copy.db").frames())) == FRAMES


class TestNothingIsLost:
    def test_a_writer_that_fails_leaves_the_older_file_as_it_was(self, video, database, monkeypatch):
        before = database.read_bytes()
        monkeypatch.setattr(database_write, "jpeg_from_image", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_video_database(database, video, layout_from_region(video.info, REGION))
        assert database.read_bytes() == before
        assert sorted(path.name for path in database.parent.iterdir()) == ["v.db", "v.mp4"]

    def test_a_disk_that_fills_up_while_writing_leaves_the_older_file_as_it_was(self, video, database, small_disk):
        before = database.read_bytes()
        with pytest.raises(InputError, match=r"The disk is full: .*v\.db was not changed"):
            write_video_database(database, video, layout_from_region(video.info, REGION))
        assert database.read_bytes() == before
        assert sorted(path.name for path in database.parent.iterdir()) == ["v.db", "v.mp4"]

    def test_a_disk_that_fills_up_while_appending_loses_no_earlier_run(self, video, database, small_disk):
        append_results(database, spans(video.info.time_base, "a"))
        many = spans(video.info.time_base, *["long text " * 100] * 2000)
        with pytest.raises(InputError, match="The disk is full"):
            append_results(database, many)
        assert [span.text for span in read_results(database)] == ["a"]
        assert len(list(VideoDatabase(database).frames())) == FRAMES

    @pytest.fixture
    def small_disk(self, monkeypatch):
        def connect(path, original=database_write.connect):
            connection = original(path)
            pages = max(10, connection.execute("PRAGMA page_count").fetchone()[0] + 5)
            connection.execute(f"PRAGMA max_page_count = {pages}")
            return connection

        monkeypatch.setattr("cb_runtime.video.database_write.connect", connect)
        monkeypatch.setattr("cb_runtime.video.database_file.connect", connect)

    def test_a_kill_while_writing_leaves_the_older_file_as_it_was(self, database, tmp_path):
        before = database.read_bytes()
        killed(
            tmp_path,
            """
            source = open_source("v.mp4")
            die_at = lambda phase, done, total=None: done == 10 and os.kill(os.getpid(), signal.SIGKILL)
            write_video_database("v.db", source, layout_from_region(source.info, Box(0, 0, 64, 48)), progress=die_at)
            """,
        )
        assert database.read_bytes() == before

    def test_a_kill_while_appending_loses_no_earlier_run(self, video, database, tmp_path):
        append_results(database, spans(video.info.time_base, "a"))
        killed(
            tmp_path,
            """
            import sqlite3
            from cb_runtime.video import database_file
            connection = database_file.connect(Path("v.db"))
            connection.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the commit
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO runs VALUES (2, '', 0, '{}', '{}', '[]')")
            row = (2, 0, 1, 0, 1, "x" * 1000, 1.0, "[]", "{}")
            connection.executemany("INSERT INTO results VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [row] * 500)
            os.kill(os.getpid(), signal.SIGKILL)
            """,
        )
        assert database.with_name("v.db-journal").exists()  # the kill did come in the middle
        assert [span.text for span in read_results(database)] == ["a"]
        assert len(list(VideoDatabase(database).frames())) == FRAMES


def killed(folder, code):
    head = """
            import os, signal
            from pathlib import Path
            from cb_runtime.geometry import Box
            from cb_runtime.layout import layout_from_region
            from cb_runtime.video import open_source
            from cb_runtime.video.database import write_video_database
    """
    script = "\n".join(line[12:] for line in (head + code).splitlines())
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL


class TestNotAVideoDatabase:
    def test_a_missing_file(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            open_source(tmp_path / "v.db")
        with pytest.raises(InputError, match="does not exist"):
            append_results(tmp_path / "v.db", [])

    def test_a_folder(self, tmp_path):
        (tmp_path / "v.db").mkdir()
        with pytest.raises(InputError, match="is no file"):
            open_source(tmp_path / "v.db")

    def test_a_text_file(self, tmp_path):
        (tmp_path / "v.db").write_text("hello world\n" * 50)
        with pytest.raises(InputError, match="not a video database"):
            open_source(tmp_path / "v.db")

    def test_an_empty_file_or_another_database(self, tmp_path):
        (tmp_path / "v.db").touch()
        with pytest.raises(InputError, match="cb dataset"):
            open_source(tmp_path / "v.db")

    def test_a_newer_schema(self, database):
        change(database, "PRAGMA user_version = 2")
        with pytest.raises(InputError, match="schema 2, this cb reads schema 1"):
            open_source(database)

    def test_a_database_that_lacks_what_it_should_tell(self, database):
        change(database, "DELETE FROM video WHERE key = 'time_base'")
        with pytest.raises(InputError, match="time_base"):
            open_source(database)

    def test_a_database_that_another_program_keeps_locked(self, database, monkeypatch):
        monkeypatch.setattr("cb_runtime.video.database_file.BUSY_SECONDS", 0.01)
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(InputError, match="being written by another program"):
                append_results(database, [])

    def test_a_database_that_may_not_be_written(self, database, monkeypatch):
        def connect(path):
            return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)

        monkeypatch.setattr("cb_runtime.video.database_file.connect", connect)
        with pytest.raises(InputError, match="cannot be opened or written"):
            append_results(database, [])


class TestDamage:
    def test_a_damaged_picture_is_left_out_and_counted(self, database):
        change(database, "UPDATE frames SET jpeg = x'00ff00' WHERE position = 3")
        change(database, "UPDATE frames SET jpeg = x'' WHERE position = 5")
        source = VideoDatabase(database)
        frames = list(source.frames())
        assert [frame.index for frame in frames] == list(range(FRAMES - 2))
        assert source.report.errors == 2
        assert source.report.partial
        assert any("2 damaged pictures" in message for message in source.report.messages)

    def test_frames_before_a_damaged_page_are_kept(self, tmp_path):
        video = open_source(make_video(tmp_path / "v.mp4", frames=60, size=(320, 240)))
        path = tmp_path / "v.db"
        write_video_database(path, video, layout_from_region(video.info, Box(0, 0, 320, 240)))
        data = bytearray(path.read_bytes())
        with closing(sqlite3.connect(path)) as connection:
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        middle = len(data) // 2 // size * size
        data[middle : -20 * size] = b"\xff" * len(data[middle : -20 * size])
        path.write_bytes(data)
        source = VideoDatabase(path)
        assert 0 < len(list(source.frames())) < 60
        assert source.report.partial


def change(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_the_file_is_plain_sqlite_that_other_tools_can_read(database):
    with closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        (jpeg,) = connection.execute("SELECT jpeg FROM frames LIMIT 1").fetchone()
        (layout,) = connection.execute("SELECT value FROM video WHERE key = 'layout'").fetchone()
    assert tables == {"video", "frames", "captions", "runs", "results"}
    assert jpeg[:3] == b"\xff\xd8\xff"
    assert json.loads(layout)["region"] == list(REGION.as_tuple())


def test_a_region_of_a_video_that_was_stored_without_frames_is_refused(video, tmp_path):
    write_video_database(tmp_path / "bare.db", video, None)
    stored = open_source(tmp_path / "bare.db")
    assert list(stored.frames()) == []
    with pytest.raises(InputError, match=r"bare\.db holds no frames: no text was seen in v\.mp4.*--region"):
        stored.frames(REGION)


@pytest.mark.parametrize("value", ["{", "[1, 0]"])
def test_values_that_cannot_be_read_are_told_as_damage(database, value):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE video SET value = ? WHERE key = 'time_base'", [value])
    with pytest.raises(InputError, match=r"is damaged .*Write it again from the video"):
        VideoDatabase(database)
