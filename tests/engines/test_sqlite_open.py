"""Opening, closing, migrating and copying SQLite files."""

import gc
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from eric_sse.engines import open_engine
from eric_sse.engines.sqlite import SqliteEngine, open_sqlite, schema
from eric_sse.exception import ConfigurationError, RepositoryError
from eric_sse.log import NewEntry, Retention, View


def test_url_absolute_and_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three slashes and a name are a file in the current folder, four an absolute path; both are percent-encoded."""
    monkeypatch.chdir(tmp_path)
    for url, name in (("sqlite:///a.db", "a.db"), (f"sqlite:///{tmp_path}/b%20%23%3F.db", "b #?.db")):
        with open_engine(url) as engine:
            engine.storage.upsert("key", name)
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    ("query", "synchronous"), [("", 2), ("?synchronous=full", 2), ("?synchronous=normal&busy_timeout_ms=50", 1)]
)
def test_url_options(tmp_path: Path, query: str, synchronous: int):
    """The options are applied; a commit is synchronised by default."""
    with open_sqlite(f"sqlite:///{tmp_path}/a.db{query}") as engine, engine._database.write() as session:
        assert session.rows("PRAGMA synchronous") == [(synchronous,)]
        assert session.rows("PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///", "sqlite://a.db", "sqlite:///:memory:", "sqlite:a.db", "sqlite:///a.db#b"),
        *("sqlite:///a.db?synchronous=off", "sqlite:///a.db?busy_timeout_ms=1.5", "sqlite:///a%00.db"),
        *("sqlite:///a.db?busy_timeout=5", "sqlite:///a.db?synchronous=full&synchronous=full"),
    ],
)
def test_url_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A URL that names no file, or has an option that is none, is refused with what to write instead."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"write sqlite:///|synchronous=full|memory://"):
        open_engine(url)
    assert list(tmp_path.iterdir()) == []


def test_no_such_folder(tmp_path: Path):
    """A folder that is not there is named, and a folder in the file's place as well."""
    with pytest.raises(RepositoryError, match="create it first"):
        open_sqlite(f"sqlite:///{tmp_path}/none/a.db")
    with pytest.raises(RepositoryError, match="is a folder"):
        open_sqlite(f"sqlite:///{tmp_path}")


def test_changing_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A relative path is that of the folder in which it was opened."""
    monkeypatch.chdir(tmp_path)
    with open_sqlite("sqlite:///a.db") as engine:
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        engine.storage.upsert("key", 1)
        assert engine.storage.fetch_one("key") == 1


def test_everything_is_there_again(tmp_path: Path):
    """What was stored is there after closing and opening again, and nothing lies beside the file."""
    url = f"sqlite:///{tmp_path}/a.db"
    with open_sqlite(url) as engine:
        engine.log.create("c", Retention(5, 1.5))
        engine.log.append("c", [NewEntry(b"1"), NewEntry(b"2", "l")])
        heads = engine.log.heads(["c"])
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]
    with open_sqlite(url) as engine:
        assert engine.log.heads(["c"]) == heads
        assert [entry.data for entry in engine.log.read("c", 0, "l").entries] == [b"1", b"2"]


def test_closed(tmp_path: Path):
    """A closed engine says so, whatever is asked of it; closing again does nothing."""
    engine = open_sqlite(f"sqlite:///{tmp_path}/a.db")
    engine.close()
    engine.close()
    for use in (
        lambda: engine.storage.fetch_one("key"),
        lambda: engine.storage.upsert("key", 1),
        lambda: engine.log.append("c", [NewEntry(b"")]),
        lambda: engine.cursors.create("c", ["l"]),
        lambda: engine.backup(tmp_path / "b.db"),
    ):
        with pytest.raises(RepositoryError, match="closed"):
            use()


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_threads_leave_nothing_open(tmp_path: Path):
    """Threads that come and go leave no connections: all files are closed in the end."""
    gc.collect()
    before = _open_files()
    with open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
        engine.notifier.listen(lambda _: None)
        for _ in range(5):
            threads = [threading.Thread(target=lambda: list(engine.storage.fetch_all())) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert _open_files() < before + 40
    assert _open_files() == before


def test_migration_from_the_beginning(tmp_path: Path):
    """A file whose version is 0 is brought forward."""
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("CREATE TABLE eric_meta (key TEXT PRIMARY KEY, value INTEGER) STRICT, WITHOUT ROWID")
        connection.execute("INSERT INTO eric_meta VALUES ('schema', 0)")
        connection.commit()
    with open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
        engine.storage.upsert("key", 1)
        assert engine.storage.fetch_one("key") == 1


def test_migration_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A step of a newer version is applied once, to what is there."""
    url = f"sqlite:///{tmp_path}/a.db"
    with open_sqlite(url) as engine:
        engine.storage.upsert("key", 1)
    step = ("ALTER TABLE eric_kv ADD COLUMN extra INTEGER", "UPDATE eric_kv SET extra = 5")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    for _ in range(2):
        with open_sqlite(url) as engine, engine._database.read() as session:
            assert session.rows("SELECT key, extra FROM eric_kv") == [("key", 5)]


