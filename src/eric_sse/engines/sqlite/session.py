"""A connection in use by one thread: statements that behave the same whatever its owner has set on it.

The `sqlite3` module lets go of the interpreter's lock at each row, and where another thread is busy every row may then
wait milliseconds to get it back. So what is many rows goes in by one statement, and comes out as one packed row.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from typing import Any

from eric_sse.engines.sqlite.errors import translate
from eric_sse.exception import RepositoryError

Row = tuple[Any, ...]
Parameters = Sequence[object] | Mapping[str, object]

# Powers of two below it are the only sizes of statement, so that SQLite's prepared statements are met again.
MAX_ITEMS = 1024
"""How many items one statement takes at most."""


class Session:
    """Statements on one connection, their errors translated.

    Args:
        connection: In use by this thread alone.
        path: The file, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self.connection = connection
        self.after_commit: list[Callable[[], None]] = []
        self._path = path

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows that the statement gives. Nothing stays open."""
        rows, _ = self._execute(sql, parameters)
        return rows

    def row(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, if there is one."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement; for one that writes, return how many rows it wrote."""
        _, cursor = self._execute(sql, parameters)
        return cursor.rowcount

    def script(self, sql: str) -> None:
        """Run a statement that gives rows without columns to its end; outside of a transaction."""
        try:
            self.connection.executescript(sql)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def bulk(self, sql: str, items: Sequence[Sequence[object]], *parameters: object) -> list[Row]:
        """Run ``sql`` for many items, hundreds a statement, and return all rows.

        Args:
            sql: ``{}`` in it stands for the items, as a ``VALUES`` clause; their parameters come first.
            items: Rows of equal length.
            parameters: Those that come after them.
        """
        found: list[Row] = []
        for statement, values in _statements(sql, items):
            found += self.rows(statement, [*values, *parameters])
        return found

    def insert(self, sql: str, items: Sequence[Sequence[object]]) -> int:
        """Insert many items, as `bulk` does. Returns the row id of the last; 0 where there is none."""
        last_id = 0
        for statement, values in _statements(sql, items):
            _, cursor = self._execute(statement, values)
            last_id = cursor.lastrowid or 0
        return last_id

    def insert_at_once(self, sql: str, items: Sequence[Sequence[object]], *parameters: object) -> tuple[int, int]:
        """Insert up to `MAX_ITEMS` items with one statement, which also without a transaction stores all or none.

        Args:
            sql: As for `bulk`. It must pass over items that begin with 0, with which their number is rounded up.
            items: Rows of equal length.
            parameters: Those that come after them.

        Returns:
            How many rows went in, and the row id of the last.
        """
        size, width = 1 << (len(items) - 1).bit_length(), len(items[0])
        padding = [0] * (width * (size - len(items)))
        _, cursor = self._execute(_spread(sql, size, width), [*chain.from_iterable(items), *padding, *parameters])
        return cursor.rowcount, cursor.lastrowid or 0

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A transaction in the transaction: what happens inside is undone where an exception leaves it."""
        self.run("SAVEPOINT eric_sse")
        after = len(self.after_commit)
        try:
            yield
        except BaseException:
            del self.after_commit[after:]
            # A full disk makes SQLite roll back the whole transaction by itself: then the savepoint is gone.
            with suppress(RepositoryError):
                self.run("ROLLBACK TO eric_sse")
                self.run("RELEASE eric_sse")
            raise
        self.run("RELEASE eric_sse")

    def _execute(self, sql: str, parameters: Parameters) -> tuple[list[Row], sqlite3.Cursor]:
        try:
            # Unlike connection.cursor(), this does not take over a row factory.
            cursor = sqlite3.Cursor(self.connection)
            try:
                return cursor.execute(sql, parameters).fetchall(), cursor
            finally:
                cursor.close()
        except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            raise translate(error, self._path) from error


def _statements(sql: str, items: Sequence[Sequence[object]]) -> Iterator[tuple[str, list[object]]]:
    start = 0
    while start < len(items):
        size = min(MAX_ITEMS, 1 << ((len(items) - start).bit_length() - 1))
        chunk = items[start : start + size]
        yield _spread(sql, size, len(chunk[0])), list(chain.from_iterable(chunk))
        start += size


@lru_cache(maxsize=512)
def _spread(sql: str, size: int, width: int) -> str:
    item = f"({','.join('?' * width)})"
    return sql.replace("{}", f"VALUES {','.join([item] * size)}")
