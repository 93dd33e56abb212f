"""The application's own connection, on which the engine may write."""

import sqlite3
from pathlib import Path

from eric_sse.engines.sqlite.session import Parameters, Row, Session
from eric_sse.exception import ConfigurationError


class JoinedSession(Session):
    """Statements on a connection of the application's, in its transaction."""

    def _execute(self, sql: str, parameters: Parameters) -> tuple[list[Row], sqlite3.Cursor]:
        text_factory = self.connection.text_factory
        self.connection.text_factory = str
        try:
            return super()._execute(sql, parameters)
        finally:
            self.connection.text_factory = text_factory


def require_same_file(session: Session, path: str) -> None:
    """Refuse a connection to another file.

    Raises:
        ConfigurationError: It is to another one, or to none.
    """
    files = [file for _, name, file in session.rows("PRAGMA database_list") if name == "main"]
    file = files[0] if files else ""
    if not file:
        raise ConfigurationError(f"the connection to join is to a database in memory; connect it to {path}")
    if not Path(file).samefile(path):
        raise ConfigurationError(f"the connection to join is to {file}, the engine's file is {path}; join one to that")


def require_transaction(session: Session) -> None:
    """Begin a transaction unless the application has.

    Raises:
        ConfigurationError: The connection's ``commit()`` would not commit what is begun here.
        StoreUnavailable: Somebody else writes for longer than the connection's timeout.
    """
    if session.connection.in_transaction:
        return
    # Python 3.12: with autocommit=True commit() and rollback() do nothing.
    if getattr(session.connection, "autocommit", None) is True:
        raise ConfigurationError(
            "the connection to join has autocommit=True and no transaction: execute BEGIN IMMEDIATE on it before, and "
            "COMMIT after"
        )
    session.run("BEGIN IMMEDIATE")
