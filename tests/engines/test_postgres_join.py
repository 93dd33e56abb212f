"""Publishing inside the application's own transaction, on psycopg's connection or SQLAlchemy's."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from queue import Empty, Queue

import psycopg
import pytest
import sqlalchemy
import sqlalchemy.orm
from psycopg.rows import dict_row

from eric_sse.engines.postgres import PostgresEngine, open_postgres
from eric_sse.exception import ChannelNotFound, ConfigurationError, ItemNotFound, RepositoryError, StoreUnavailable
from eric_sse.log import NewEntry, Retention, View
from eric_sse.message import Message
from eric_sse.prefabs import SSEChannel
from support.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of our own, with a table of the application's."""
    with postgres_server() as server:
        with server.connect() as connection:
            connection.execute("CREATE TABLE orders (item text)")
        yield server


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[PostgresEngine]:
    """An engine that does not wait long, with a channel ``c``."""
    with open_postgres(server.fresh_url("lock_timeout_ms=200")) as engine:
        engine.channels.persist(engine.channels.create({"channel_id": "c"}))
        with server.connect() as connection:
            connection.execute("TRUNCATE orders")
        yield engine


# No index holds such a key, and nothing makes it shorter.
_TOO_LONG = random.Random(1).randbytes(5000).hex()


class Application:
    """An application's transaction: what is joined, how it runs a statement, commits and rolls back."""

    def __init__(self, target: object, execute: Callable[[str], object]) -> None:
        self.target = target
        self.execute = execute
        self.commit: Callable[[], None] = target.commit
        self.rollback: Callable[[], None] = target.rollback


def _psycopg(server: PostgresServer, stack: ExitStack) -> Application:
    connection = stack.enter_context(server.connect(autocommit=False))
    return Application(connection, connection.execute)


def _sqlalchemy(server: PostgresServer, stack: ExitStack) -> sqlalchemy.Engine:
    url = server.url().replace("postgresql://", "postgresql+psycopg://")
    engine = sqlalchemy.create_engine(url)
    stack.callback(engine.dispose)
    return engine


def _sqlalchemy_session(server: PostgresServer, stack: ExitStack) -> Application:
    session = stack.enter_context(sqlalchemy.orm.Session(_sqlalchemy(server, stack)))
    return Application(session, lambda text: session.execute(sqlalchemy.text(text)))


def _sqlalchemy_connection(server: PostgresServer, stack: ExitStack) -> Application:
    connection = stack.enter_context(_sqlalchemy(server, stack).connect())
    return Application(connection, lambda text: connection.execute(sqlalchemy.text(text)))


@pytest.fixture(params=[_psycopg, _sqlalchemy_session, _sqlalchemy_connection])
def app(request: pytest.FixtureRequest, server: PostgresServer, engine: PostgresEngine) -> Iterator[Application]:
    """The application's side, in each of the ways."""
    with ExitStack() as stack:
        yield request.param(server, stack)


@pytest.fixture
def connection(server: PostgresServer, engine: PostgresEngine) -> Iterator[psycopg.Connection]:
    """The application's connection, where it does not matter whose it is."""
    with server.connect(autocommit=False) as connection:
        yield connection


def _channel(engine: PostgresEngine) -> SSEChannel:
    return engine.channels.load_one("c")


def _count(engine: PostgresEngine) -> int:
    """How many messages another thread sees."""
    counts: Queue[int] = Queue()
    thread = threading.Thread(target=lambda: counts.put(engine.log.count("c", 0, View.EVERYTHING, 100)))
    thread.start()
    thread.join()
    return counts.get()


def _orders(server: PostgresServer) -> list[str]:
    with server.connect() as connection:
        return [item for (item,) in connection.execute("SELECT item FROM orders").fetchall()]


def test_visible_when_the_application_commits(engine: PostgresEngine, app: Application, server: PostgresServer):
    """What is broadcast is seen by others when the application has committed, with what it stored itself."""
    channel = _channel(engine)
    with engine.join(app.target):
        app.execute("INSERT INTO orders VALUES ('tea')")
        channel.broadcast(Message("order", "tea"))
        assert engine.log.count("c", 0, View.EVERYTHING, 10) == 1
        assert _count(engine) == 0
    assert (_count(engine), _orders(server)) == (0, [])
    app.commit()
    assert (_count(engine), _orders(server)) == (1, ["tea"])


