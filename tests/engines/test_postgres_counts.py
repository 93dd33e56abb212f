"""What operations cost on PostgreSQL: round trips, rows, what is scanned; and the space that comes back."""

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import Queue

import psycopg
import pytest

from eric_sse.engines.postgres import PostgresEngine, open_postgres
from eric_sse.engines.postgres.session import Session
from eric_sse.engines.postgres.views import count_statement, page_statement
from eric_sse.exception import ChannelNotFound
from eric_sse.listener import MessageQueueListener
from eric_sse.log import Append, CursorKey, NewEntry, Retention, View
from eric_sse.message import Message, Position
from eric_sse.prefabs import SSEChannel
from support.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of our own."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[PostgresEngine]:
    """An engine on a new schema, with a channel ``c`` that keeps everything."""
    with open_postgres(server.fresh_url()) as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


@pytest.fixture
def observer(server: PostgresServer, engine: PostgresEngine) -> Iterator[psycopg.Connection]:
    """A connection that looks at the engine's tables."""
    with server.connect() as connection:
        connection.execute(f"SET search_path = {engine._database.schema}")
        yield connection


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All statements that engines run from now on: each is a round trip."""
    run: list[str] = []

    def seen(name: str) -> None:
        method = getattr(Session, name)
        monkeypatch.setattr(Session, name, lambda self, sql, *rest: (run.append(sql), method(self, sql, *rest))[1])

    seen("_execute")
    seen("copy")
    return run


def _with_listeners(engine: PostgresEngine, count: int) -> SSEChannel:
    channel = engine.channels.create({"channel_id": "c"})
    for number in range(count):
        channel.register_listener(MessageQueueListener(str(number)))
    engine.channels.persist(channel)
    return channel


def _rows(observer: psycopg.Connection, table: str) -> int:
    return observer.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.mark.parametrize("listeners", [0, 10, 10_000])
def test_broadcast_writes_one_row(
    engine: PostgresEngine, observer: psycopg.Connection, statements: list[str], listeners: int
):
    """However many listeners a channel has, a broadcast writes one row, in one commit of five statements."""
    channel = _with_listeners(engine, listeners)
    statements.clear()
    channel.broadcast(Message("news", 1))
    assert [statement.split()[0] for statement in statements] == ["BEGIN", "SELECT", "INSERT", "UPDATE", "COMMIT"]
    assert _rows(observer, "eric_messages") == 1


def test_channels_take_the_same_round_trips(engine: PostgresEngine, statements: list[str]):
    """Persisting and loading a channel takes as many statements with a thousand listeners as with ten."""
    counts = []
    for listeners in (10, 1000):
        statements.clear()
        _with_listeners(engine, listeners)
        persisted = len(statements)
        assert len(engine.channels.load_one("c").get_connections()) == listeners
        counts.append((persisted, len(statements) - persisted))
    assert counts[0] == counts[1]
    assert counts[0] <= (30, 6)


def test_many_cursors_are_one_statement(engine: PostgresEngine, statements: list[str]):
    """Cursors are created, read, moved and dropped many at once."""
    keys = [CursorKey("c", str(number)) for number in range(1000)]
    engine.cursors.create("c", [key.listener_id for key in keys])
    epoch = engine.cursors.get(keys)[keys[0]].epoch
    engine.cursors.advance(dict.fromkeys(keys, Position(epoch, 5)))
    engine.cursors.drop("c", [key.listener_id for key in keys])
    assert len([statement for statement in statements if statement.split()[0] not in {"BEGIN", "COMMIT"}]) == 6


def test_group_is_one_commit(engine: PostgresEngine, statements: list[str]):
    """Appends of many callers, in one group, are one commit of a few statements."""
    engine.log.append_group([Append("c", [NewEntry(b"x", None, f"key {n}")]) for n in range(500)])
    assert [statement.split()[0] for statement in statements] == [
        *("BEGIN", "SELECT", "SELECT", "COPY", "INSERT", "UPDATE", "COMMIT")
    ]


def test_reading_is_one_statement(engine: PostgresEngine, statements: list[str]):
    """A page with its head, a count, and many heads, are one statement each."""
    engine.log.append("c", [NewEntry(b"x")] * 10)
    statements.clear()
    engine.log.read("c", 0, "me")
    engine.log.count("c", 0, "me", 10)
    engine.log.heads(["c", "d", "e"])
    assert len(statements) == 3


def _plan(observer: psycopg.Connection, statement: str, parameters: tuple[object, ...], *options: str) -> str:
    """How the server runs a statement whose plan is made without knowing its parameters, as it is after some uses."""
    observer.execute("SET plan_cache_mode = force_generic_plan")
    sql = f"EXPLAIN ({', '.join(options) or 'COSTS OFF'}) {statement.replace('{schema}.', '')}"
    return "\n".join(line for (line,) in psycopg.RawCursor(observer).execute(sql, parameters).fetchall())


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("view", [*View, "me"])
def test_plans(engine: PostgresEngine, observer: psycopg.Connection, view: View | str, analyzed: bool):
    """Every view is read by its own index, in order, whatever statistics there are."""
    for number in range(20):
        engine.log.append("c", [NewEntry(b"x", f"listener {number}" if number else None)] * 1000)
    if analyzed:
        observer.execute("ANALYZE")
    for statement, parameters in (page_statement("c", 1, view, 10, 1000), count_statement("c", 1, view, 10)):
        plan = _plan(observer, statement, parameters)
        assert "Seq Scan on eric_messages" not in plan, plan
        if view is not View.EVERYTHING:
            assert "eric_broadcasts" in plan, plan
            assert "eric_messages_pkey" not in plan, plan
            assert ("eric_dispatches" in plan) == (view == "me"), plan


def _buffers(observer: psycopg.Connection) -> int:
    """How many pages of its memory the server looks at to read a listener's page."""
    statement, parameters = page_statement("c", 0, "me", 256, None)
    plan = _plan(observer, statement, parameters, "ANALYZE", "BUFFERS")
    # The first is of the whole.
    return int(re.search(r"Buffers: shared hit=(\d+)", plan)[1])


