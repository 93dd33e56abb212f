"""An append to the log that was appended to before is one statement on SQLite, and never stores in the wrong place."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eric_sse.engines.sqlite import SqliteEngine, open_sqlite
from eric_sse.exception import ChannelNotFound, EpochMismatch, InvalidMessageFormat, StoreUnavailable
from eric_sse.log import Append, NewEntry, Retention, View


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where the engine keeps its file."""
    return f"sqlite:///{tmp_path}/a.db?synchronous=normal&busy_timeout_ms=200"


@pytest.fixture
def engine(url: str) -> Iterator[SqliteEngine]:
    """An engine with the channels ``c`` and ``d``, of which ``c`` was just appended to."""
    with open_sqlite(url) as engine:
        for channel in ("c", "d"):
            engine.log.create(channel, Retention(None, None))
        append(engine, b"first")
        yield engine


def append(engine: SqliteEngine, *data: bytes, channel: str = "c") -> list[int]:
    """Append entries; returns their offsets."""
    return list(engine.log.append(channel, [NewEntry(one) for one in data]).offsets)


def stored(engine: SqliteEngine, channel: str = "c") -> list[tuple[int, bytes]]:
    """What a log holds."""
    return [(entry.offset, entry.data) for entry in engine.log.read(channel, 0, View.EVERYTHING, 2000).entries]


@contextlib.contextmanager
def statements(engine: SqliteEngine) -> Iterator[list[str]]:
    """The first words of what the writer's connection runs inside the block."""
    writer, found = engine._database._writer, []
    assert writer is not None
    writer.set_trace_callback(lambda statement: found.append(statement.split()[0]))
    yield found
    writer.set_trace_callback(None)


@pytest.mark.parametrize("count", [1, 2, 3, 31, 33, 1024])
def test_one_statement(engine: SqliteEngine, count: int):
    """Whatever the number of entries, in order, with nothing but what was given."""
    data = [b"%d" % number for number in range(count)]
    with statements(engine) as found:
        assert append(engine, *data) == list(range(2, count + 2))
    assert found == ["INSERT"]
    assert stored(engine) == list(enumerate([b"first", *data], start=1))[: count + 1]


def test_a_group_is_one_statement(engine: SqliteEngine):
    """Appends of several callers, dispatches among them, each learn their own offsets and what they follow."""
    group = [Append("c", [NewEntry(b"a"), NewEntry(b"b", "l")]), Append("c", []), Append("c", [NewEntry(b"c")])]
    with statements(engine) as found:
        outcomes = engine.log.append_group(group)
    assert found == ["INSERT"]
    assert [(list(one.offsets), one.previous) for one in outcomes] == [([2, 3], 1), ([], 3), ([4], 3)]
    receivers = [entry.receiver for entry in engine.log.read("c", 1, View.EVERYTHING).entries]
    assert receivers == [None, "l", None]


def test_somebody_else_wrote(engine: SqliteEngine, url: str):
    """What another process appended meanwhile is followed, and the next append is one statement again."""
    with open_sqlite(url) as other:
        assert append(other, b"other") == [2]
    assert append(engine, b"mine") == [3]
    with statements(engine) as found:
        assert append(engine, b"next") == [4]
    assert found == ["INSERT"]
    assert [data for _, data in stored(engine)] == [b"first", b"other", b"mine", b"next"]


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_the_channel_is_gone(engine: SqliteEngine, url: str, is_made_anew: bool):
    """Nothing is stored in a log that is gone; in one that was made anew offsets begin anew, under its epoch."""
    epoch = engine.log.heads(["c"])["c"].epoch
    with open_sqlite(url) as other:
        other.log.drop("c")
        if is_made_anew:
            other.log.create("c", Retention(None, None))
    if is_made_anew:
        appended = engine.log.append("c", [NewEntry(b"new")])
        assert (list(appended.offsets), appended.epoch != epoch) == ([1], True)
    else:
        with pytest.raises(ChannelNotFound):
            append(engine, b"new")


def test_everything_was_trimmed(engine: SqliteEngine, url: str):
    """Offsets go on where they were."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///").partition("?")[0])) as connection, connection:
        connection.execute("UPDATE eric_logs SET trimmed = 1 WHERE channel = 'c'")
        connection.execute("DELETE FROM eric_messages")
    assert append(engine, b"second") == [2]
    assert append(engine, b"third") == [3]


def test_what_needs_more_than_that(engine: SqliteEngine):
    """Keys are looked up, other channels found, and what is wrong is told, each for itself."""
    epoch = engine.log.heads(["c"])["c"].epoch
    for _ in range(2):
        assert engine.log.append("c", [NewEntry(b"keyed", None, "key")]).offsets == [2]
    assert append(engine, b"elsewhere", channel="d") == [1]
    bad, other = NewEntry("text"), Append("c", [NewEntry(b"x")], "0123456789ab")  # type: ignore[arg-type]
    outcomes = engine.log.append_group([Append("c", [bad]), other, Append("c", [NewEntry(b"good")], epoch)])
    assert [type(one) for one in outcomes[:2]] == [InvalidMessageFormat, EpochMismatch]
    assert append(engine, b"last") == [4]


def test_a_rolled_back_transaction_is_followed_by_what_is_there(engine: SqliteEngine):
    """What a transaction stored and took back is not counted."""
    with contextlib.suppress(LookupError), engine.storage.transaction():
        append(engine, b"lost")
        raise LookupError
    assert append(engine, b"kept") == [2]
    assert [data for _, data in stored(engine)] == [b"first", b"kept"]


def test_locked_by_somebody_else(engine: SqliteEngine, url: str):
    """It waits for the busy timeout, stores nothing, and says so; then it goes on."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///").partition("?")[0])) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="nothing was stored"):
            append(engine, b"refused")
    assert append(engine, b"second") == [2]
    assert append(engine, b"third") == [3]


def test_two_processes_by_turns(engine: SqliteEngine, url: str):
    """Two engines on one file that append at the same time never give an offset twice."""
    offsets: list[int] = []

    def append_some(to: SqliteEngine) -> None:
        for _ in range(200):
            offsets.extend(append(to, b"x"))

    with open_sqlite(url.replace("=200", "=9000")) as one, open_sqlite(url.replace("=200", "=9000")) as two:
        threads = [threading.Thread(target=append_some, args=(to,)) for to in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(offsets) == list(range(2, 402))
    assert [offset for offset, _ in stored(engine)] == list(range(1, 402))