def test_joining_begins_the_transaction(engine: PostgresEngine, app: Application):
    """Where the application has executed nothing before, its commit counts all the same."""
    with engine.join(app.target):
        engine.log.append("c", [NewEntry(b"1")])
    app.commit()
    assert _count(engine) == 1


def test_never_was_when_the_application_rolls_back(engine: PostgresEngine, app: Application):
    """Nothing that was published or persisted stays after a rollback."""
    channel = _channel(engine)
    with engine.join(app.target):
        channel.broadcast(Message("order", "tea"))
        listener = channel.add_listener()
        engine.channels.persist(channel)
        channel.dispatch(listener.id, Message("order", "tea"))
        engine.storage.upsert("key", 1)
    app.rollback()
    assert _count(engine) == 0
    assert len(_channel(engine).get_connections()) == 0
    with pytest.raises(ItemNotFound):
        engine.storage.fetch_one("key")


def test_failing_append_leaves_the_transaction(engine: PostgresEngine, app: Application, server: PostgresServer):
    """What fails on the engine's side is undone alone, also by the server; the application may go on."""
    with engine.join(app.target):
        app.execute("INSERT INTO orders VALUES ('tea')")
        engine.log.append("c", [NewEntry(b"1")])
        with pytest.raises(ChannelNotFound):
            engine.log.append("none", [NewEntry(b"2")])
        with pytest.raises(RepositoryError):
            engine.storage.upsert(_TOO_LONG, 1)
        with suppress(ZeroDivisionError), engine.storage.transaction():
            engine.log.append("c", [NewEntry(b"3")])
            raise ZeroDivisionError
        engine.log.append("c", [NewEntry(b"4")])
    app.commit()
    assert [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries] == [b"1", b"4"]
    assert _orders(server) == ["tea"]


@pytest.mark.parametrize("kept", [True, False])
def test_listeners_are_woken_by_the_commit(engine: PostgresEngine, app: Application, kept: bool):
    """Those who listen, in this process too, hear of it when it was committed, and never if it was not."""
    heard: Queue[str | None] = Queue()
    channel = _channel(engine)
    end = engine.notifier.listen(heard.put)
    with engine.join(app.target):
        channel.broadcast(Message("order", "tea"))
    with pytest.raises(Empty):
        heard.get(timeout=0.1)
    if kept:
        app.commit()
        assert heard.get(timeout=5) == "c"
        assert _count(engine) == 1
    else:
        app.rollback()
        with pytest.raises(Empty):
            heard.get(timeout=0.1)
    end()


def test_application_savepoints(engine: PostgresEngine, connection: psycopg.Connection):
    """The application's own blocks undo what was published in them."""
    with connection.transaction(), engine.join(connection):
        engine.log.append("c", [NewEntry(b"1")])
        with suppress(ZeroDivisionError), connection.transaction():
            engine.log.append("c", [NewEntry(b"2")])
            raise ZeroDivisionError
    assert [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries] == [b"1"]


def test_settings_of_the_application_do_not_matter(engine: PostgresEngine, connection: psycopg.Connection):
    """Its factories and search path neither disturb the engine nor are disturbed."""
    connection.row_factory, connection.cursor_factory = dict_row, psycopg.ClientCursor
    connection.execute("SET search_path = pg_catalog")
    with engine.join(connection):
        engine.storage.upsert("é", {"a": ["é"]})
        engine.log.append("c", [NewEntry(b"%d" % number, "é") for number in range(50)])
        assert engine.storage.fetch_one("é") == {"a": ["é"]}
        assert engine.log.read("c", 0, "é").entries[0].receiver == "é"
    assert connection.execute("SHOW search_path").fetchone() == {"search_path": "pg_catalog"}
    connection.commit()
    assert _count(engine) == 50


def test_others_wait_and_give_up(engine: PostgresEngine, connection: psycopg.Connection):
    """Who publishes to the same channel meanwhile waits for its lock timeout; other channels go on."""
    engine.log.create("d", Retention())
    failed: Queue[Exception] = Queue()

    def publish() -> None:
        engine.log.append("d", [NewEntry(b"goes on")])
        try:
            engine.log.append("c", [NewEntry(b"other")])
        except StoreUnavailable as error:
            failed.put(error)

    with engine.join(connection):
        engine.log.append("c", [NewEntry(b"mine")])
        thread = threading.Thread(target=publish)
        thread.start()
        thread.join()
    connection.commit()
    assert "lock_timeout_ms" in str(failed.get_nowait())
    assert (_count(engine), engine.log.count("d", 0, View.EVERYTHING, 10)) == (1, 1)


