"""Room in the write-ahead log is made beforehand, and never at the cost of what is stored."""

import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eric_sse.engines.sqlite import SqliteEngine, open_sqlite, wal
from eric_sse.log import NewEntry, Retention, View


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    """An engine on a new file, with a channel ``c``."""
    with open_sqlite(f"sqlite:///{tmp_path}/a.db?busy_timeout_ms=200") as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


def append(engine: SqliteEngine, count: int) -> None:
    """Append so many entries, each with a commit of its own: their offsets."""
    for _ in range(count):
        last = engine.log.heads(["c"])["c"].last
        engine.log.append("c", [NewEntry(b"%d" % (last + 1))])


def stored(path: Path) -> list[bytes]:
    """What is stored in a file, read anew."""
    with open_sqlite(f"sqlite:///{path}") as engine:
        return [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING, 10_000).entries]


def numbers(count: int) -> list[bytes]:
    """What `append` stores."""
    return [b"%d" % number for number in range(1, count + 1)]


def test_room_after_some_commits(engine: SqliteEngine, tmp_path: Path):
    """Who appends now and then makes no room; then it is made once, and the log stays as long."""
    log = tmp_path / "a.db-wal"
    append(engine, wal._EVERY_COMMITS - 1)
    assert log.stat().st_size < wal._BYTES / 4
    append(engine, 1)
    assert log.stat().st_size == wal._BYTES
    append(engine, 600)  # through a checkpoint
    assert log.stat().st_size == wal._BYTES
    assert stored(tmp_path / "a.db") == numbers(wal._EVERY_COMMITS + 600)


def test_what_was_stored_before_and_after_survives_a_crash(tmp_path: Path):
    """A process that dies leaves the log with its room, and the next one finds everything."""
    code = textwrap.dedent(f"""
        import os, sys
        from eric_sse.engines.sqlite import open_sqlite
        from eric_sse.log import NewEntry, Retention
        engine = open_sqlite(sys.argv[1])
        engine.log.create("c", Retention(None, None))
        for number in range(1, {wal._EVERY_COMMITS + 8}):
            engine.log.append("c", [NewEntry(b"%d" % number)])
        os._exit(0)
    """)
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{tmp_path}/a.db"], check=True, timeout=30)
    assert (tmp_path / "a.db-wal").stat().st_size == wal._BYTES
    assert stored(tmp_path / "a.db") == numbers(wal._EVERY_COMMITS + 7)


def test_no_room_on_the_disk(tmp_path: Path):
    """What was written of the room is given back, and nobody notices."""
    code = textwrap.dedent(f"""
        import os, resource, signal, sys
        from eric_sse.engines.sqlite import open_sqlite
        from eric_sse.log import NewEntry, Retention
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
        with open_sqlite("sqlite:///" + sys.argv[1]) as engine:
            engine.log.create("c", Retention(None, None))
            for number in range(1, {wal._EVERY_COMMITS + 1}):
                size = os.path.getsize(sys.argv[1] + "-wal")
                engine.log.append("c", [NewEntry(b"%d" % number)])
            print(os.path.getsize(sys.argv[1] + "-wal") - size < 50_000)
    """)
    path = tmp_path / "a.db"
    done = subprocess.run([sys.executable, "-c", code, path], check=True, timeout=30, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert stored(path) == numbers(wal._EVERY_COMMITS)


def test_somebody_else_writes(engine: SqliteEngine, tmp_path: Path):
    """While another process is in a transaction no room is made, and nobody waits."""
    room = wal.WalRoom(engine._database)
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        size = (tmp_path / "a.db-wal").stat().st_size
        began = time.monotonic()
        for _ in range(wal._EVERY_COMMITS):
            room.make_if_due()
        assert (tmp_path / "a.db-wal").stat().st_size == size
        assert time.monotonic() - began < 0.1


def test_a_link_to_the_file(tmp_path: Path):
    """The log is beside the file; what is beside the link, and has such a name, is somebody else's."""
    (tmp_path / "real").mkdir()
    (tmp_path / "a.db").symlink_to(tmp_path / "real" / "b.db")
    (tmp_path / "a.db-wal").write_bytes(b"mine")
    with open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
        engine.log.create("c", Retention(None, None))
        append(engine, wal._EVERY_COMMITS)
        assert (tmp_path / "real" / "b.db-wal").stat().st_size == wal._BYTES
    assert (tmp_path / "a.db-wal").read_bytes() == b"mine"