def test_migration_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A step that fails half-way leaves the file as it was."""
    url = f"sqlite:///{tmp_path}/a.db"
    with open_sqlite(url) as engine:
        engine.storage.upsert("key", 1)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("DROP TABLE eric_kv", "no statement")))
        with pytest.raises(RepositoryError):
            open_sqlite(url)
    with open_sqlite(url) as engine:
        assert engine.storage.fetch_one("key") == 1


def test_newer_version(tmp_path: Path):
    """A file from a newer version is refused, and left as it is."""
    with open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine, engine._database.write() as session:
        session.run("UPDATE eric_meta SET value = 99 WHERE key = 'schema'")
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(RepositoryError, match="newer version"):
        open_sqlite(f"sqlite:///{tmp_path}/a.db")
    assert (tmp_path / "a.db").read_bytes() == before


def test_opened_by_many_at_once(tmp_path: Path):
    """Processes that open a new file at the same moment all succeed."""
    code = "import sys; from eric_sse.engines import open_engine; open_engine(sys.argv[1]).close()"
    command = [sys.executable, "-W", "error", "-c", code, f"sqlite:///{tmp_path}/a.db"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4


def test_opened_by_many_threads_at_once(tmp_path: Path):
    """The same with threads, more often."""
    for number in range(10):
        opened: list[SqliteEngine] = []
        url = f"sqlite:///{tmp_path}/{number}.db"
        threads = [threading.Thread(target=lambda u=url, o=opened: o.append(open_sqlite(u))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for engine in opened:
            engine.close()
        assert len(opened) == 4


def test_utf16(tmp_path: Path):
    """A database in another encoding, which sorts otherwise, is refused."""
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.executescript("PRAGMA encoding = 'UTF-16'; CREATE TABLE t (x)")
    with pytest.raises(RepositoryError, match="UTF-8"):
        open_sqlite(f"sqlite:///{tmp_path}/a.db")


def test_backup(tmp_path: Path):
    """A copy can be made while others write; it holds what was there, and nothing half-written lies beside it."""
    with open_sqlite(f"sqlite:///{tmp_path}/a.db?synchronous=normal") as engine:
        engine.log.create("c", Retention(None, None))
        engine.log.append("c", [NewEntry(b"x" * 1000)] * 5000)
        stop = threading.Event()
        writer = threading.Thread(
            target=lambda: [engine.log.append("c", [NewEntry(b"y")]) for _ in iter(stop.is_set, 1)]
        )
        writer.start()
        engine.backup(tmp_path / "b.db")
        stop.set()
        writer.join()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db", "b.db"]
    with open_sqlite(f"sqlite:///{tmp_path}/b.db") as copy:
        assert copy.log.count("c", 0, View.EVERYTHING, 100_000) >= 5000
        assert copy._database.path.endswith("b.db")


def test_backup_overwrites_nothing(tmp_path: Path):
    """A file that is there stays as it is, and a folder that is not is an error."""
    (tmp_path / "b.db").write_text("mine")
    with open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
        with pytest.raises(RepositoryError, match="exists"):
            engine.backup(tmp_path / "b.db")
        with pytest.raises(RepositoryError):
            engine.backup(tmp_path / "none" / "b.db")
    assert (tmp_path / "b.db").read_text() == "mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db", "b.db"]
