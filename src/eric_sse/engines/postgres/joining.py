"""The application's own connection, on which the engine may write: psycopg's, or what SQLAlchemy wraps around it."""

import inspect
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus

from eric_sse.engines.postgres.session import AnyConnection, Row, Session
from eric_sse.exception import ConfigurationError

# The cluster and the database in it, whatever host name or pooler leads there.
_IDENTITY = """SELECT system_identifier, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    FROM pg_catalog.pg_control_system()"""


class JoinedSession(Session):
    """Statements on a connection of the application's, in its transaction."""


def driver_connection(target: object) -> AnyConnection:
    """The connection of psycopg that an application's connection or session stands for.

    Args:
        target: A ``psycopg.Connection``, or a SQLAlchemy ``Connection`` or ``Session``, which begins its transaction.

    Raises:
        ConfigurationError: It stands for none, or for an asynchronous one.
    """
    found = target if isinstance(target, psycopg.Connection) else _behind_sqlalchemy(target)
    if isinstance(found, psycopg.Connection):
        return found
    name = f"{type(found).__module__}.{type(found).__qualname__}"
    raise ConfigurationError(
        f"a {name} cannot be joined; join a psycopg.Connection, or a SQLAlchemy Session or Connection on "
        "postgresql+psycopg://, and run asynchronous code's transaction in a thread"
    )


def _behind_sqlalchemy(target: Any) -> object:
    """What a SQLAlchemy object is about, seen by its shape: the package is not needed for it."""
    if hasattr(target, "sync_session") or hasattr(target, "sync_connection"):
        return target
    connection = getattr(target, "connection", None)
    if inspect.iscoroutinefunction(connection):
        return target
    if callable(connection):
        # A session, which begins by giving its connection.
        return _behind_sqlalchemy(connection())
    if callable(getattr(target, "in_transaction", None)) and not target.in_transaction():
        # Else its commit() would commit nothing of what is done behind its back.
        target.begin()
    return getattr(connection, "driver_connection", target)


def require_transaction(connection: AnyConnection) -> None:
    """Refuse a connection whose transaction we cannot be part of.

    Raises:
        ConfigurationError: It is closed, in no transaction that could be committed, or in a failed one.
    """
    status = connection.info.transaction_status
    if connection.closed or status in {TransactionStatus.INERROR, TransactionStatus.UNKNOWN}:
        raise ConfigurationError("the connection to join is closed, or its transaction has failed: roll it back first")
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise ConfigurationError("the connection to join is in pipeline mode: leave that first")
    if connection.autocommit and status == TransactionStatus.IDLE:
        raise ConfigurationError(
            "the connection to join is in autocommit mode and in no transaction: put `with connection.transaction():` "
            "around it"
        )
    if connection.info.encoding != "utf-8":
        raise ConfigurationError(
            f"the connection to join is encoded in {connection.info.encoding}; set its client_encoding to utf8"
        )


def identity(session: Session) -> Row:
    """What tells a database from all others."""
    return session.rows(_IDENTITY)[0]


def require_same_store(session: Session, expected: Row) -> None:
    """Refuse a connection to another database. Begins a transaction where the driver does so by itself.

    Raises:
        ConfigurationError: It is to another one.
    """
    with session.savepoint():
        found = identity(session)
    if found != expected:
        info = session.connection.info
        raise ConfigurationError(
            f"the connection to join is to {info.host}:{info.port}/{info.dbname}, which is another database than the "
            "engine's; join one to that"
        )
