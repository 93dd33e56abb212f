"""The errors of SQLite, as the package's own."""

import sqlite3

from eric_sse.exception import OutcomeUnknown, RepositoryError, StoreFull, StoreUnavailable

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def translate(error: Exception, path: str) -> RepositoryError:
    """What to raise, ``from`` it, for an error of the ``sqlite3`` module that came up while using ``path``."""
    # The low byte is the kind; the rest says more, and is in the text already.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return StoreUnavailable(
            f"{path}: {error}; another connection holds the write lock for longer than the busy timeout. Nothing was "
            "stored: try again, or open with a larger ?busy_timeout_ms="
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"{path}: {error}; nothing was stored: make room, or lower the channels' retention")
    if code in _DAMAGED:
        return RepositoryError(
            f"{path}: {error}; the file may be damaged, or is no SQLite database: keep it as it is, with the -wal file "
            "beside it, and restore a backup"
        )
    if code == sqlite3.SQLITE_READONLY:
        return RepositoryError(f"{path}: {error}; make the file and its folder writable for this user")
    if code == sqlite3.SQLITE_CANTOPEN:
        return RepositoryError(f"{path}: {error}; check that its folder exists and is writable for this user")
    if code == sqlite3.SQLITE_IOERR:
        return RepositoryError(f"{path}: {error}; reading or writing the disk failed, look at the system's log")
    if isinstance(error, UnicodeEncodeError):
        return RepositoryError(f"{path}: a text holds a lone surrogate at {error.start}, which UTF-8 cannot carry")
    return RepositoryError(f"{path}: {error}")


def translate_commit(error: Exception) -> Exception:
    """The same for what a COMMIT raised: after a failed write or sync nobody knows what a crash would bring back."""
    cause = error.__cause__
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR:
        return OutcomeUnknown(f"{error}; the message may have been stored or not")
    return error
