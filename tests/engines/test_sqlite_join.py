"""Publishing inside the application's own transaction."""

import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from queue import Queue

import pytest

from eric_sse.engines.sqlite import SqliteEngine, open_sqlite
from eric_sse.exception import ChannelNotFound, ConfigurationError, ItemNotFound, StoreUnavailable
from eric_sse.log import NewEntry, Retention, View
from eric_sse.message import Message
from eric_sse.prefabs import SSEChannel

_MODES = [{"isolation_level": ""}, {"isolation_level": "IMMEDIATE"}, {"isolation_level": None}]
if sys.version_info >= (3, 12):
    _MODES.append({"autocommit": False})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    """An engine on a new file, with a channel ``c``."""
    with open_sqlite(f"sqlite:///{tmp_path}/shop.db?busy_timeout_ms=200") as engine:
        engine.channels.persist(engine.channels.create({"channel_id": "c"}))
        yield engine


@pytest.fixture(params=_MODES, ids=str)
def connection(request: pytest.FixtureRequest, tmp_path: Path, engine: SqliteEngine) -> Iterator[sqlite3.Connection]:
    """The application's connection, in each mode of transaction control, with a table of its own."""
    with closing(sqlite3.connect(tmp_path / "shop.db", timeout=0.2, **request.param)) as connection:
        connection.execute("CREATE TABLE orders (item TEXT)")
        connection.commit()
        yield connection


def _channel(engine: SqliteEngine) -> SSEChannel:
    return engine.channels.load_one("c")


def _count(engine: SqliteEngine) -> int:
    """How many messages another thread sees."""
    counts: Queue[int] = Queue()
    thread = threading.Thread(target=lambda: counts.put(engine.log.count("c", 0, View.EVERYTHING, 100)))
    thread.start()
    thread.join()
    return counts.get()


def test_visible_when_the_application_commits(engine: SqliteEngine, connection: sqlite3.Connection):
    """What is broadcast is seen by others when the application has committed, with what it stored itself."""
    channel = _channel(engine)
    with engine.join(connection):
        connection.execute("INSERT INTO orders VALUES ('tea')")
        channel.broadcast(Message("order", "tea"))
        assert engine.log.count("c", 0, View.EVERYTHING, 10) == 1
        assert _count(engine) == 0
    assert _count(engine) == 0
    connection.commit()
    assert _count(engine) == 1
    assert connection.execute("SELECT * FROM orders").fetchall() == [("tea",)]


def test_never_was_when_the_application_rolls_back(engine: SqliteEngine, connection: sqlite3.Connection):
    """Nothing that was published or persisted stays after a rollback."""
    channel = _channel(engine)
    with engine.join(connection):
        channel.broadcast(Message("order", "tea"))
        listener = channel.add_listener()
        engine.channels.persist(channel)
        channel.dispatch(listener.id, Message("order", "tea"))
        engine.storage.upsert("key", 1)
    connection.rollback()
    assert _count(engine) == 0
    assert len(_channel(engine).get_connections()) == 0
    with pytest.raises(ItemNotFound):
        engine.storage.fetch_one("key")


def test_failing_append_leaves_the_transaction(engine: SqliteEngine, connection: sqlite3.Connection):
    """What fails on the engine's side is undone alone; the application may go on."""
    with engine.join(connection):
        connection.execute("INSERT INTO orders VALUES ('tea')")
        engine.log.append("c", [NewEntry(b"1")])
        with pytest.raises(ChannelNotFound):
            engine.log.append("none", [NewEntry(b"2")])
        with suppress(ZeroDivisionError), engine.storage.transaction():
            engine.log.append("c", [NewEntry(b"3")])
            raise ZeroDivisionError
        engine.log.append("c", [NewEntry(b"4")])
    connection.commit()
    assert [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries] == [b"1", b"4"]
    assert len(connection.execute("SELECT * FROM orders").fetchall()) == 1


