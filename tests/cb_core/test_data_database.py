import gc
import os
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from cb_core.data import database
from cb_core.data.base import Base
from cb_core.data.database import StorageError, dataset_engine, get_dataset_db, head_revision, open_session_on
from cb_core.data.schema import DatasetSettings
from cb_runtime.errors import InputError


@pytest.fixture
def path(tmp_path):
    open_session_on(tmp_path / "d.db", create=True).close()
    return tmp_path / "d.db"


def settings(name="d"):
    return DatasetSettings(name=name, options={}, created_at=datetime.now(UTC), cb_version="1")


def test_a_session_stays_open_although_its_generator_is_gone(path):
    with next(get_dataset_db(path)) as db:
        gc.collect()
        db.add(settings())
        db.commit()
    with next(get_dataset_db(str(path))) as db:
        assert db.query(DatasetSettings).one().name == "d"


def test_rows_can_be_read_after_the_session_is_closed(path):
    with next(get_dataset_db(path)) as db:
        row = settings()
        db.add(row)
        db.commit()
    assert row.name == "d"


def test_a_finished_generator_closes_its_session(path):
    sessions = get_dataset_db(path)
    db = next(sessions)
    db.execute(select(DatasetSettings))
    assert db.in_transaction()
    assert next(sessions, None) is None
    assert not db.in_transaction()


def test_a_url_opens_the_same_dataset_as_a_path(path):
    with next(get_dataset_db(path)) as db:
        db.add(settings("by path"))
        db.commit()
    with next(get_dataset_db(f"sqlite:///{path}")) as db:
        assert db.query(DatasetSettings).one().name == "by path"


def test_migrations_create_exactly_the_declared_tables(path):
    assert find_spec("cb_core.tracking.experiment")
    import cb_core.tracking.experiment  # noqa: F401  (adds its table to Base)

    with dataset_engine(path).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrations_can_be_taken_back(path):
    from alembic import command

    with dataset_engine(path).connect() as connection:
        config = database._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
        assert connection.execute(text("SELECT name FROM sqlite_master WHERE name = 'videos'")).first() is None


def test_a_missing_dataset_is_named_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="cb dataset create"):
        open_session_on(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_folder_is_not_a_dataset(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        open_session_on(tmp_path)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("content", [b"some notes", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 64])
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path, create, content):
    other = tmp_path / "notes.db"
    other.write_bytes(content)
    before = other.stat()
    with pytest.raises(InputError, match="is not a dataset, or is damaged"):
        open_session_on(other, create=create)
    assert other.read_bytes() == content
    assert other.stat().st_mtime_ns == before.st_mtime_ns
    assert list(tmp_path.iterdir()) == [other]


def test_an_sqlite_file_of_another_program_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "o.db") as other:
        other.execute("CREATE TABLE cats (name)")
    with pytest.raises(InputError, match="not a dataset of cb"):
        open_session_on(tmp_path / "o.db")
    with pytest.raises(InputError, match=r"other tables \(cats\)"):
        open_session_on(tmp_path / "o.db", create=True)


def test_a_damaged_dataset_is_an_input_error(path):
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 5000)
    with pytest.raises(InputError, match="damaged"):
        open_session_on(path)


def test_a_dataset_of_a_newer_cb_is_refused(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InputError, match=r"9999.*newer cb"):
        open_session_on(path)


LATER_MIGRATION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "later", "0002", None, None

def upgrade():
    op.add_column("videos", sa.Column("mood", sa.Text()))