def test_dispatches_of_others_cost_nothing(engine: PostgresEngine, observer: psycopg.Connection):
    """Reading looks at hardly more pages, however many messages there are for others."""
    engine.log.append("c", [NewEntry(b"x"), NewEntry(b"x", "me")] * 20)
    _buffers(observer)
    alone = _buffers(observer)
    engine.log.append("c", [NewEntry(b"x", f"listener {n % 100}") for n in range(20_000)])
    _buffers(observer)
    assert 0 < _buffers(observer) <= alone + 20


def test_large_page_sends_what_it_takes(engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch):
    """A page bounded by bytes is cut by the server."""
    engine.log.append("c", [NewEntry(b"x" * 1_000_000)] * 20)
    sent: list[int] = []
    rows = Session.rows
    monkeypatch.setattr(Session, "rows", lambda *args: (found := rows(*args), sent.append(len(found)))[0])
    page = engine.log.read("c", 0, View.EVERYTHING, max_bytes=1_500_000)
    assert [len(entry.data) for entry in page.entries] == [1_000_000] * 2
    assert sent == [2]


def test_appends_touch_no_index_of_logs(server: PostgresServer):
    """Appending updates the log's row on its page, and leaves nothing to be cleaned up in indexes."""
    with open_postgres(server.fresh_url("pool_size=1")) as engine:
        engine.log.create("c", Retention(10_000, 3600))
        for _ in range(300):
            engine.log.append("c", [NewEntry(b"x")])
        # Statistics are written when the connection ends.
        engine.close()
    statement = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = %s AND relname = %s"
    with server.connect() as connection:
        updates, on_page = connection.execute(statement, (engine._database.schema, "eric_logs")).fetchone()
    # The first one sets when the oldest message expires, which is indexed.
    assert (updates, on_page) == (300, 299)


def test_wake_ups_are_gathered(engine: PostgresEngine, server: PostgresServer):
    """However many channels wake at once, others hear of each, or that it may be any."""
    heard: Queue[str | None] = Queue()
    with open_postgres(server.url(f"schema={engine._database.schema}")) as other:
        other.notifier.listen(heard.put)
        engine.notifier.wake(f"channel {number}" for number in range(300))
        assert {heard.get(timeout=5) for _ in range(300)} == {f"channel {number}" for number in range(300)}
        engine.notifier.wake(f"channel {number}" for number in range(5000))
        assert heard.get(timeout=5) is None
        engine.notifier.wake(["no notification holds this" * 1000])
        assert heard.get(timeout=5) is None


def test_library_users_are_trimmed_for(engine: PostgresEngine):
    """Where nobody calls trim, appending does, now and then."""
    engine.log.create("short", Retention(10, None))
    engine.log.append("short", [NewEntry(b"x")] * 50)
    assert engine.log.count("short", 0, View.EVERYTHING, 100) == 50
    engine.log._trimmer._next = 0
    engine.log.append("c", [NewEntry(b"x")])
    assert engine.log.count("short", 0, View.EVERYTHING, 100) == 10


