"""Connections and transactions: one writer behind a lock, readers beside it, and the application's own connection."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from eric_sse.engines.sqlite import schema
from eric_sse.engines.sqlite.errors import translate, translate_commit
from eric_sse.engines.sqlite.joining import JoinedSession, require_same_file, require_transaction
from eric_sse.engines.sqlite.pool import Pool, leak
from eric_sse.engines.sqlite.session import Session
from eric_sse.engines.sqlite.turn import Turn
from eric_sse.exception import ConfigurationError, RepositoryError, StoreUnavailable

# A WAL that outgrew it is cut back to it, in bytes.
_WAL_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Options:
    """How to open a file.

    Args:
        path: The file, absolute.
        synchronous: ``full``: a commit survives a crash of the machine; ``normal``: of the process.
        busy_timeout_ms: How long to wait for a lock that another connection holds.
    """

    path: str
    synchronous: str = "full"
    busy_timeout_ms: int = 5000


class _Ambient(threading.local):
    """The transaction that this thread is in."""

    session: Session | None = None


class Database:
    """One SQLite file. Safe for threads; other processes may use the file at the same time.

    Attributes:
        turn: What the writer's users take turns by.

    Raises:
        RepositoryError: The file cannot be opened, is damaged, or of a newer version.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.path = options.path
        self.turn = Turn(options.path, options.busy_timeout_ms)
        self._ambient = _Ambient()
        self._closed = False
        self._writer: sqlite3.Connection | None = None
        self._readers = Pool(self._connect_reader)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in a transaction, of the engine's or of the application's."""
        return self._ambient.session is not None

    @property
    def wal_path(self) -> str:
        """Its write-ahead log, which SQLite keeps beside the file itself, where the path is a link."""
        return f"{os.path.realpath(self.path)}-wal"

    def after_commit(self, action: Callable[[], None]) -> None:
        """Have ``action`` called when the engine's transaction of this thread was committed; now where there is none.

        The commit of an application's own transaction is not seen: there too it is called now.
        """
        session = self._ambient.session
        if session is None or isinstance(session, JoinedSession):
            action()
        else:
            session.after_commit.append(action)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Read as this thread's transaction sees it; where there is none, each statement as of its own moment."""
        if self._ambient.session is not None:
            yield self._ambient.session
            return
        with self.read_committed() as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Read several statements as of one moment. Keep it short: it stops the WAL from being reset."""
        if self._ambient.session is not None:
            yield self._ambient.session
            return
        with self.committed_snapshot() as session:
            yield session

    @contextmanager
    def committed_snapshot(self) -> Iterator[Session]:
        """The same of what was committed, whatever transaction this thread is in."""
        with self.read_committed() as session:
            session.run("BEGIN")
            try:
                yield session
            finally:
                # Should it fail, the pool closes the connection.
                with suppress(RepositoryError):
                    session.run("COMMIT")

    @contextmanager
    def read_committed(self) -> Iterator[Session]:
        """Read what was committed, whatever transaction this thread is in."""
        self._require_open()
        with self._readers.connection() as connection:
            yield Session(connection, self.path)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction of this thread: committed at the end, rolled back where an exception leaves it.

        In another one of this thread it is a savepoint.

        Raises:
            StoreUnavailable: Somebody else writes for longer than the busy timeout.
            OutcomeUnknown: The disk failed at the commit.
        """
        if self._ambient.session is not None:
            with self._ambient.session.savepoint():
                yield self._ambient.session
            return
        with self.turn:
            self._require_open()
            session = Session(self._open_writer(), self.path)
            try:
                # Where a signal handler's exception comes while it waits, it has begun all the same.
                session.run("BEGIN IMMEDIATE")
                self._ambient.session = session
                yield session
                self._commit(session)
            except BaseException:
                self._roll_back(session)
                raise
            finally:
                self._ambient.session = None
        for action in session.after_commit:
            action()

    def store_at_once(self, sql: str, items: Sequence[Sequence[object]], *parameters: object) -> tuple[int, int]:
        """A transaction that is one insert, as `Session.insert_at_once` takes it; by who has the turn.

        Raises:
            StoreUnavailable: Somebody else writes for longer than the busy timeout.
            OutcomeUnknown: The disk failed.
        """
        self._require_open()
        session = Session(self._open_writer(), self.path)
        try:
            return session.insert_at_once(sql, items, *parameters)
        except RepositoryError as error:
            self._roll_back(session)
            raise translate_commit(error) from error.__cause__

    def give_back(self, pages: int) -> None:
        """Cut free pages off the file; not inside of a transaction."""
        with self.turn:
            self._require_open()
            # Each row that it gives is a page, and has no columns: execute() would stop at the first.
            Session(self._open_writer(), self.path).script(f"PRAGMA incremental_vacuum({pages})")

    @contextmanager
    def join(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Have what this thread does inside go through ``connection``. See `SqliteEngine.join`."""
        outer = self._ambient.session
        if outer is not None:
            if outer.connection is not connection:
                raise ConfigurationError("this thread is in another transaction of the engine; finish that one first")
            yield
            return
        self._require_open()
        session = JoinedSession(connection, self.path)
        require_same_file(session, self.path)
        require_transaction(session)
        self._ambient.session = session
        try:
            yield
        finally:
            self._ambient.session = None

    def connect(self) -> sqlite3.Connection:
        """A new connection, for one thread at a time; the caller closes it."""
        try:
            return sqlite3.connect(
                self.path,
                timeout=self.options.busy_timeout_ms / 1000,
                isolation_level=None,
                # Each is used by one thread at a time; which one, changes.
                check_same_thread=False,
                cached_statements=256,
            )
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def close(self) -> None:
        """Close all connections; those in use when they are given back. Idempotent."""
        self._closed = True
        self._readers.close()
        # The writer last: SQLite then empties the WAL into the file. One that hangs is left to the process's end.
        with suppress(StoreUnavailable), self.turn:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def abandon(self) -> bool:
        """In a forked child: close what it shares with its parent. Returns whether it may be opened anew here.

        What another thread of the parent was using cannot be closed, and SQLite's locks of the file, which it keeps
        once a process, stay wrong as long as it is not.
        """
        idle = self.turn.try_to_take() and not self.in_transaction and not self._readers.in_use
        if idle:
            self.close()
        else:
            leak(self._writer, *self._readers.all())
        self.turn = Turn(self.path, self.options.busy_timeout_ms)
        self._ambient = _Ambient()
        self._readers = Pool(self._connect_reader)
        self._closed = not idle
        return idle

    def _prepare(self) -> None:
        with self.turn:
            session = Session(self._open_writer(), self.path)
            (encoding,) = session.rows("PRAGMA encoding")[0]
            if encoding != "UTF-8":
                raise RepositoryError(f"{self.path} is encoded in {encoding}; use a database in UTF-8")
            if not schema.is_current(session, self.path):
                with self.write() as writing:
                    schema.migrate(writing, self.path)

    @staticmethod
    def _commit(session: Session) -> None:
        try:
            session.run("COMMIT")
        except RepositoryError as error:
            raise translate_commit(error) from error.__cause__

    def _roll_back(self, session: Session) -> None:
        try:
            if session.connection.in_transaction:
                session.run("ROLLBACK")
        except (RepositoryError, sqlite3.Error):
            # Whatever state it is in, the next transaction begins on a new one.
            session.connection.close()
            self._writer = None

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            connection = self.connect()
            try:
                self._configure(Session(connection, self.path))
            except BaseException:
                connection.close()
                raise
            self._writer = connection
        return self._writer

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self.connect()
        Session(connection, self.path).run("PRAGMA query_only = 1")
        return connection

    def _require_open(self) -> None:
        if self._closed:
            raise RepositoryError(f"the engine on {self.path} is closed; open it again")

    def _configure(self, session: Session) -> None:
        if session.rows("PRAGMA page_count") == [(0,)]:
            # Only a new file can have it; in an application's file the space is used again, not given back.
            session.run("PRAGMA auto_vacuum = INCREMENTAL")
        self._enter_wal(session)
        session.run(f"PRAGMA synchronous = {self.options.synchronous}")
        session.run("PRAGMA temp_store = MEMORY")  # a file would need a descriptor, which a busy server may not have
        session.run(f"PRAGMA journal_size_limit = {_WAL_BYTES}")

    def _enter_wal(self, session: Session) -> None:
        # Changing the mode does not wait for the busy timeout where two processes do it at once.
        deadline = time.monotonic() + self.options.busy_timeout_ms / 1000
        while True:
            try:
                mode = session.rows("PRAGMA journal_mode = WAL")
                break
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != [("wal",)]:
            raise RepositoryError(f"{self.path} cannot be used with a write-ahead log; put it on a local disk")
