"""The ``sqlite://`` engine: one file, for any number of processes of one machine.

What `append` and `broadcast` have returned from survives a kill of the process, and with ``synchronous=full`` a crash
of the machine. Tables of the application may live in the same file, and messages be published in its transactions.
"""

import os
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

from eric_sse.engine import Engine
from eric_sse.engines.sqlite.backup import backup
from eric_sse.engines.sqlite.cursors import SqliteCursors
from eric_sse.engines.sqlite.database import Database, Options
from eric_sse.engines.sqlite.log import SqliteLog
from eric_sse.engines.sqlite.notifier import SqliteNotifier
from eric_sse.engines.sqlite.storage import SqliteStorage
from eric_sse.engines.sqlite.url import options_of

__all__ = ["SqliteEngine", "open_sqlite"]


def open_sqlite(url: str) -> "SqliteEngine":
    """Open, or create, the file that ``url`` names.

    Args:
        url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``, percent-encoded, with the options
            ``synchronous=full`` (the default) or ``normal``, and ``busy_timeout_ms`` (5000): how long to wait for
            somebody else's write before `StoreUnavailable` is raised.

    Raises:
        ConfigurationError: The URL is wrong, or SQLite older than 3.37.
        RepositoryError: The file cannot be opened or created, is damaged, or of a newer version.
    """
    return SqliteEngine(options_of(url))


class SqliteEngine(Engine):
    """An engine on one SQLite file.

    It may be used from many threads. A process that forks gets new connections in the child, unless other threads
    were using the engine at that moment: then it is closed there, and is to be opened anew by a process that is
    spawned.

    Args:
        options: How to open it.
    """

    def __init__(self, options: Options) -> None:
        self._database = Database(options)
        self._notifier = SqliteNotifier(self._database)
        self._log = SqliteLog(self._database, self._notifier)
        super().__init__(SqliteStorage(self._database), self._log, SqliteCursors(self._database), self._notifier)

    def join(self, connection: sqlite3.Connection) -> AbstractContextManager[None]:
        """Publish inside the application's own transaction.

        Inside the block, whatever this thread does with the engine (broadcast, dispatch, persist, append, read) goes
        through ``connection``, which is the application's, to the engine's file. It becomes visible, and listeners
        are woken, when the application commits; and it never was if the application rolls back. The engine neither
        commits nor rolls back: what fails on its side is undone alone, by a savepoint.

        Where the connection is in no transaction, one is begun (``BEGIN IMMEDIATE``), for the application to commit.
        One that began by reading may find that somebody else has written since, and gets `StoreUnavailable`: begin
        with ``BEGIN IMMEDIATE``. Commit soon: until then nobody else can write to the file. Do not ``await`` inside:
        what else runs in the thread meanwhile would be in the transaction, too.

        Example:
            >>> with closing(sqlite3.connect("shop.db")) as connection:  # doctest: +SKIP
            ...     with connection, engine.join(connection):
            ...         connection.execute("INSERT INTO orders (item) VALUES (?)", ("tea",))
            ...         channel.broadcast(Message("order", {"item": "tea"}))

        Args:
            connection: An open connection to the same file, in any mode of transaction control, usable in this
                thread. Its row and text factories are left as they are and do not matter.

        Raises:
            ConfigurationError: The connection is to another file, or this thread is in another transaction.
            StoreUnavailable: Somebody else writes for longer than the connection's timeout.
        """
        return self._database.join(connection)

    def backup(self, destination: str | os.PathLike[str]) -> None:
        """Write a copy of the whole file, as of now, while others go on reading and writing.

        It is complete when it appears under its name.

        Raises:
            RepositoryError: ``destination`` exists, or cannot be written.
        """
        backup(self._database, Path(destination))

    def close(self) -> None:
        """Move the cursors for the last time, and close all connections. Idempotent."""
        try:
            super().close()
        finally:
            self._notifier.close()
            self._database.close()

    def after_fork(self) -> None:
        """In a forked child: let go of the parent's connections and threads."""
        super().after_fork()
        if self._database.abandon():
            self._notifier.abandon()
            self._log.abandon()