def test_trimming_is_done_in_pieces(engine: PostgresEngine, statements: list[str]):
    """Much is removed a few thousand messages at a time, so that publishers need not wait long."""
    engine.log.create("short", Retention(10, None))
    engine.log.append("short", [NewEntry(b"x")] * 5010)
    statements.clear()
    assert engine.log.trim() == 5000
    assert statements.count("COMMIT") == 4  # with that of the keys
    assert engine.log.trim() == 0


def test_trimming_leaves_who_publishes_alone(engine: PostgresEngine, observer: psycopg.Connection):
    """A log that a long transaction is publishing to is trimmed another time, and holds nobody up."""
    engine.log.create("short", Retention(1, None))
    engine.log.append("short", [NewEntry(b"x")] * 5)
    with observer.transaction():
        observer.execute("SELECT FROM eric_logs WHERE channel = 'short' FOR UPDATE")
        trimmed: Queue[int] = Queue()
        thread = threading.Thread(target=lambda: trimmed.put(engine.log.trim()))
        thread.start()
        assert trimmed.get(timeout=5) == 0
        thread.join()
    assert engine.log.trim() == 4


def test_another_process_is_trimmed_for(engine: PostgresEngine, server: PostgresServer):
    """What a process that is no more left too much of is found by one that starts."""
    engine.log.create("short", Retention(1, None))
    engine.log.append("short", [NewEntry(b"x")] * 5)
    with open_postgres(server.url(f"schema={engine._database.schema}")) as other:
        assert other.log.trim() == 4


def test_expired_keys_go(engine: PostgresEngine, observer: psycopg.Connection):
    """A key out of its window is removed, and may be used again."""
    engine.log.append("c", [NewEntry(b"1", None, "old"), NewEntry(b"2", None, "new")])
    observer.execute("UPDATE eric_keys SET at = at - 301 WHERE key = 'old'")
    engine.log.append("c", [NewEntry(b"3", None, "old"), NewEntry(b"4", None, "new")])
    assert [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries] == [b"1", b"2", b"3"]
    observer.execute("UPDATE eric_keys SET at = at - 301 WHERE key = 'old'")
    engine.log.trim()
    assert observer.execute("SELECT key FROM eric_keys").fetchall() == [(b"new",)]


def test_clock_set_back(engine: PostgresEngine, observer: psycopg.Connection):
    """What is young enough is kept, also where the clock ran back after it."""
    engine.log.create("d", Retention(None, 3600))
    engine.log.append("d", [NewEntry(b"1"), NewEntry(b"2"), NewEntry(b"3")])
    observer.execute("UPDATE eric_messages SET at = at - 7200 WHERE data <> '2'")
    observer.execute("UPDATE eric_logs SET expires_at = expires_at - 7200")
    assert engine.log.trim() == 1
    assert [entry.data for entry in engine.log.read("d", 0, View.EVERYTHING).entries] == [b"2", b"3"]


def test_offsets_survive_a_lost_tail(engine: PostgresEngine, observer: psycopg.Connection):
    """A server that came back without the newest commits gives none of their offsets again."""
    first, lost = (engine.log.append("c", [NewEntry(b"x")]).offsets[0] for _ in range(2))
    observer.execute('DELETE FROM eric_messages WHERE "offset" = %s', (lost,))
    observer.execute("UPDATE eric_logs SET last = %s, count = 1", (first,))
    assert engine.log.append("c", [NewEntry(b"x")]).offsets[0] > lost


def test_dropping_while_others_publish_leaves_no_row(engine: PostgresEngine, observer: psycopg.Connection):
    """What is published, or subscribed, while the log is dropped and created anew, goes with it or belongs to it."""

    def work(number: int) -> None:
        for round_ in range(30):
            with suppress(ChannelNotFound):
                engine.log.append("c", [NewEntry(b"x", None, f"{number} {round_}")] * 2)
                engine.cursors.create("c", [f"{number} {round_}"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        engine.log.drop("c")
        engine.log.create("c", Retention())
    for thread in threads:
        thread.join()
    engine.log.drop("c")
    assert [_rows(observer, table) for table in ("eric_messages", "eric_keys", "eric_cursors")] == [0] * 3


def test_deleted_channel_leaves_no_row(engine: PostgresEngine, observer: psycopg.Connection):
    """Deleting a channel, twice, leaves nothing of it in any table."""
    channel = engine.channels.create({"channel_id": "d"})
    listener = channel.add_listener()
    engine.channels.persist(channel)
    engine.log.append("d", [NewEntry(b"1", listener.id, "key")])
    for _ in range(2):
        engine.channels.delete("d")
    engine.log.drop("c")
    tables = ("eric_kv", "eric_logs", "eric_messages", "eric_keys", "eric_cursors")
    assert [_rows(observer, table) for table in tables] == [0] * 5
