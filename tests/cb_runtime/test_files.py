"""Files appear under their name only when they are whole."""

import errno
import os
import time
from pathlib import Path

import pytest

from cb_runtime import files
from cb_runtime.errors import InputError, StorageError
from cb_runtime.files import atomic_folder, atomic_path, check_writable, folder_beside, sha256_of_file


def write(path, text):
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def test_the_file_appears_with_its_folder(tmp_path):
    write(tmp_path / "new" / "a.txt", "hello")
    assert (tmp_path / "new" / "a.txt").read_text() == "hello"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_file_is_readable_as_any_new_file_of_the_user(tmp_path):
    write(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path):
    write(tmp_path / "a.txt", "old")

    def fail_halfway():
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path):
    write(tmp_path / "a.txt", "old")
    with pytest.raises(StorageError, match=r"disk is full.*a\.txt"), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_full_disk_below_a_temporary_name_is_told_by_the_final_name(tmp_path):
    with (
        pytest.raises(StorageError) as caught,
        atomic_path(tmp_path / "a.txt") as outer,
        atomic_path(outer),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(tmp_path / "a.txt was not written") in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        write(tmp_path / "file" / "below" / "a.txt", "x")


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(StorageError, match=r"a\.txt cannot be written"):
        write(tmp_path / "a.txt", "x")


def test_a_folder_that_can_be_written_is_made_and_stays_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file cannot be written"):
        check_writable(tmp_path / "file")


def left_behind(path, hours=0.0):
    """Return the temporary file of a writer that was killed `hours` ago."""
    with atomic_path(path) as temporary:
        name = temporary.name
        temporary.write_text("half")
    left = path.with_name(name)
    left.write_text("half")
    os.utime(left, (time.time() - hours * 3600,) * 2)
    return left


def test_what_a_killed_writer_left_behind_is_removed_by_the_next(tmp_path):
    left = left_behind(tmp_path / "a.txt")
    nested = left_behind(left, hours=2)
    os.utime(left, (0, 0))
    write(tmp_path / "a.txt", "whole")
    assert not left.exists()
    assert not nested.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_to_prepare_in_goes_with_the_block_and_after_a_kill_with_the_next_write(tmp_path):
    with folder_beside(tmp_path / "a.txt") as folder:
        (folder / "b").write_text("tried")
        assert folder.parent == tmp_path
    assert not folder.exists()
    folder.mkdir()
    (folder / "b").write_text("left by a kill")
    os.utime(folder, (0, 0))
    write(tmp_path / "a.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_to_prepare_in_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"), folder_beside(tmp_path / "file" / "a.txt"):
        pass


def test_a_temporary_file_that_may_still_be_written_stays(tmp_path):
    young = left_behind(tmp_path / "a.txt")
    write(tmp_path / "a.txt", "other")
    assert young.exists()


@pytest.mark.parametrize(
    "name", [".a.subtitle.txt", ".a.12345678.txt", "a.cb-tmp-12345678.txt", ".b.cb-tmp-12345678.txt"]
)
def test_old_files_that_are_not_left_behind_by_this_name_stay(tmp_path, name):
    (tmp_path / name).write_text("mine")
    os.utime(tmp_path / name, (0, 0))
    write(tmp_path / "a.txt", "x")
    assert (tmp_path / name).read_text() == "mine"


def test_another_system_error_is_passed_on_as_it_is(tmp_path):
    with pytest.raises(OSError, match="Input/output"), atomic_path(tmp_path / "a"):
        raise OSError(errno.EIO, "Input/output error")


def test_the_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def fill(folder, text):
    with atomic_folder(folder) as temporary:
        (temporary / "1").mkdir()
        (temporary / "1" / "a.txt").write_text(text)


def test_a_folder_appears_whole_and_replaces_an_older_one_with_all_in_it(tmp_path):
    place = tmp_path / "new" / "folder"
    fill(place, "old")
    (place / "more").write_text("x")
    fill(place, "new")
    assert [path.name for path in place.iterdir()] == ["1"]
    assert (place / "1" / "a.txt").read_text() == "new"
    assert [path.name for path in place.parent.iterdir()] == ["folder"]


def test_a_folder_is_readable_as_any_new_folder_of_the_user(tmp_path):
    fill(tmp_path / "a", "x")
    (tmp_path / "b").mkdir()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_every_file_and_folder_below_is_brought_to_the_disk_before_the_folder_appears(tmp_path, monkeypatch):
    flushed, flush = [], files._flush

    def spy(path):
        assert not (tmp_path / "folder").exists()
        flushed.append(path.name)
        flush(path)

    monkeypatch.setattr(files, "_flush", spy)
    fill(tmp_path / "folder", "x")
    assert sorted(flushed[:-1]) == ["1", "a.txt"]
    assert flushed[-1].startswith(".folder")


def test_after_an_error_the_old_folder_stays_and_nothing_else(tmp_path):
    fill(tmp_path / "folder", "old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder"):
        raise RuntimeError
    assert (tmp_path / "folder" / "1" / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="folder cannot be written"):
        fill(tmp_path / "file" / "folder", "x")


@pytest.mark.parametrize("letter", ["x", "é", "日", "\udce9"])
@pytest.mark.parametrize("length", [100, 251])
def test_a_name_as_long_as_a_file_can_have_is_written(tmp_path, letter, length):
    place = tmp_path / (letter * (length // len(os.fsencode(letter))) + ".txt")
    write(place, "hello")
    with atomic_folder(place.with_suffix(".dir")) as folder:
        (folder / "a").touch()
    assert {path.name for path in tmp_path.iterdir()} == {place.name, place.with_suffix(".dir").name}


def test_names_that_differ_at_the_end_alone_are_still_told_apart_where_they_are_cut():
    one, other = (files.short_stem(Path("x" * 240 + end + ".json")) for end in "ab")
    assert one != other
    assert max(len(one), len(other)) < 200
    assert files.short_stem(Path("film.mp4")) == "film"


def test_what_a_killed_writer_left_behind_of_a_long_name_is_removed(tmp_path):
    place = tmp_path / ("x" * 250 + ".txt")
    with atomic_path(place) as temporary:
        left = temporary.with_name(temporary.name.replace(temporary.stem[-8:], "abcdefgh"))
        left.touch()
        os.utime(left, (0, 0))
    write(place, "hello")
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


@pytest.mark.parametrize(("error", "there"), [(FileNotFoundError, False), (NotADirectoryError, False)])
def test_what_is_not_there_is_no_file(monkeypatch, error, there):
    monkeypatch.setattr(Path, "stat", lambda self, **options: (_ for _ in ()).throw(error()))
    assert files.is_file(Path("a")) is there


def test_what_may_not_be_looked_at_is_an_error_that_says_so(monkeypatch):
    def refused(self, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(InputError, match=r"locked/a\.mp4 cannot be read: Permission denied\. Check the name"):
        files.is_file(Path("locked/a.mp4"))
