"""Transactions: of the engine's own, retried where a connection was lost, and the application's."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from eric_sse._util import get_logger
from eric_sse.engines.postgres import schema
from eric_sse.engines.postgres.connections import AnyPool, Connections, connect, leak, own_pool, parameters_of
from eric_sse.engines.postgres.errors import ConnectionLost, Place, TransactionUndone, translate_connect
from eric_sse.engines.postgres.joining import (
    JoinedSession,
    driver_connection,
    identity,
    require_same_store,
    require_transaction,
)
from eric_sse.engines.postgres.session import AnyConnection, Session, Statements
from eric_sse.engines.postgres.url import Options
from eric_sse.exception import ConfigurationError, OutcomeUnknown, RepositoryError

logger = get_logger()

_T = TypeVar("_T")
_OLDEST = 150_000
# In each transaction: a setting of the session would be another client's behind a pooler, and the application's in its
# own pool.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {lock_timeout_ms}"


class _Ambient(threading.local):
    """The transaction that this thread is in."""

    session: Session | None = None


class Database:
    """One schema of a database. Safe for threads.

    Args:
        options: How to open it.
        pool: The application's, which stays open; None: one of our own.

    Raises:
        ConfigurationError: The server is too old, or the database cannot be used.
        RepositoryError: The server refuses us, or the tables are of a newer version.
    """

    def __init__(self, options: Options, pool: AnyPool | None = None) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._ambient = _Ambient()
        self._closed = False
        self._theirs = pool
        self._ours: AnyPool | None = None
        with self._first_connection() as connection:
            self._prepare(connection)

    def connection_parameters(self) -> tuple[str, dict[str, Any]]:
        """What a connection of the pool is opened with: libpq's part, and the driver's."""
        return (self.options.conninfo, {}) if self._theirs is None else parameters_of(self._theirs)

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in a transaction, of the engine's or of the application's."""
        return self._ambient.session is not None

    @property
    def joined(self) -> Session | None:
        """The application's transaction that this thread is in, if it is."""
        session = self._ambient.session
        return session if isinstance(session, JoinedSession) else None

    def after_commit(self, action: Callable[[], None]) -> None:
        """Have ``action`` called after the commit of the engine's transaction of this thread; now if there is none.

        The commit of an application's transaction is not seen: it is not for those.
        """
        session = self._ambient.session
        if session is None:
            action()
        else:
            session.after_commit.append(action)

    def read(self, work: Callable[[Session], _T]) -> _T:
        """Do ``work``, which reads by one statement, in this thread's transaction, if there is one.

        A connection that is lost meanwhile is replaced once.

        Raises:
            StoreUnavailable: The server does not answer.
        """
        session = self._ambient.session
        if session is None:
            return self._again_if_undone(lambda: self._read(work))
        if isinstance(session, JoinedSession):
            with session.savepoint():
                return work(session)
        return work(session)

    def write(self, work: Callable[[Session], _T]) -> _T:
        """Do ``work`` in a transaction of its own, committed at its end; in another one of this thread in a savepoint.

        Where the transaction was undone by the server, or its connection was lost before the commit, ``work`` is done
        once more.

        Raises:
            StoreUnavailable: The server does not answer, or somebody else holds a lock for too long. Nothing is stored.
            OutcomeUnknown: The connection was lost during the commit.
        """
        session = self._ambient.session
        if session is not None:
            with session.savepoint():
                return work(session)

        def attempt() -> _T:
            with self.transaction() as session:
                return work(session)

        return self._again_if_undone(attempt)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction of this thread: committed at the end, rolled back where an exception leaves it.

        In another one of this thread it is a savepoint.
        """
        outer = self._ambient.session
        if outer is not None:
            with outer.savepoint():
                yield outer
            return
        with self._session() as session:
            self._ambient.session = session
            try:
                session.rows(_BEGIN)
                yield session
                _commit(session)
            except BaseException:
                _roll_back(session)
                raise
            finally:
                self._ambient.session = None
        for action in session.after_commit:
            action()

    @contextmanager
    def join(self, target: object) -> Iterator[None]:
        """Have what this thread does inside go through the application's connection. See `PostgresEngine.join`."""
        connection = driver_connection(target)
        outer = self._ambient.session
        if outer is not None:
            if outer.connection is not connection:
                raise ConfigurationError("this thread is in another transaction of the engine; finish that one first")
            yield
            return
        self._require_open()
        require_transaction(connection)
        session = JoinedSession(connection, self.statements, self.place)
        require_same_store(session, self._identity)
        self._ambient.session = session
        try:
            yield
        finally:
            self._ambient.session = None

    def close(self) -> None:
        """Close all connections of a pool of ours; those in use when they are given back. Idempotent."""
        self._closed = True
        with self._lock:
            if self._ours is not None:
                self._ours.close(timeout=1)

    def abandon(self) -> bool:
        """In a forked child: leave the connections to the parent. Returns whether new ones can be opened here."""
        leak(self._ours, self._theirs, self._ambient.session)
        self._lock = threading.Lock()
        self._ambient = _Ambient()
        self._ours = None
        # Whether an application's pool can be used in the child is not for us to say.
        self._closed = self._closed or self._theirs is not None
        return not self._closed

    def _read(self, work: Callable[[Session], _T]) -> _T:
        with self._session() as session:
            return work(session)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        self._require_open()
        with Connections(self._pool(), self.place).connection() as connection:
            yield Session(connection, self.statements, self.place)

    def _pool(self) -> AnyPool:
        if self._theirs is not None:
            return self._theirs
        with self._lock:
            if self._ours is None:
                options = self.options
                self._ours = own_pool(options.conninfo, options.pool_size, options.lock_timeout_ms)
            return self._ours

    def _again_if_undone(self, attempt: Callable[[], _T]) -> _T:
        try:
            return attempt()
        except TransactionUndone as error:
            logger.info("trying once more: %s", error)
            if isinstance(error, ConnectionLost) and self._ours is not None:
                # Others may be lost at the same time, and be alive a moment longer: the next try gets a new one.
                self._ours.drain()
            return attempt()

    def _first_connection(self) -> AbstractContextManager[AnyConnection]:
        """One that is not yet in a pool of ours, which would not say why it has none."""
        if self._theirs is not None:
            return Connections(self._theirs, Place("the pool that was handed in")).connection()
        try:
            return connect(self.options.conninfo, self.options.lock_timeout_ms)
        except psycopg.Error as error:
            raise translate_connect(error, Place(_shown(self.options.conninfo))) from error

    def _prepare(self, connection: AnyConnection) -> None:
        place = _usable_place(connection.info)
        self.schema = self.options.schema or _current_schema(connection, place)
        self.place = replace(place, schema=self.schema)
        self.statements = Statements(self.schema, self.options.lock_timeout_ms)
        session = Session(connection, self.statements, self.place)
        if not schema.is_current(session, self.schema):
            self._migrate(session)
        self._identity = identity(session)

    def _migrate(self, session: Session) -> None:
        session.rows(_BEGIN)
        try:
            schema.migrate(session, self.schema)
            _commit(session)
        except BaseException:
            _roll_back(session)
            raise

    def _require_open(self) -> None:
        if self._closed:
            raise RepositoryError(f"the engine on {self.place} is closed; open it again")