"""


@pytest.fixture
def later_schema(tmp_path, monkeypatch):
    folder = tmp_path / "later"
    folder.mkdir()
    (folder / "later.py").write_text(LATER_MIGRATION)
    config = database._config()
    config.set_main_option("path_separator", "os")
    own = Path(database.__file__).with_name("migrations") / "versions"
    config.set_main_option("version_locations", os.pathsep.join([str(own), str(folder)]))
    monkeypatch.setattr(database, "_config", lambda: config)
    database._scripts.cache_clear()
    yield
    database._scripts.cache_clear()


def test_a_dataset_of_an_older_cb_is_upgraded_and_keeps_its_rows(path, later_schema):
    with sqlite3.connect(path) as before:
        before.execute("INSERT INTO dataset_settings VALUES (1, 'kept', '{}', '2026-01-01 00:00:00', '1')")
    with next(get_dataset_db(path)) as db:
        assert db.execute(text("SELECT version_num FROM alembic_version")).scalar() == "later"
        assert db.execute(text("SELECT count(mood) FROM videos")).scalar() == 0
        assert db.query(DatasetSettings).one().name == "kept"


@pytest.mark.parametrize("url", ["://", "nothing at all://x"])
def test_what_is_neither_file_nor_url_is_refused(url):
    with pytest.raises(InputError, match="SQLAlchemy URL"):
        open_session_on(url)


def test_a_database_without_its_driver_is_refused(monkeypatch):
    with pytest.raises(InputError, match="needs a database driver"):
        open_session_on("nosuchdatabase://host/name")


@pytest.mark.parametrize(
    "url",
    ["nosuchdatabase://me:secret@host/name", "postgresql://me:secret@host:port/name", "postgre sql://me:sec/ret@host"],
)
def test_passwords_are_not_shown_in_errors(url):
    with pytest.raises(InputError) as caught:
        open_session_on(url)
    assert "***" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("secret", "sec/ret"))


def test_a_place_that_cannot_be_opened_is_a_storage_error(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_check_sqlite_file", lambda url, create: None)
    with pytest.raises(StorageError, match="cannot be used"):
        open_session_on(tmp_path / "missing folder" / "d.db", create=True)


def test_readers_see_what_was_there_while_another_session_writes(path):
    with next(get_dataset_db(path)) as writer, next(get_dataset_db(path)) as reader:
        writer.add(settings())
        writer.flush()
        assert reader.query(DatasetSettings).count() == 0
        writer.commit()
        assert reader.query(DatasetSettings).count() == 1


def test_writers_wait_for_each_other(path):
    def write(number):
        with next(get_dataset_db(path)) as db:
            for _ in range(5):
                db.add(settings(f"writer {number}"))
                db.commit()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with next(get_dataset_db(path)) as db:
        assert db.query(DatasetSettings).count() == 20


def test_two_processes_may_create_the_same_dataset_at_once(tmp_path):
    code = "import sys; from cb_core.data import get_dataset_db; next(get_dataset_db(sys.argv[1], create=True)).close()"
    command = [sys.executable, "-c", code, str(tmp_path / "d.db")]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]


class Refusing:
    """A connection of which WAL mode is refused so many times, as when another process asks for it too."""

    def __init__(self, times, reason="database is locked"):
        self.times, self.reason, self.asked = times, reason, 0

    def exec_driver_sql(self, statement):
        self.asked += 1
        if self.asked <= self.times:
            raise OperationalError(statement, {}, sqlite3.OperationalError(self.reason))

    def rollback(self):
        pass


def test_wal_mode_that_is_refused_while_another_sets_it_is_asked_for_again(monkeypatch):
    connection = Refusing(3)
    database._write_ahead(connection)
    assert connection.asked == 4
    with pytest.raises(OperationalError, match="disk"):
        database._write_ahead(Refusing(1, "disk I/O error"))
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 200)
    with pytest.raises(OperationalError, match="locked"):
        database._write_ahead(Refusing(10**6))


def test_a_dataset_that_another_process_creates_meanwhile_is_not_taken_for_a_foreign_file(tmp_path, monkeypatch):
    path, read = tmp_path / "d.db", database._current_revision

    def overtaken(connection):
        found = read(connection)
        monkeypatch.setattr(database, "_current_revision", read)
        connection.rollback()
        next(get_dataset_db(path, create=True)).close()
        return found

    monkeypatch.setattr(database, "_current_revision", overtaken)
    with next(get_dataset_db(path, create=True)) as db:
        assert db.query(DatasetSettings).count() == 0


OPEN_READ_CLOSE = """
import sys
from cb_core.data.database import open_session_on
from cb_core.data.schema import DatasetSettings
with open_session_on(sys.argv[1]) as db:
    print(*(row.name for row in db.query(DatasetSettings)))
"""


def rows_seen_by_another_process(path):
    command = [sys.executable, "-c", OPEN_READ_CLOSE, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_a_run_keeps_its_rows_while_others_open_and_close_its_dataset(path):
    with open_session_on(path) as run, open_session_on(path) as reader:
        assert reader.query(DatasetSettings).count() == 0  # its connection stays, so no commit empties the log
        run.add(settings("first"))
        run.commit()
        open_session_on(path).close()  # in this process, where it must not drop the locks of the two others
        assert rows_seen_by_another_process(path) == ["first"]
        assert path.with_name("d.db-wal").stat().st_size
        run.add(settings("second"))
        run.commit()
        assert rows_seen_by_another_process(path) == ["first", "second"]
    assert rows_seen_by_another_process(path) == ["first", "second"]


def test_asking_for_a_session_does_not_load_torch(path):
    code = (
        "import sys; from cb_core.data import get_dataset_db\n"
        "with next(get_dataset_db(sys.argv[1])): assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import cb_core.data

    with pytest.raises(AttributeError, match="nothing"):
        _ = cb_core.data.nothing


def test_the_package_gives_every_name_it_lists():
    import cb_core.data

    assert all(getattr(cb_core.data, name) for name in cb_core.data.__all__)
    assert sorted(cb_core.data._MODULE_OF) == sorted(cb_core.data.__all__)


@pytest.mark.skipif(not os.environ.get("CB_TEST_POSTGRES_URL"), reason="CB_TEST_POSTGRES_URL is not set")
def test_postgresql_holds_a_dataset():
    import cb_core.tracking.experiment  # noqa: F401  (adds its table to Base)

    url = os.environ["CB_TEST_POSTGRES_URL"]
    with next(get_dataset_db(url, create=True)) as db:
        db.add(settings("there"))
        db.flush()
        assert db.execute(text("SELECT version_num FROM alembic_version")).scalar() == head_revision()
        assert compare_metadata(MigrationContext.configure(db.connection()), Base.metadata) == []
        db.rollback()
