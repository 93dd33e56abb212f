"""Room in the write-ahead log, made before it is needed."""

import os
from contextlib import closing, suppress
from pathlib import Path

from eric_sse.engines.sqlite.database import Database
from eric_sse.engines.sqlite.session import Session
from eric_sse.exception import RepositoryError

# SQLite begins the log anew when a checkpoint has emptied it, which is due at 1,000 pages; and the last commit's.
_BYTES = 4_500_000
# Who publishes once is not to pay for the room, which takes as long as some fifty commits gain by it.
_EVERY_COMMITS = 50


class WalRoom:
    """Makes the log's file as long as it is going to be.

    A commit that makes the file longer has the disk store its length as well, which takes as long again. SQLite keeps
    the file through checkpoints, but the last to close the store removes it. What follows the last commit in it is not
    part of the log: https://www.sqlite.org/fileformat2.html#the_write_ahead_log

    Args:
        database: The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits = 0

    def make_if_due(self) -> None:
        """Make room before every so many commits, where it is not there, and nobody writes. Waits for nobody.

        Where it fails nothing is lost but time.
        """
        self._commits += 1
        if self._commits % _EVERY_COMMITS == 0:
            with suppress(OSError, RepositoryError):
                self._make()

    def _make(self) -> None:
        path = Path(self._database.wal_path)
        if path.stat().st_size >= _BYTES:
            return
        # In a transaction: no process writes to the log meanwhile. On a connection of its own, that need not wait.
        with closing(self._database.connect()) as connection, path.open("ab", buffering=0) as file:
            session = Session(connection, self._database.path)
            session.run("PRAGMA busy_timeout = 0")
            session.run("BEGIN IMMEDIATE")
            size = file.seek(0, os.SEEK_END)
            room = bytes(max(0, _BYTES - size))
            is_complete = False
            try:
                is_complete = file.write(room) == len(room)
                os.fsync(file.fileno())
            finally:
                if not is_complete:
                    file.truncate(size)
