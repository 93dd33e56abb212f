"""The errors of SQLite, as the package's own."""

import sqlite3

from eric_sse.exception import OutcomeUnknown, RepositoryError, StoreFull, StoreUnavailable

_BUSY = (
    StoreUnavailable,
    "somebody else writes for longer than the busy timeout; nothing was stored: try again, or raise ?busy_timeout_ms=",
)
_DAMAGED = (
    RepositoryError,
    "the file may be damaged, or no SQLite database: keep it, with the -wal file beside it, and restore a backup",
)
_KINDS: dict[int, tuple[type[RepositoryError], str]] = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: (StoreFull, "nothing was stored: make room, or lower the channels' retention"),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_READONLY: (RepositoryError, "make the file and its folder writable for this user"),
    sqlite3.SQLITE_CANTOPEN: (RepositoryError, "check that its folder exists, and that this user may write to both"),
    sqlite3.SQLITE_IOERR: (RepositoryError, "reading or writing the disk failed; look at the system's log"),
}


def translate(error: Exception, path: str) -> RepositoryError:
    """What to raise, ``from`` it, for an error of the ``sqlite3`` module that came up while using ``path``."""
    if isinstance(error, UnicodeEncodeError):
        return RepositoryError(f"{path}: a text holds a lone surrogate at {error.start}, which UTF-8 cannot carry")
    kind, advice = _KINDS.get(_code(error), (RepositoryError, ""))
    return kind(f"{path}: {error}; {advice}" if advice else f"{path}: {error}")


def translate_commit(error: RepositoryError) -> RepositoryError:
    """The same for what a COMMIT raised: after a failed write or sync nobody knows what a crash would bring back."""
    if _code(error.__cause__) == sqlite3.SQLITE_IOERR:
        return OutcomeUnknown(f"{error}; what was being committed may have been stored or not")
    return error


def _code(error: BaseException | None) -> int:
    # The low byte is the kind. The rest says more, and is in the text already.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
