"""A connection in use by one thread: statements that behave the same whatever its owner has set on it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from eric_sse.engines.postgres.errors import Place, is_lost, translate
from eric_sse.exception import RepositoryError

Row = tuple[Any, ...]
AnyConnection = psycopg.Connection[Any]


class Statements:
    """Statements by their templates, in which ``{schema}`` stands for the quoted name of the engine's schema.

    All names are qualified: an application's connection, and a pooler's, may have any search path.

    Args:
        schema: The name.
        lock_timeout_ms: Stands for ``{lock_timeout_ms}``.
    """

    def __init__(self, schema: str, lock_timeout_ms: int) -> None:
        self._names = {"schema": sql.Identifier(schema), "lock_timeout_ms": sql.Literal(lock_timeout_ms)}
        self._composed: dict[LiteralString, bytes] = {}

    def compose(self, template: LiteralString) -> bytes:
        """The statement that a template stands for."""
        composed = self._composed.get(template)
        if composed is None:
            composed = self._composed[template] = sql.SQL(template).format(**self._names).as_bytes()
        return composed


class Session:
    """Statements on one connection, their errors translated.

    Args:
        connection: In use by this thread alone.
        statements: Of the engine's schema.
        place: What errors are about.
    """

    def __init__(self, connection: AnyConnection, statements: Statements, place: Place) -> None:
        self.connection = connection
        self.after_commit: list[Callable[[], None]] = []
        self._statements = statements
        self.place = place

    def rows(self, template: LiteralString, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows that the statement gives; its parameters are ``$1``, ``$2`` and so on."""
        with self._translating():
            cursor = self._execute(template, parameters)
            # Statements without a result have none to fetch.
            return cursor.fetchall() if cursor.description else []

    def row(self, template: LiteralString, parameters: Sequence[object] = ()) -> Row | None:
        """The first row, if there is one."""
        rows = self.rows(template, parameters)
        return rows[0] if rows else None

    def run(self, template: LiteralString, parameters: Sequence[object] = ()) -> int:
        """Run a statement, and return how many rows it wrote."""
        with self._translating():
            return self._execute(template, parameters).rowcount

    def copy(self, template: LiteralString, data: bytes) -> None:
        """Store what a ``COPY … FROM STDIN`` takes."""
        with self._translating(), self._cursor() as cursor, cursor.copy(self._statements.compose(template)) as copy:
            copy.write(data)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A transaction in the transaction: what happens inside is undone where an exception leaves it."""
        self.rows("SAVEPOINT eric_sse")
        after = len(self.after_commit)
        try:
            yield
        except BaseException:
            del self.after_commit[after:]
            # Where the connection is lost, all of it is undone.
            with suppress(RepositoryError):
                self.rows("ROLLBACK TO SAVEPOINT eric_sse")
                self.rows("RELEASE SAVEPOINT eric_sse")
            raise
        self.rows("RELEASE SAVEPOINT eric_sse")

    def _execute(self, template: LiteralString, parameters: Sequence[object]) -> psycopg.Cursor[Row]:
        statement, cursor = self._statements.compose(template), self._cursor()
        if parameters:
            return cursor.execute(statement, parameters, binary=True)
        # By the simple protocol, which takes several statements in one go; those cannot be prepared.
        return cursor.execute(statement, prepare=False)

    def _cursor(self) -> psycopg.Cursor[Row]:
        # Not connection.cursor(): an application may have set factories of its own.
        return psycopg.RawCursor(self.connection, row_factory=tuple_row)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, UnicodeEncodeError) as error:
            if is_lost(error, self.connection):
                # A reply that comes late is nobody's.
                self.connection.close()
            raise translate(error, self.place, self.connection) from error
