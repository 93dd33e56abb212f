"""What goes wrong on PostgreSQL is said, and leaves what is stored whole."""

import string
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from eric_sse.engines.postgres import PostgresEngine, database, open_postgres
from eric_sse.engines.postgres.errors import Place, translate
from eric_sse.engines.postgres.session import Session
from eric_sse.exception import (
    ConfigurationError,
    InvalidMessageFormat,
    OutcomeUnknown,
    RepositoryError,
    StoreFull,
    StoreUnavailable,
)
from eric_sse.log import Append, Appended, CursorKey, NewEntry, Retention, View
from support.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of our own, with a role that may do nothing."""
    with postgres_server() as server:
        with server.connect() as connection:
            connection.execute("CREATE ROLE modest LOGIN")
            connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        yield server


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[PostgresEngine]:
    """An engine that does not wait long, with a channel ``c``."""
    with open_postgres(server.fresh_url("lock_timeout_ms=100")) as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


@pytest.fixture
def observer(server: PostgresServer, engine: PostgresEngine) -> Iterator[psycopg.Connection]:
    """A superuser's connection to the engine's tables."""
    with server.connect() as connection:
        connection.execute(f"SET search_path = {_schema(engine)}")
        yield connection


def _schema(engine: PostgresEngine) -> str:
    return engine._database.schema


def _texts(engine: PostgresEngine) -> list[bytes]:
    return [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries]


BAD_URLS = {
    "postgresql://localhost/db?pool=3": "invalid URI query parameter",
    "postgresql://localhost:port/db": "port 'port'",
    "postgresql://localhost:5432,other:99999/db": "port '99999'",
    "postgresql://localhost/db?connect_timeout=soon": "connect_timeout",
    "postgresql://127.0.0.1/db?sslmode=perhaps": "sslmode",
    "postgresql://%zz@localhost/db": "percent-encoded",
    "postgresql://localhost/db?pool_size=0": "pool_size=0",
    "postgresql://localhost/db?pool_size=many": "pool_size=many",
    "postgresql://localhost/db?pool_size=2&pool_size=3": "twice",
    "postgresql://localhost/db?lock_timeout_ms=-1": "lock_timeout_ms=-1",
    "postgresql://localhost/db?lock_timeout_ms=99999999999": "out of range",
    "postgresql://localhost/db?schema=": "schema ''",
    "postgresql://localhost/db?schema=pg_mine": "pg_mine",
    f"postgresql://localhost/db?schema={'x' * 64}": "63 bytes",
}


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_url(url: str):
    """A URL that cannot be is refused with what is wrong about it, before anything is connected to."""
    with pytest.raises(ConfigurationError, match=BAD_URLS[url]):
        open_postgres(url)


def test_odd_schema(server: PostgresServer):
    """A schema may have any name, percent-encoded in the URL."""
    with open_postgres(server.url("schema=%22Odd%22%20%7Bname%7D%3B%C3%A9")) as engine:
        engine.log.create("c", Retention())
        assert _schema(engine) == '"Odd" {name};é'
        assert "c" in engine.log.heads(["c"])


def test_default_schema(server: PostgresServer):
    """Without a schema it is the first of the role's search path; where there is none, it says so."""
    with server.connect() as connection:
        connection.execute("CREATE DATABASE fresh")
    with open_postgres(server.url(database="fresh")) as engine:
        assert _schema(engine) == "public"
    with pytest.raises(ConfigurationError, match=r"\?schema="):
        open_postgres(server.url("options=-csearch_path%3Dnone", database="fresh"))


