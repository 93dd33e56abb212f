"""What operations cost on SQLite: rows, commits, steps of its machine; and the space that comes back."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eric_sse.engines.sqlite import SqliteEngine, open_sqlite
from eric_sse.engines.sqlite.views import count_sql, data_sql, page_sql, view_parameters
from eric_sse.listener import MessageQueueListener
from eric_sse.log import Append, NewEntry, Retention, View
from eric_sse.message import Message


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    """An engine on a new file, with a channel ``c`` that keeps everything."""
    with open_sqlite(f"sqlite:///{tmp_path}/a.db?synchronous=normal") as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


def _writer(engine: SqliteEngine) -> sqlite3.Connection:
    writer = engine._database._writer
    assert writer is not None
    return writer


@pytest.mark.parametrize("listeners", [0, 10, 10_000])
def test_broadcast_writes_one_row(engine: SqliteEngine, listeners: int):
    """However many listeners a channel has, a broadcast writes one row, in one commit."""
    channel = engine.channels.create({"channel_id": "c"})
    for number in range(listeners):
        channel.register_listener(MessageQueueListener(str(number)))
    engine.channels.persist(channel)
    writer, statements = _writer(engine), []
    before = writer.total_changes
    writer.set_trace_callback(statements.append)
    channel.broadcast(Message("news", 1))
    writer.set_trace_callback(None)
    assert writer.total_changes - before == 1
    assert statements.count("COMMIT") == 1
    assert sum(statement.startswith("INSERT") for statement in statements) == 1


def test_group_is_one_commit(engine: SqliteEngine):
    """Appends of many callers, in one group, are one commit of a few statements."""
    statements: list[str] = []
    _writer(engine).set_trace_callback(statements.append)
    engine.log.append_group([Append("c", [NewEntry(b"x", None, f"key {n}")]) for n in range(500)])
    _writer(engine).set_trace_callback(None)
    assert statements.count("COMMIT") == 1
    assert len(statements) < 30


def test_threads_share_commits(engine: SqliteEngine):
    """Threads that append at the same time are committed together by the one that gets the lock."""
    statements: list[str] = []
    _writer(engine).set_trace_callback(statements.append)
    threads = [threading.Thread(target=engine.log.append, args=("c", [NewEntry(b"x")])) for _ in range(20)]
    with engine._database.turn:
        for thread in threads:
            thread.start()
        while len(engine.log._waiting) < len(threads):
            threads[-1].join(0.001)
    for thread in threads:
        thread.join()
    _writer(engine).set_trace_callback(None)
    assert statements.count("COMMIT") == 1
    assert engine.log.count("c", 0, View.EVERYTHING, 100) == 20


def test_threads_share_failures_not_their_own(engine: SqliteEngine):
    """In such a commit, who appends to a channel that is not there fails alone."""
    outcomes: list[object] = []

    def append(channel: str) -> None:
        outcomes.append(type(engine.log.append_group([Append(channel, [NewEntry(b"x")])])[0]).__name__)

    threads = [threading.Thread(target=append, args=(channel,)) for channel in ("c", "none", "c")]
    with engine._database.turn:
        for thread in threads:
            thread.start()
        while len(engine.log._waiting) < len(threads):
            threads[-1].join(0.001)
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["Appended", "Appended", "ChannelNotFound"]


def _steps(engine: SqliteEngine, listener: str) -> int:
    """How many hundreds of steps SQLite takes to read the listener's page and count it."""
    steps = [0]
    engine.log.read("c", 0, listener)
    (connection,) = engine._database._readers.all()

    def step() -> None:
        steps[0] += 1

    connection.set_progress_handler(step, 100)
    engine.log.read("c", 0, listener)
    engine.log.count("c", 0, listener, 1000)
    connection.set_progress_handler(None, 0)
    return steps[0]