def test_serialization_failure(engine: PostgresEngine, connection: psycopg.Connection):
    """A stricter transaction that began before somebody else published is told to begin anew."""
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SELECT 1 FROM orders")
    engine.log.append("c", [NewEntry(b"1")])
    with engine.join(connection), pytest.raises(StoreUnavailable, match="from the beginning of the transaction"):
        engine.log.append("c", [NewEntry(b"2")])
    connection.rollback()


def test_nested_join(engine: PostgresEngine, connection: psycopg.Connection, server: PostgresServer):
    """Joining the same connection again changes nothing; another one is refused, also in a transaction of our own."""
    with engine.join(connection), engine.join(connection):
        engine.log.append("c", [NewEntry(b"1")])
        with (
            server.connect(autocommit=False) as another,
            pytest.raises(ConfigurationError, match="finish that one first"),
            engine.join(another),
        ):
            raise AssertionError
    connection.commit()
    with engine.storage.transaction(), pytest.raises(ConfigurationError, match="first"), engine.join(connection):
        raise AssertionError
    assert _count(engine) == 1


def _refused(engine: PostgresEngine, target: object, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match), engine.join(target):
        raise AssertionError


def test_autocommit(engine: PostgresEngine, server: PostgresServer):
    """A connection in autocommit mode must be in a transaction."""
    with server.connect() as connection:
        _refused(engine, connection, r"connection\.transaction\(\)")
        with connection.transaction(), engine.join(connection):
            engine.log.append("c", [NewEntry(b"1")])
    assert _count(engine) == 1


def test_sqlalchemy_autocommit(engine: PostgresEngine, server: PostgresServer):
    """So must SQLAlchemy's."""
    with ExitStack() as stack:
        connection = stack.enter_context(_sqlalchemy(server, stack).connect())
        _refused(engine, connection.execution_options(isolation_level="AUTOCOMMIT"), "autocommit")


def test_another_database(engine: PostgresEngine, server: PostgresServer):
    """A connection to another database is refused, and stays usable."""
    with server.connect() as connection:
        connection.execute("CREATE DATABASE elsewhere")
    with psycopg.connect(server.url(database="elsewhere")) as connection:
        _refused(engine, connection, "another database")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_unusable_connections(engine: PostgresEngine, connection: psycopg.Connection):
    """One whose transaction has failed, in pipeline mode, of another encoding, or closed, is refused with a reason."""
    with suppress(psycopg.Error):
        connection.execute("SELECT 1 / 0")
    _refused(engine, connection, "roll it back")
    connection.rollback()
    with connection.pipeline():
        _refused(engine, connection, "pipeline")
    connection.execute("SET client_encoding = latin1")
    _refused(engine, connection, "client_encoding")
    connection.close()
    _refused(engine, connection, "closed")


class _AsyncSession:
    """What is to be seen of SQLAlchemy's without the package that its asynchronous part needs."""

    sync_session = None

    async def connection(self) -> object:
        raise AssertionError


async def test_asynchronous(engine: PostgresEngine, server: PostgresServer):
    """Asynchronous connections and sessions are refused, with what to do."""
    async with await psycopg.AsyncConnection.connect(server.url()) as connection:
        _refused(engine, connection, "psycopg.AsyncConnection cannot be joined.*in a thread")
    _refused(engine, _AsyncSession(), "_AsyncSession cannot be joined")


def test_something_else(engine: PostgresEngine):
    """What is no connection at all is refused by its name."""
    _refused(engine, object(), "builtins.object cannot be joined")
    with sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.NullPool).connect() as connection:
        _refused(engine, connection, "sqlite3.Connection cannot be joined")


def test_tables_of_the_application_are_left_alone(server: PostgresServer):
    """In the application's own schema there are our tables beside its own."""
    with server.connect() as connection:
        connection.execute("CREATE SCHEMA shop")
        connection.execute("CREATE TABLE shop.orders (item text)")
        with open_postgres(server.url("schema=shop")) as engine:
            engine.log.create("c", Retention())
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shop'").fetchall()
    assert {name for (name,) in names if not name.startswith("eric_")} == {"orders"}
