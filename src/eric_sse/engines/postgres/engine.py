"""The engine, put together."""

from contextlib import AbstractContextManager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from eric_sse.engine import Engine
from eric_sse.engines.postgres.connections import connection_class
from eric_sse.engines.postgres.cursors import PostgresCursors
from eric_sse.engines.postgres.database import Database
from eric_sse.engines.postgres.log import PostgresLog
from eric_sse.engines.postgres.notifier import PostgresNotifier
from eric_sse.engines.postgres.storage import PostgresStorage
from eric_sse.engines.postgres.url import Options

# How long the notifier's connection waits for an answer of a server that hangs.
_NOTIFIER_REPLY_S = 5.0


class PostgresEngine(Engine):
    """An engine on one schema of a PostgreSQL database.

    It may be used from many threads. A process that forks gets new connections in the child; on a pool that was handed
    in, the engine is closed there.

    Example:
        >>> pool = ConnectionPool("postgresql://localhost/shop", open=True)  # doctest: +SKIP
        >>> engine = PostgresEngine(pool, schema="events")  # doctest: +SKIP

    Args:
        source: How to open it; or the application's own open pool, which is never closed here. One connection more, for
            the notifier, is opened with the pool's parameters.
        schema: Where the tables are, for a pool; the first of its search path by default.
        lock_timeout_ms: For a pool: how long to wait for a row that another transaction holds.

    Raises:
        ConfigurationError: The server or the database cannot be used.
        RepositoryError: The server refuses us, a permission is missing, or the tables are of a newer version.
        StoreUnavailable: The server does not answer.
    """

    def __init__(
        self, source: Options | ConnectionPool[Any], *, schema: str | None = None, lock_timeout_ms: int = 4000
    ) -> None:
        if isinstance(source, Options):
            self._database = Database(source)
        else:
            self._database = Database(Options(schema=schema, lock_timeout_ms=lock_timeout_ms), source)
        self._notifier = PostgresNotifier(self._database, self._connect_notifier)
        self._log = PostgresLog(self._database)
        super().__init__(PostgresStorage(self._database), self._log, PostgresCursors(self._database), self._notifier)

    def join(self, target: object) -> AbstractContextManager[None]:
        """Publish inside the application's own transaction.

        Inside the block, whatever this thread does with the engine (broadcast, dispatch, persist, append, read) goes
        through ``target``, which is the application's, to the engine's database. It becomes visible, and listeners are
        woken, when the application commits; and it never was if the application rolls back. The engine neither commits
        nor rolls back: what fails on its side is undone alone, by a savepoint.

        Where the connection is in no transaction, one is begun, for the application to commit. Until it does, others
        who publish to the same channels wait, up to their lock timeout: publish last, and commit soon. Take several
        channels in the order of their ids' bytes, as a group does. How long this transaction waits for others is its
        own ``lock_timeout``. Do not ``await`` inside: what else runs in the thread meanwhile would be in the
        transaction, too.

        Example:
            >>> with psycopg.connect(conninfo) as connection, engine.join(connection):  # doctest: +SKIP
            ...     connection.execute("INSERT INTO orders (item) VALUES (%s)", ("tea",))
            ...     channel.broadcast(Message("order", {"item": "tea"}))

        Args:
            target: A ``psycopg.Connection``, or a SQLAlchemy ``Session`` or ``Connection`` on ``postgresql+psycopg``.

        Raises:
            ConfigurationError: It is to another database, asynchronous, in autocommit mode without a transaction, or
                in a failed one; or this thread is in another transaction of the engine.
        """
        return self._database.join(target)

    def close(self) -> None:
        """Move the cursors for the last time, and close all connections that were opened here. Idempotent."""
        try:
            super().close()
        finally:
            self._notifier.close()
            self._database.close()

    def _connect_notifier(self) -> psycopg.Connection[Any]:
        conninfo, kwargs = self._database.connection_parameters()
        kwargs["autocommit"] = True
        return connection_class(_NOTIFIER_REPLY_S).connect(conninfo, **kwargs)

    def after_fork(self) -> None:
        """In a forked child: let go of the parent's connections and threads."""
        super().after_fork()
        if self._database.abandon():
            self._notifier.abandon()