def _usable_place(info: psycopg.ConnectionInfo) -> Place:
    place = Place(f"{info.host}:{info.port}/{info.dbname}", user=info.user)
    if info.server_version < _OLDEST:
        raise ConfigurationError(f"{place}: the server is PostgreSQL {info.server_version // 10_000}; use 15 or newer")
    encoding = info.parameter_status("server_encoding")
    if encoding != "UTF8" or info.encoding != "utf-8":
        raise ConfigurationError(
            f"{place}: the database is encoded in {encoding}, the connection in {info.encoding}; use UTF8 for both "
            "(CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0)"
        )
    return place


def _current_schema(connection: AnyConnection, place: Place) -> str:
    session = Session(connection, Statements("", 0), place)
    ((name,),) = session.rows("SELECT pg_catalog.current_schema()::text")
    if name is None:
        raise ConfigurationError(
            f"{place}: no schema in the search path is there; name one with ?schema=, which is created if it may be"
        )
    return str(name)


def _commit(session: Session) -> None:
    if session.connection.info.transaction_status == TransactionStatus.INERROR:
        # COMMIT would roll back, and be no error.
        raise RepositoryError("something failed in this transaction before; nothing of it was stored")
    try:
        session.rows("COMMIT")
    except ConnectionLost as error:
        text = f"{session.place}: {str(error.__cause__).strip()}; what was being committed may have been stored or not"
        raise OutcomeUnknown(text) from error.__cause__


def _roll_back(session: Session) -> None:
    if not session.connection.closed:
        # Whoever takes it back closes a connection that is not idle.
        with suppress(RepositoryError):
            session.rows("ROLLBACK")


def _shown(conninfo: str) -> str:
    """Where it leads, without the password."""
    given = conninfo_to_dict(conninfo)
    host = given.get("host") or given.get("hostaddr") or "the local socket"
    return f"{host}:{given.get('port', 5432)}/{given.get('dbname', '')}"