def _as_dict(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> dict[str, object]:
    return dict(zip([column[0] for column in cursor.description], row, strict=True))


def test_factories_do_not_matter(engine: SqliteEngine, connection: sqlite3.Connection):
    """Row and text factories that the application has set neither disturb the engine nor are disturbed."""
    connection.row_factory, connection.text_factory = _as_dict, bytes
    with engine.join(connection):
        engine.storage.upsert("é", {"a": ["é"]})
        engine.log.append("c", [NewEntry(b"1", "é")])
        assert {"a": ["é"]} in engine.storage.fetch_all()
        assert engine.log.read("c", 0, "é").entries[0].receiver == "é"
    assert connection.execute("SELECT 'é' AS name").fetchone() == {"name": "é".encode()}
    connection.commit()


async def test_listeners_are_woken_by_the_commit(engine: SqliteEngine, connection: sqlite3.Connection):
    """A stream in this process gets the message once the application has committed."""
    channel = _channel(engine)
    listener = channel.add_listener()
    engine.channels.persist(channel)
    listener.start()
    stream = channel.message_stream(listener)
    with engine.join(connection):
        channel.broadcast(Message("order", "tea"))
    connection.commit()
    assert (await anext(stream))["event"] == "order"
    await stream.aclose()


def test_other_threads_are_not_in_it(engine: SqliteEngine, connection: sqlite3.Connection):
    """Another thread's publish waits for the application's commit, or gives up; nothing of it goes along."""
    failed: Queue[Exception] = Queue()

    def publish() -> None:
        try:
            engine.log.append("c", [NewEntry(b"other")])
        except StoreUnavailable as error:
            failed.put(error)

    with engine.join(connection):
        engine.log.append("c", [NewEntry(b"mine")])
        thread = threading.Thread(target=publish)
        thread.start()
        thread.join()
    connection.rollback()
    assert "try again" in str(failed.get_nowait())
    assert _count(engine) == 0


def test_nested_join(engine: SqliteEngine, connection: sqlite3.Connection):
    """Joining the same connection again changes nothing."""
    with engine.join(connection), engine.join(connection):
        engine.log.append("c", [NewEntry(b"1")])
    connection.commit()
    assert _count(engine) == 1


def test_transaction_of_the_engine_first(engine: SqliteEngine, connection: sqlite3.Connection):
    """In a transaction of the engine's own, a connection cannot be joined: each would wait for the other."""
    with (
        engine.storage.transaction(),
        pytest.raises(ConfigurationError, match="finish that one first"),
        engine.join(connection),
    ):
        raise AssertionError


@pytest.mark.parametrize("name", [":memory:", "other.db", ""])
def test_another_file(engine: SqliteEngine, tmp_path: Path, name: str):
    """A connection to another file, or none, is refused."""
    file = tmp_path / name if name.endswith(".db") else name
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE t (x)")
        with pytest.raises(ConfigurationError, match=r"shop\.db"), engine.join(connection):
            raise AssertionError


def test_same_file_by_another_name(engine: SqliteEngine, tmp_path: Path):
    """The same file under another name is the same file."""
    (tmp_path / "link.db").symlink_to(tmp_path / "shop.db")
    with closing(sqlite3.connect(tmp_path / "link.db")) as connection:
        with engine.join(connection):
            engine.log.append("c", [NewEntry(b"1")])
        connection.commit()
    assert _count(engine) == 1


def test_stale_read_transaction(engine: SqliteEngine, tmp_path: Path):
    """A transaction that began by reading before somebody else wrote cannot write, and is told how to begin."""
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM eric_logs").fetchall()
        engine.log.append("c", [NewEntry(b"1")])
        with engine.join(connection), pytest.raises(StoreUnavailable):
            engine.log.append("c", [NewEntry(b"2")])
        connection.rollback()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit came with Python 3.12")
def test_autocommit_without_transaction(engine: SqliteEngine, tmp_path: Path):
    """Where commit() would do nothing, the application has to begin by itself."""
    with closing(sqlite3.connect(tmp_path / "shop.db", autocommit=True)) as connection:
        with pytest.raises(ConfigurationError, match="BEGIN IMMEDIATE"), engine.join(connection):
            raise AssertionError
        connection.execute("BEGIN IMMEDIATE")
        with engine.join(connection):
            engine.log.append("c", [NewEntry(b"1")])
        connection.execute("COMMIT")
    assert _count(engine) == 1


def test_tables_of_the_application_are_left_alone(tmp_path: Path):
    """An application's file gets our tables beside its own; its versions and data stay."""
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.executescript("PRAGMA user_version = 7; PRAGMA application_id = 9; CREATE TABLE orders (item)")
        connection.execute("INSERT INTO orders VALUES ('tea')")
        connection.commit()
        with open_sqlite(f"sqlite:///{tmp_path}/app.db") as engine:
            engine.log.create("c", Retention())
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {name for name in names if not name.startswith(("eric_", "sqlite_"))} == {"orders"}
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
        assert connection.execute("PRAGMA application_id").fetchone() == (9,)
        assert connection.execute("SELECT * FROM orders").fetchall() == [("tea",)]