def test_nobody_there():
    """Where no server answers, it is unavailable, and the password is not told."""
    with pytest.raises(StoreUnavailable, match="is the server running") as caught:
        open_postgres("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("login", ["guarded:wrong@127.0.0.1", "nobody@127.0.0.1"])
def test_wrong_credentials(server: PostgresServer, login: str):
    """A wrong password or user is said to be so."""
    with pytest.raises(RepositoryError, match="correct the user, password or database") as caught:
        open_postgres(server.url().replace("postgres@127.0.0.1", login))
    assert "wrong" not in str(caught.value)


def test_wrong_database(server: PostgresServer):
    """A database that is not there is said to be missing."""
    with pytest.raises(RepositoryError, match='database "none" does not exist'):
        open_postgres(server.url(database="none"))


def test_wrong_encoding(server: PostgresServer):
    """A database or a connection in another encoding is refused."""
    with server.connect() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    for url in (server.url(database="latin"), server.url("client_encoding=latin1")):
        with pytest.raises(ConfigurationError, match="use UTF8 for both"):
            open_postgres(url)


def test_old_server(server: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    """A server that is too old is refused."""
    monkeypatch.setattr(database, "_OLDEST", 990_000)
    with pytest.raises(ConfigurationError, match="use 15 or newer"):
        open_postgres(server.url())


def test_newer_schema(engine: PostgresEngine, observer: psycopg.Connection, server: PostgresServer):
    """Tables of a newer version are refused, and left as they are."""
    observer.execute("UPDATE eric_meta SET value = 99")
    with pytest.raises(RepositoryError, match="upgrade eric_sse"):
        open_postgres(server.url(f"schema={_schema(engine)}"))
    assert observer.execute("SELECT key, value FROM eric_meta").fetchall() == [("schema", 99)]


def test_opened_by_several_at_once(server: PostgresServer):
    """Who opens a new schema at the same time as others waits for the one that creates it."""
    url, opened = server.fresh_url(), []
    threads = [threading.Thread(target=lambda: opened.append(open_postgres(url))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in opened:
        engine.close()
    assert len(opened) == 5


def test_may_not_create(server: PostgresServer):
    """A role that may not create the schema, or tables in it, is told what to grant; nothing is half-created."""
    with server.connect() as connection:
        connection.execute("CREATE SCHEMA closed; GRANT USAGE ON SCHEMA closed TO modest")
        for schema in ("brandnew", "closed"):
            with pytest.raises(RepositoryError, match=f'GRANT CREATE ON SCHEMA "{schema}"'):
                open_postgres(server.url(f"schema={schema}", user="modest"))
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('closed', 'brandnew')"
        assert connection.execute(tables).fetchone() == (0,)


def test_runs_with_few_permissions(engine: PostgresEngine, observer: psycopg.Connection, server: PostgresServer):
    """Once the tables are there, a role with the permissions that the message names does everything else."""
    observer.execute(f"GRANT USAGE ON SCHEMA {_schema(engine)} TO modest")
    observer.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {_schema(engine)} TO modest")
    with open_postgres(server.url(f"schema={_schema(engine)}", user="modest")) as modest:
        channel = modest.channels.create({"channel_id": "new"})
        channel.add_listener()
        modest.channels.persist(channel)
        modest.log.append("new", [NewEntry(b"x", None, "key")] * 20)
        modest.log.trim()
        modest.channels.delete("new")


def test_may_only_read(engine: PostgresEngine, observer: psycopg.Connection, server: PostgresServer):
    """A role that may not write reads, and is told what to grant when it writes; nothing is half-written."""
    observer.execute(f"GRANT USAGE ON SCHEMA {_schema(engine)} TO modest")
    observer.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {_schema(engine)} TO modest")
    with open_postgres(server.url(f"schema={_schema(engine)}", user="modest")) as modest:
        with pytest.raises(RepositoryError, match=r'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES .* TO "modest"'):
            modest.log.append("c", [NewEntry(b"x")])
        assert _texts(modest) == []


def test_driver_missing():
    """Without psycopg the opener says what to install, by whichever way it is asked."""
    code = textwrap.dedent("""
        import sys
        sys.modules["psycopg"] = None
        from eric_sse.engines import open_engine
        from eric_sse.engines.postgres import open_postgres
        from eric_sse.exception import ConfigurationError
        for opener in (open_engine, open_postgres):
            try:
                opener("postgresql://localhost/db")
            except ConfigurationError as error:
                print(error)
    """)
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.count("pip install 'eric-sse[postgres]'") == 2


def test_lock_timeout(engine: PostgresEngine, observer: psycopg.Connection):
    """A row that somebody else holds is waited for so long, and nothing is stored; then all is well."""
    with observer.transaction():
        observer.execute("SELECT FROM eric_logs FOR UPDATE")
        with pytest.raises(StoreUnavailable, match=r"longer than \?lock_timeout_ms=.*try again") as caught:
            engine.log.append("c", [NewEntry(b"1")])
        assert isinstance(caught.value.__cause__, psycopg.errors.LockNotAvailable)
        assert _texts(engine) == []
    engine.log.append("c", [NewEntry(b"2")])
    assert _texts(engine) == [b"2"]


def test_deadlock(engine: PostgresEngine, server: PostgresServer):
    """Two who take the same channels in different orders: one is told, the other goes on."""
    engine.log.create("d", Retention())
    failed: list[str] = []

    def publish(first: str, second: str) -> None:
        with server.connect(autocommit=False) as connection, engine.join(connection):
            engine.log.append(first, [NewEntry(b"x")])
            both.wait(10)
            with suppress(StoreUnavailable):
                engine.log.append(second, [NewEntry(b"x")])
                return
            failed.append(second)

    both = threading.Barrier(2)
    threads = [threading.Thread(target=publish, args=order) for order in (("c", "d"), ("d", "c"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 1
    assert len(_texts(engine)) + engine.log.count("d", 0, View.EVERYTHING, 10) == 3


def test_full(engine: PostgresEngine, server: PostgresServer):
    """A disk without room is said to be so."""
    with server.connect() as connection:
        error = translate(psycopg.errors.DiskFull("could not extend file"), Place("here"), connection)
    assert isinstance(error, StoreFull)
    assert "make room" in str(error)


def _store_and(engine: PostgresEngine, action: Callable[[], object]) -> None:
    """Do something at the end of a transaction."""
    with engine.storage.transaction():
        engine.storage.upsert("key", 1)
        action()


def test_lost_during_the_commit(engine: PostgresEngine, server: PostgresServer):
    """Where the connection goes at the commit, nobody knows, and the error says so."""
    with pytest.raises(OutcomeUnknown, match="stored or not"):
        _store_and(engine, server.cut)
    engine.storage.upsert("key", 2)


def test_lost_before_the_commit(engine: PostgresEngine, server: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    """Where it goes before, the transaction is done once more, by itself, and stored once."""
    cut: list[int] = []
    execute = Session._execute

    def cutting(self, statement, parameters):
        if statement.startswith("INSERT") and not cut:
            cut.append(server.cut())
        return execute(self, statement, parameters)

    monkeypatch.setattr(Session, "_execute", cutting)
    engine.log.append("c", [NewEntry(b"1")])
    assert cut
    assert _texts(engine) == [b"1"]


def test_failure_that_was_ignored(engine: PostgresEngine):
    """A transaction in which the server failed something does not pretend to be committed."""

    def fail_and_go_on() -> None:
        with suppress(RepositoryError):
            engine.log.read("c", 0, View.EVERYTHING, limit=-1)

    with pytest.raises(RepositoryError, match="nothing of it was stored"):
        _store_and(engine, fail_and_go_on)
    assert list(engine.storage.fetch_all()) == []


def test_error_of_the_application_in_a_transaction(engine: PostgresEngine):
    """What the application raises itself inside a transaction, also of psycopg, comes out as it is."""

    def fail() -> None:
        raise psycopg.IntegrityError

    with pytest.raises(psycopg.IntegrityError):
        _store_and(engine, fail)
    assert list(engine.storage.fetch_all()) == []


def test_bad_entry_fails_alone(engine: PostgresEngine):
    """What PostgreSQL could not store is found before, and the others of the group are stored."""
    bad = (NewEntry("text"), NewEntry(b"", "\ud800"), NewEntry(b"", "a\0"), NewEntry(b"", None, "\ud800"))
    group = [Append("c", [NewEntry(b"1")]), *(Append("c", [NewEntry(b"x"), entry]) for entry in bad)]
    outcomes = engine.log.append_group([*group, Append("c", [NewEntry(b"2")])])
    assert [type(one) for one in outcomes] == [Appended, *[InvalidMessageFormat] * 4, Appended]
    assert _texts(engine) == [b"1", b"2"]


def test_any_key_makes_repeating_harmless(engine: PostgresEngine):
    """A message's key may hold NUL, and be longer than an index takes."""
    for key in ("a\0b", "x" * 100_000, "x" * 100_001):
        for _ in range(2):
            engine.log.append("c", [NewEntry(key[-3:].encode(), None, key)])
    assert _texts(engine) == [b"a\0b", b"xxx", b"xxx"]


def test_every_printable_character(engine: PostgresEngine):
    """Ids of channels and listeners may hold any of them, alone and together."""
    for id_ in [*(string.digits + string.ascii_letters + string.punctuation + " "), string.printable[:95]]:
        if id_ == ".":
            continue
        channel = engine.channels.create({"channel_id": id_})
        engine.channels.persist(channel)
        assert list(engine.cursors.create(id_, [id_])) == [id_]
        engine.log.append(id_, [NewEntry(id_.encode(), id_, id_), NewEntry(b"other", f"{id_}x")])
        assert [entry.data for entry in engine.log.read(id_, 0, id_).entries] == [id_.encode()]
        assert engine.cursors.get([CursorKey(id_, id_)]).keys() == {CursorKey(id_, id_)}
        assert engine.channels.load_one(id_).id == id_


def test_ids_that_no_text_holds(engine: PostgresEngine):
    """An id with a NUL is nowhere, and cannot come to be."""
    assert engine.log.heads(["a\0"]) == engine.cursors.get([CursorKey("c", "a\0")]) == {}
    assert list(engine.cursors.drop("c", ["a\0"])) == []
    engine.log.drop("a\0")
    with pytest.raises(RepositoryError, match="NUL"):
        engine.log.create("a\0", Retention())
    with pytest.raises(RepositoryError, match="NUL"):
        engine.cursors.create("c", ["a\0"])


def test_tables_dropped(engine: PostgresEngine, observer: psycopg.Connection):
    """Where the schema goes while it is in use, it says what to do."""
    observer.execute(f"DROP SCHEMA {_schema(engine)} CASCADE")
    with pytest.raises(RepositoryError, match="Open the engine again"):
        engine.log.append("c", [NewEntry(b"1")])


def test_damaged_value(engine: PostgresEngine, observer: psycopg.Connection):
    """A value that another program spoilt is reported, not left out."""
    engine.storage.upsert("key", 1)
    observer.execute("UPDATE eric_kv SET value = '{'")
    with pytest.raises(RepositoryError, match="damaged"):
        engine.storage.fetch_one("key")


def test_closed(engine: PostgresEngine):
    """A closed engine says that it is; closing again does nothing."""
    engine.close()
    engine.close()
    with pytest.raises(RepositoryError, match="closed; open it again"):
        engine.log.heads(["c"])


def test_all_connections_in_use(server: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    """Where other threads have all connections for long, it says how to have more."""
    monkeypatch.setattr("eric_sse.engines.postgres.connections._POOL_WAIT_S", 0.2)
    with open_postgres(server.fresh_url("pool_size=1")) as engine, engine.storage.transaction():
        caught: list[BaseException] = []

        def read() -> None:
            with pytest.raises(StoreUnavailable, match=r"raise \?pool_size="):
                engine.log.heads(["c"])
            caught.append(AssertionError())

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        assert len(caught) == 1


def test_pool_of_the_application(server: PostgresServer):
    """An engine on the application's pool leaves the pool open, and its connections as they were."""
    kwargs = {"row_factory": psycopg.rows.dict_row, "application_name": "shop"}
    with ConnectionPool(server.url(), kwargs=kwargs, min_size=1, max_size=2, open=True) as pool:
        with PostgresEngine(pool, schema="pooled", lock_timeout_ms=100) as engine:
            heard = threading.Event()
            engine.notifier.listen(lambda _: heard.set())
            engine.log.create("c", Retention())
            engine.log.append("c", [NewEntry(b"1")])
            assert _texts(engine) == [b"1"]
            with pool.connection() as connection, engine.join(connection):
                engine.log.append("c", [NewEntry(b"2")])
                engine.notifier.wake(["c"])
            assert heard.wait(5)
        with pool.connection() as connection:
            assert not connection.autocommit
            assert connection.execute("SHOW lock_timeout").fetchone() == {"lock_timeout": "0"}
