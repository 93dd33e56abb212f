"""Copies of a file in use."""

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from eric_sse.engines.sqlite.database import Database
from eric_sse.engines.sqlite.errors import translate
from eric_sse.exception import RepositoryError

_STEP_PAGES = 1000


def backup(database: Database, destination: Path) -> None:
    """Write a copy of the file, as it is now, to ``destination``. See `SqliteEngine.backup`."""
    if destination.exists():
        raise RepositoryError(f"{destination} exists; choose another name for the backup, or move that away")
    partial = destination.with_name(f"{destination.name}.{secrets.token_hex(4)}.partial")
    try:
        _copy(database, partial)
        # Unlike a rename, a link never replaces a file that came to be in the meantime.
        os.link(partial, destination)
    except OSError as error:
        raise RepositoryError(f"the backup {destination} cannot be written: {error}") from error
    except sqlite3.Error as error:
        raise translate(error, str(destination)) from error
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{partial}{suffix}").unlink(missing_ok=True)
    _sync(destination.parent)


def _copy(database: Database, partial: Path) -> None:
    # In a read transaction: else SQLite would begin again after each commit of others.
    with closing(sqlite3.connect(partial)) as target, database.committed_snapshot() as session:
        session.rows("SELECT count(*) FROM sqlite_master")
        session.connection.backup(target, pages=_STEP_PAGES)
    _sync(partial)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
