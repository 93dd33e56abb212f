"""The errors of psycopg and of the server, as the package's own."""

from dataclasses import dataclass

import psycopg

from eric_sse.exception import ConfigurationError, EricError, RepositoryError, StoreFull, StoreUnavailable


class TransactionUndone(StoreUnavailable):
    """The server undid a transaction, or it went with its connection: nothing was stored, and it may be repeated."""


class ConnectionLost(TransactionUndone):
    """The connection broke before the commit."""


@dataclass(frozen=True)
class Place:
    """Which store an error is about.

    Args:
        server: Host, port and database, for people.
        schema: Where the tables are.
        user: Whom the server knows us as.
    """

    server: str
    schema: str = ""
    user: str = ""

    def __str__(self) -> str:
        return f"{self.server} schema {self.schema}" if self.schema else self.server


_UNDONE = "Nothing was stored: try again"
_KINDS: dict[str, tuple[type[RepositoryError], str]] = {
    "55P03": (
        StoreUnavailable,
        f"another transaction holds it for longer than ?lock_timeout_ms=. {_UNDONE}, or keep transactions short",
    ),
    "40P01": (
        TransactionUndone,
        f"{_UNDONE}, and take several channels in the order of their ids, in one append_group or one after the other",
    ),
    "40001": (TransactionUndone, f"somebody else was faster. {_UNDONE} from the beginning of the transaction"),
    "57014": (StoreUnavailable, f"{_UNDONE}, or raise the role's statement_timeout"),
    "25006": (
        StoreUnavailable,
        "nothing was stored: connect to the primary; target_session_attrs=read-write finds it among several hosts",
    ),
    "25P02": (RepositoryError, "roll back the transaction, or its savepoint, in which something failed before"),
    "25P03": (ConnectionLost, f"the transaction was idle for too long. {_UNDONE}"),
    "53100": (StoreFull, "nothing was stored: make room, or lower the channels' retention"),
    "53200": (StoreUnavailable, f"the server is out of memory. {_UNDONE} later"),
    "53300": (StoreUnavailable, "raise the server's max_connections, or lower ?pool_size="),
    "3F000": (RepositoryError, "was the schema dropped? Open the engine again to create it"),
    "42P01": (RepositoryError, "were the tables dropped? Open the engine again to create them"),
    "42703": (RepositoryError, "are these tables of another version of eric_sse? Open the engine again"),
    "54000": (RepositoryError, "the text is too long for an index: give a shorter key or id"),
}
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006"})
# What a server says while it starts or stops, or lets nobody else in for the moment.
_PASSING = ("starting up", "shutting down", "recovery mode", "too many", "remaining connection slots", "not yet accept")


def is_lost(error: Exception, connection: psycopg.Connection[object]) -> bool:
    """Whether the connection is gone with that error."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate in _LOST or connection.closed or _is_timeout(error)


def translate(error: Exception, place: Place, connection: psycopg.Connection[object]) -> RepositoryError:
    """What to raise, ``from`` it, for an error that came up while using ``connection``."""
    text = f"{place}: {str(error).strip() or type(error).__name__}"
    if is_lost(error, connection):
        return ConnectionLost(f"{text}; the connection was lost. {_UNDONE}")
    if isinstance(error, UnicodeEncodeError):
        return RepositoryError(f"{place}: a text holds a lone surrogate at {error.start}, which UTF-8 cannot carry")
    state = getattr(error, "sqlstate", None) or ""
    if state == "42501":
        return RepositoryError(f"{text}; {_grant(place)}")
    kind, advice = _KINDS.get(state, (RepositoryError, ""))
    return kind(f"{text}; {advice}" if advice else text)


def translate_connect(error: Exception, place: Place) -> EricError:
    """What to raise, ``from`` it, for a connection that could not be made."""
    text = f"{place}: {str(error).strip()}"
    if isinstance(error, psycopg.ProgrammingError) or ("invalid" in text and " value" in text):
        return ConfigurationError(f"{text}; correct the store's URL")
    if "FATAL" not in text or any(words in text for words in _PASSING):
        return StoreUnavailable(f"{text}; is the server running, and can it be reached?")
    return RepositoryError(f"{text}; correct the user, password or database in the store's URL, or the server's")


def _is_timeout(error: Exception) -> bool:
    # psycopg's wait() gives its own subclass, which is not public, to a reply that did not come in time.
    return type(error).__name__ == "_WaitTimeout"


def _grant(place: Place) -> str:
    schema, user = (f'"{name}"' for name in (place.schema, place.user))
    return (
        f"to use tables that are there: GRANT USAGE ON SCHEMA {schema} TO {user}, and GRANT SELECT, INSERT, UPDATE, "
        f"DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}; to create or upgrade them also GRANT CREATE ON SCHEMA "
        f"{schema}, or for a new schema GRANT CREATE ON DATABASE"
    )