def test_dispatches_of_others_cost_nothing(engine: SqliteEngine):
    """Reading takes as many steps, however many messages there are for others."""
    engine.log.append("c", [NewEntry(b"x"), NewEntry(b"x", "me")] * 20)
    alone = _steps(engine, "me")
    engine.log.append("c", [NewEntry(b"x", f"listener {n % 100}") for n in range(20_000)])
    assert _steps(engine, "me") <= alone * 2


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("kind", [None, *View])
def test_plans(engine: SqliteEngine, kind: View | None, analyzed: bool):
    """Every view is read by an index, in order, whatever statistics the application gathers."""
    engine.log.append("c", [NewEntry(b"x")] * 2000)
    writer = _writer(engine)
    if analyzed:
        writer.execute("ANALYZE")
    parameters = {"log": 1, **view_parameters("c", 1, kind or "me", 10)}
    for sql in (page_sql(kind), data_sql(kind, packed=True), count_sql(kind)):
        plan = [row[3] for row in writer.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        assert not [step for step in plan if "SCAN eric" in step or "TEMP B-TREE" in step], plan


def test_large_page_reads_what_it_takes(engine: SqliteEngine):
    """A page bounded by bytes does not read the data of what it leaves out."""
    engine.log.append("c", [NewEntry(b"x" * 1_000_000)] * 20)
    page = engine.log.read("c", 0, View.EVERYTHING, max_bytes=1_500_000)
    assert [len(entry.data) for entry in page.entries] == [1_000_000] * 2


def test_huge_page(engine: SqliteEngine):
    """A page of more bytes than come in one value comes all the same."""
    data = [bytes([n]) * 30_000_000 for n in range(3)]
    for one in data:
        engine.log.append("c", [NewEntry(one)])
    assert [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING, max_bytes=None).entries] == data


def test_space_comes_back(engine: SqliteEngine, tmp_path: Path):
    """After trimming, the file shrinks, and the log beside it is bounded."""
    engine.log.create("short", Retention(100, None))
    for _ in range(20):
        engine.log.append("short", [NewEntry(b"x" * 1000)] * 1000)
    assert (tmp_path / "a.db").stat().st_size > 15_000_000
    while engine.log.trim():
        continue
    _writer(engine).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    assert (tmp_path / "a.db").stat().st_size < 3_000_000
    assert (tmp_path / "a.db-wal").stat().st_size < 32_000_000
    assert engine.log.count("short", 0, View.EVERYTHING, 1000) == 100


def test_library_users_are_trimmed_for(engine: SqliteEngine):
    """Where nobody calls trim, appending does, now and then."""
    engine.log.create("short", Retention(10, None))
    engine.log.append("short", [NewEntry(b"x")] * 50)
    assert engine.log.count("short", 0, View.EVERYTHING, 100) == 50
    engine.log._trimmer._next = 0
    engine.log.append("c", [NewEntry(b"x")])
    assert engine.log.count("short", 0, View.EVERYTHING, 100) == 10


def test_expired_keys_go(engine: SqliteEngine):
    """A key out of its window is removed, and may be used again."""
    engine.log.append("c", [NewEntry(b"1", None, "old"), NewEntry(b"2", None, "new")])
    with engine._database.write() as session:
        session.run("UPDATE eric_keys SET at = at - 301000 WHERE key = 'old'")
    engine.log.append("c", [NewEntry(b"3", None, "old"), NewEntry(b"4", None, "new")])
    assert [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries] == [b"1", b"2", b"3"]
    with engine._database.write() as session:
        session.run("UPDATE eric_keys SET at = at - 301000 WHERE key = 'old'")
    engine.log.trim()
    with engine._database.read() as session:
        assert session.rows("SELECT key FROM eric_keys") == [("new",)]


def test_clock_set_back(engine: SqliteEngine):
    """What is young enough is kept, also where the clock ran back after it."""
    engine.log.create("d", Retention(None, 3600))
    engine.log.append("d", [NewEntry(b"1"), NewEntry(b"2"), NewEntry(b"3")])
    with engine._database.write() as session:
        session.run("UPDATE eric_messages SET at = at - 7200000 WHERE data <> ?", (b"2",))
    assert engine.log.trim() == 1
    assert [entry.data for entry in engine.log.read("d", 0, View.EVERYTHING).entries] == [b"2", b"3"]


def test_deleted_channel_leaves_no_row(engine: SqliteEngine, tmp_path: Path):
    """Deleting a channel, twice, leaves nothing of it in any table."""
    channel = engine.channels.create({"channel_id": "d"})
    listener = channel.add_listener()
    engine.channels.persist(channel)
    engine.log.append("d", [NewEntry(b"1", listener.id, "key")])
    for _ in range(2):
        engine.channels.delete("d")
    engine.log.drop("c")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        for table in ("eric_kv", "eric_logs", "eric_messages", "eric_keys", "eric_cursors"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
